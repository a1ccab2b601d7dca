"""What is known about one connection, and from what its offsets may be learned.

An offset is the secondary's number minus the primary's.  The client has seen only the
primary's numbers, so its first acknowledgement of the guest's SYN names the primary's
initial number plus one.  That is certain under two conditions, both checked here:

- the segment answers *this* SYN (an old duplicate acknowledges something else);
- the guest sent nothing but its SYN (with Fast Open, or data released early, the client
  may have acknowledged more; then the offset is unknown and never guessed).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace

from colo_bridge.wire.packet import ACK, FIN, RST, SYN, TcpPacket, has_form_of_refusal
from colo_bridge.wire.serial import Serial, serial_difference, serial_is_after, serial_plus

FIRST_FLIGHT = 1 << 20
"""Octets that a client may have sent before its first acknowledgement is seen here."""

UNSEEN = Serial(-1)
"""Less than every serial: nothing was sent or acknowledged yet, or it is not known how far."""

_LARGEST_WINDOW = 1 << 30
"""RFC 7323 §2.3: nobody can acknowledge more than that at once."""


@dataclass(frozen=True, slots=True)
class GuestSyn:
    """The secondary's own SYN or SYN-ACK, as it was last sent."""

    sequence: Serial
    acknowledgment: Serial | None
    timestamp: Serial | None
    data_follows: bool
    """The guest sent octets behind its SYN before any acknowledgement."""


@dataclass(frozen=True, slots=True)
class KeptSegment:
    """A client segment that came before the secondary's SYN: a copy, with what stood in front of the frame."""

    frame: bytearray
    packet: TcpPacket
    partial_checksum: bool


class Phase(enum.Enum):
    CALLED = "the client sent a SYN, the secondary none yet"
    OPENING = "the secondary's SYN was seen, the offsets are to be learned"
    SETTLED = "the offsets are final"


@dataclass(slots=True, eq=False)
class Connection:
    egress_key: bytes
    """Addresses and ports as the guest sends them."""
    ingress_key: bytes
    """The same as the client sends them."""
    last_seen: float
    queued_at: float
    """When its table put it at the end of a queue, in the caller's seconds."""
    sequence_offset: int = 0
    timestamp_offset: int = 0
    flowing: bool = False
    """Established and nothing special expected: the fast path may take it."""
    phase: Phase = Phase.CALLED
    guest_syn: GuestSyn | None = None
    client_syn: Serial | None = None
    awaiting_guest: bool = False
    """A new SYN of the client was not answered yet."""
    confirmed: bool = False
    """Not only claimed by one side: the client acknowledged the SYN, or the guest sent more."""
    guest_finished: bool = False
    client_finished: bool = False
    reset: bool = False
    kept: list[KeptSegment] = field(default_factory=list)
    certain: bool = False
    """The offsets are right: learned at the opening, or zero because one guest is a copy of the other."""
    sent: Serial = UNSEEN
    """What follows the secondary's highest octet, in the primary's numbers."""
    by_octets: bool = True
    """Whether octets told `sent`; else it may be a probe of the client's window, which is numbered one too low."""
    acknowledged: Serial = UNSEEN
    """The client's newest acknowledgement, in the primary's numbers."""
    window: int = 0
    """The window field that came with it."""
    delivered: Serial = UNSEEN
    """What the guest acknowledged last: where its client has to go on."""
    answered_at: float = -math.inf
    """When the secondary last got an answer that no client sent."""

    @property
    def lasting(self) -> bool:
        """Established: neither half open nor closed."""
        closed = self.reset or (self.guest_finished and self.client_finished)
        return self.phase is Phase.SETTLED and self.confirmed and not closed

    @property
    def outrun(self) -> bool:
        """The client has acknowledged octets that the secondary is still to send."""
        seen = self.sent >= 0 and self.acknowledged >= 0
        return self.certain and seen and serial_is_after(self.acknowledged, self.sent)

    @property
    def acknowledgeable(self) -> Serial:
        """What may be acknowledged to the secondary, in the primary's numbers; UNSEEN: nothing is known."""
        if not self.certain or self.sent < 0:
            return UNSEEN
        return self.sent if self.outrun else self.acknowledged

    def settle_at_zero(self, *, certain: bool) -> None:
        """Both replicas have the same numbers, or what their difference is can't be known."""
        self.phase = Phase.SETTLED
        self.sequence_offset = self.timestamp_offset = 0
        self.awaiting_guest = False
        self.certain = certain
        self.sent = UNSEEN

    def inherit(self, sequence: int, timestamp: int) -> None:
        """Its client knows numbers that are so much lower than those of before."""
        self.sequence_offset += sequence
        self.timestamp_offset += timestamp
        # These were in the numbers of before.
        self.sent = self.acknowledged = UNSEEN

    def synchronise(self) -> None:
        self.settle_at_zero(certain=True)
        self.guest_syn = None

    # The guest's side.

    def guest_opens(self, packet: TcpPacket, timestamp: Serial | None) -> None:
        """A SYN of the secondary; its number decides whether it is a repetition or a new connection."""
        repeated = self.guest_syn is not None and self.guest_syn.sequence == packet.sequence
        if not repeated:
            self._begin_anew(packet)
        if self.phase is not Phase.SETTLED:
            self._remember(packet, timestamp)

    def _begin_anew(self, packet: TcpPacket) -> None:
        self.phase = Phase.OPENING
        self.guest_syn = None
        self.sequence_offset = self.timestamp_offset = 0
        self.certain = False
        self.sent = self.acknowledged = self.delivered = UNSEEN
        self.confirmed = self.guest_finished = self.client_finished = self.reset = False
        if not packet.flags & ACK:
            # The guest calls: what the client's number will be is not known yet.
            self.client_syn = None

    def _remember(self, packet: TcpPacket, timestamp: Serial | None) -> None:
        data_before = self.guest_syn is not None and self.guest_syn.data_follows
        self.guest_syn = GuestSyn(
            sequence=packet.sequence,
            acknowledgment=packet.acknowledgment if packet.flags & ACK else None,
            timestamp=timestamp,
            data_follows=data_before or packet.payload < packet.end,
        )

    def guest_sends(self, packet: TcpPacket) -> None:
        """Any other segment of the secondary, except a RST."""
        if self.phase is Phase.SETTLED:
            # The guest did not take the client's RST for one.
            self.reset = False
            self.confirmed = True
            self.guest_finished |= bool(packet.flags & FIN)
        elif self.guest_syn is not None and (packet.payload < packet.end or packet.flags & FIN):
            self.guest_syn = replace(self.guest_syn, data_follows=True)

    def guest_refuses(self, packet: TcpPacket) -> bool:
        """Whether a segment of the secondary refuses the client's SYN: its number 0 is in nobody's numbers."""
        if self.client_syn is None or not has_form_of_refusal(packet):
            return False
        return 0 < serial_difference(packet.acknowledgment, self.client_syn) <= FIRST_FLIGHT

    def guest_reaches(self, following: Serial, has_octets: bool) -> bool:
        """Take note of the number behind a segment of the secondary; whether the segment had new octets."""
        if self.sent >= 0 and not serial_is_after(following, self.sent):
            return False
        self.by_octets = has_octets
        self.sent = following
        return True

    # The client's side.

    def client_opens(self, packet: TcpPacket) -> None:
        """A SYN of the client; the guest's answer decides what it means."""
        if packet.sequence == self.client_syn:
            return
        self.client_syn = packet.sequence
        self.awaiting_guest = not self._guest_calls()

    def _guest_calls(self) -> bool:
        """The guest's SYN was no answer: two SYNs that cross are a simultaneous open (RFC 9293 §3.5)."""
        return self.phase is Phase.OPENING and self.guest_syn is not None and self.guest_syn.acknowledgment is None

    def client_sends(self, packet: TcpPacket) -> None:
        """Any segment of the client that is delivered."""
        self.client_finished |= bool(packet.flags & FIN)
        self.reset |= bool(packet.flags & RST)
        if packet.flags & SYN:
            self.client_syn = packet.sequence

    def client_acknowledges(self, acknowledgment: Serial, window: int) -> int:
        """Take note of an acknowledgement; by how much it exceeds what the secondary has sent."""
        excess = 0
        if self.sent >= 0 and serial_is_after(acknowledgment, self.sent):
            excess = serial_difference(acknowledgment, self.sent)
            if excess == 1 and not self.by_octets:
                # It answers a probe: lowered, it would not open the window, and the guest would probe for ever.
                self.sent, self.by_octets, excess = acknowledgment, True, 0
            if excess > _LARGEST_WINDOW:
                # Of another connection; a stack discards it as well.
                return 0
        if self.acknowledged < 0 or not serial_is_after(self.acknowledged, acknowledgment):
            self.acknowledged = acknowledgment
            self.window = window
        return excess if self.certain else 0

    def is_early(self, packet: TcpPacket) -> bool:
        """Whether this client segment belongs to a connection that the secondary has yet to open."""
        if not self.awaiting_guest:
            return False
        if self.phase is Phase.CALLED:
            return bool(self.kept) or packet.flags & (ACK | RST) == ACK
        # The numbers of an earlier connection still hold for everything else.
        return self._follows_client_syn(packet)

    def answers_guest_syn(self, packet: TcpPacket) -> bool:
        """Whether the acknowledgement of this client segment stands for the guest's SYN."""
        if self.guest_syn is None or not packet.flags & ACK:
            return False
        if packet.flags & SYN:
            return self.client_syn in (None, packet.sequence)
        if self.guest_syn.acknowledgment is not None:
            return serial_difference(packet.sequence, self.guest_syn.acknowledgment) <= FIRST_FLIGHT
        # A refusal; any other segment without a SYN would be of an earlier connection.
        return bool(packet.flags & RST) or self._follows_client_syn(packet)

    def _follows_client_syn(self, packet: TcpPacket) -> bool:
        return self.client_syn is not None and 0 < serial_difference(packet.sequence, self.client_syn) <= FIRST_FLIGHT

    def learn(self, packet: TcpPacket, echo: Serial | None) -> bool:
        """Take the offsets from the segment that answers the guest's SYN; False: they can't be known."""
        assert self.guest_syn is not None
        self.settle_at_zero(certain=not self.guest_syn.data_follows)
        self.confirmed = True
        # Segments of an earlier connection may have pretended otherwise.
        self.client_finished = self.reset = False
        if self.guest_syn.data_follows:
            return False
        self.sequence_offset = serial_difference(serial_plus(self.guest_syn.sequence, 1), packet.acknowledgment)
        if echo is not None and self.guest_syn.timestamp is not None:
            self.timestamp_offset = serial_difference(self.guest_syn.timestamp, echo)
        self.sent = self.acknowledged = packet.acknowledgment
        return True
