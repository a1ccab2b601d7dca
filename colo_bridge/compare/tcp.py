"""One TCP connection: its packets, and what a checkpoint makes of it."""

from __future__ import annotations

from colo_bridge.compare.abort import Aborts
from colo_bridge.compare.item import Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.segment import Segment
from colo_bridge.wire.packet import ACK, RST, SYN, TcpPacket
from colo_bridge.wire.serial import Position, Serial, first_position, position_near, serial_at


class TcpConnection(Aborts):
    """Two sides that stand in the same connection; `generation` orders those of one flow."""

    __slots__ = ("__weakref__", "epoch", "generation")

    def __init__(self, flow: bytes, ledger: Ledger, generation: int) -> None:
        super().__init__(flow, ledger)
        self.generation = generation
        self.epoch = ledger.epoch

    # Packets.

    def from_primary(self, packet: TcpPacket, token: Token, now: float) -> None:
        flags = packet.flags
        # Fast path: the connection is being compared, and this segment is neither SYN nor RST.
        cursor = self.cursor
        if cursor is None or flags & (SYN | RST) or not self.primary_followed:
            self._from_primary_slowly(packet, token, now)
            return
        ack = self.floor.primary_ack(packet)
        if not self._same_as_waiting(packet, cursor, ack, token):
            self._primary_octets(Segment(packet, position_near(packet.sequence, cursor), ack, token, self, now))

    def _from_primary_slowly(self, packet: TcpPacket, token: Token, now: float) -> None:
        if self.is_refusal_of_primary(packet):
            segment = Segment(packet, self._nearest(packet.sequence), None, token, self, now)
            self._primary_refusal(segment, packet.acknowledgment)
            return
        ack = self.floor.primary_ack(packet)
        segment = Segment(packet, self._position(packet.sequence), ack, token, self, now)
        if packet.flags & RST:
            self._primary_reset(segment)
        elif packet.flags & SYN:
            self._primary_syn(segment)
        else:
            if not self.primary_followed:
                self._primary_follows(segment.start)
            self._primary_octets(segment)

    def from_secondary(self, packet: TcpPacket, now: float) -> None:
        # Fast path: the connection is being compared, and this segment is neither SYN nor RST.
        cursor = self.cursor
        if cursor is None or packet.flags & (SYN | RST) or not self.secondary_followed:
            self._from_secondary_slowly(packet, now)
            return
        if packet.flags & ACK:
            self.floor.secondary_acknowledges(packet)
        if not self._same_as_head(packet, cursor):
            self._secondary_octets(Segment(packet, position_near(packet.sequence, cursor), None, None, self, now))
        if self.floor.above:
            self.floor.release()

    def _from_secondary_slowly(self, packet: TcpPacket, now: float) -> None:
        if self.is_refusal_of_secondary(packet):
            segment = Segment(packet, self._nearest(packet.sequence), None, None, self, now)
            self._secondary_refusal(segment, packet.acknowledgment)
            return
        ack = self.floor.secondary_acknowledges(packet) if packet.flags & ACK else None
        segment = Segment(packet, self._position(packet.sequence), ack, None, self, now)
        if packet.flags & RST:
            self._secondary_reset(segment)
        elif packet.flags & SYN:
            self._secondary_syn(segment)
        else:
            if not self.secondary_followed:
                self._secondary_follows(segment.start)
            self._secondary_octets(segment)
        self.floor.release()

    def _position(self, number: Serial) -> Position:
        """Where a number of this connection stands; the first one tells where that is."""
        position = self._nearest(number)
        if self.near is None:
            self.near = position
        return position

    def _nearest(self, number: Serial) -> Position:
        near = self.cursor if self.cursor is not None else self.near
        return first_position(number) if near is None else position_near(number, near)

    # From the connection before, in which a side refused what the other one opens here by a SYN.

    def takes_secondary_on(self, syn: TcpPacket, before: TcpConnection) -> bool:
        """Whether the secondary did, and so stands here from now on."""
        refused, refusals = syn.acknowledgment, before.refusals
        if not syn.flags & ACK or refusals is None or refused not in refusals.secondary:
            return False
        refusals.secondary.remove(refused)
        self._refusals().secondary.append(refused)
        return True

    def takes_primary_on(self, syn: TcpPacket, before: TcpConnection) -> bool:
        """Whether the primary did."""
        refused, refusals = syn.acknowledgment, before.refusals
        taken = refusals.take(refused) if syn.flags & ACK and refusals is not None else []
        for segment in taken:
            segment.owner = self
            self._refusals().held[segment] = refused
        return bool(taken)

    # The checkpoint, and the table's questions.

    def renew(self, synchronised: bool) -> None:
        """A checkpoint is done. `synchronised`: the secondary now is the primary."""
        self.epoch = self.ledger.epoch
        if not synchronised and self.floor.lost_input() and self.ledger.settings.pass_unsynchronised:
            self.mark_unsynchronised()
        resets = [segment for resets in self._all_resets for segment in resets.take_held()]
        for segment in self.take_held([*self._take_primary_syns(), *resets]):
            self.ledger.release(segment)
        self._forget_secondary_syn()
        self.go_on_from_primary_end()
        self.syn_matched = bool(self.primary_isns)
        if synchronised:
            self._synchronise()

    def go_on(self) -> None:
        """What waits of the primary is given up; what the secondary sent behind it is still to be compared."""
        uncompared, self.uncompared = self.uncompared, []
        end = self.secondary_end
        self.renew(False)
        self.uncompared, self.secondary_end = uncompared, end
        if self.cursor is not None:
            self._decide_below_cursor()

    def _synchronise(self) -> None:
        self.secondary_followed = self.primary_followed
        self.secondary_isns = tuple(map(serial_at, self.primary_isns))
        self.secondary_syn_ack = self.primary_syn_ack
        self.secondary_options = self.primary_options
        self.floor.synchronise()
        self.secondary_end = self.primary_end
        self.unsynchronised = False
        self.ledger.unsynchronised.discard(self)

    def mark_unsynchronised(self) -> None:
        self.unsynchronised = True
        self.ledger.unsynchronised.add(self)

    def note_primary(self, packet: TcpPacket) -> None:
        """Keep track of a connection that is not compared, for the checkpoint that synchronises it."""
        if packet.flags & RST:
            return  # it may carry an explanation, which is no octet of the stream, and acknowledge another SYN
        self.floor.primary_ack(packet)
        segment = Segment(packet, self._position(packet.sequence), None, None, self, 0.0)
        if segment.end == segment.start:
            return  # a keep-alive stands below the next octet
        if self.primary_end is None or segment.end > self.primary_end:
            self.primary_end = self.near = segment.end

    def secondary_left(self) -> None:
        """The secondary has moved on to a newer connection: what it sent in this one is of no use."""
        self._forget_uncompared()
        self._forget_secondary_syn()

    @property
    def idle(self) -> bool:
        """Nothing of this connection waits."""
        return not (
            self.unverified
            or self.floor.above
            or self.uncompared
            or self.never_compared
            or self.primary_syns
            or self.secondary_syn is not None
            or any(resets.held for resets in self._all_resets)
        )

    @property
    def closing(self) -> bool:
        """Half open, or both sides have ended it as far as can be seen from here: the first to be evicted."""
        return self.finished or not self.primary_followed

    @property
    def short_lived(self) -> bool:
        """Whether silence soon means that it is over; a server may wait for long behind its SYN-ACK."""
        return self.finished or not (self.primary_followed or self.syn_matched)
