"""The slow path: all segments that have an unusual form, or that change what is known.

Three kinds of segments are never delivered as they came: those ahead of the secondary's SYN are
kept, acknowledgements of what the secondary has not sent are lowered to what it has, and what
repeats octets that the client has acknowledged is answered in its name (`cure.py`).
"""

from __future__ import annotations

from colo_bridge.rewrite.addresses import GuestAddresses
from colo_bridge.rewrite.connection import UNSEEN, Connection, KeptSegment, Phase
from colo_bridge.rewrite.cure import answer, lacks_acknowledgment
from colo_bridge.rewrite.fragment import SplitHeader, segment_of
from colo_bridge.rewrite.inheritance import Inheritance, Offsets
from colo_bridge.rewrite.limits import RewriteCounters, RewriteLimits
from colo_bridge.rewrite.neighbours import Neighbours
from colo_bridge.rewrite.prompting import Prompt, newest
from colo_bridge.rewrite.table import ConnectionTable
from colo_bridge.rewrite.translate import number_at, to_primary, to_secondary
from colo_bridge.wire.flow import address_bytes, reversed_connection
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.options import Options, read_options
from colo_bridge.wire.packet import ACK, FIN, RST, SYN, MalformedPacket, NotCompared, Parsed, TcpPacket
from colo_bridge.wire.serial import Serial, first_position, position_near, serial_plus

# What opens, ends or makes a connection certain; everything else only carries on.
_DECISIVE = SYN | FIN | RST | ACK


class SlowPath:
    """Whatever the fast paths leave; owns what is known about the connections."""

    def __init__(self, limits: RewriteLimits, header: int, cures: bool) -> None:
        self.ready: list[bytearray] = []
        self.counters = RewriteCounters()
        self.table = ConnectionTable(limits)
        self.neighbours = Neighbours(limits, self.counters)
        self.addresses = GuestAddresses(limits, self.counters)
        self.inheritance = Inheritance(limits, self.counters)
        self._limits = limits
        self._header = header
        self._cures = cures
        self._kept = 0
        self._copied = False
        """The secondary was made a copy of the primary: connections not seen opening have equal numbers."""

    def synchronised(self) -> None:
        self.counters.synchronisations += 1
        self._copied = True
        for connection in self.table:
            self.ready.extend(kept.frame for kept in self._take_kept(connection))
            connection.synchronise()
            if not connection.flowing:
                self.table.sort(connection)

    def tick(self, now: float) -> None:
        for connection in self.table.expire(now):
            self.counters.expired += 1
            self._drop_kept(connection)
        self.neighbours.expire(now)
        self.addresses.expire(now)

    # What a failover takes over, and hands on.

    def offsets(self) -> list[Offsets]:
        moved = (each for each in self.table if each.sequence_offset or each.timestamp_offset)
        return [Offsets(each.egress_key, each.sequence_offset, each.timestamp_offset) for each in moved]

    def is_inherited(self, frame: bytearray, start: int, end: int) -> bool:
        try:
            packet = segment_of(parse_frame(frame, start, end))
        except MalformedPacket:
            return False
        return packet is not None and packet.connection in self.inheritance

    def take_over(self, now: float) -> None:
        for offsets in self.inheritance.take():
            connection = self.table.by_egress.get(offsets.connection)
            if connection is None:
                connection = self._add(offsets.connection, now)
                connection.settle_at_zero(certain=True)
            connection.confirmed = True
            connection.inherit(offsets.sequence, offsets.timestamp)
            self.table.sort(connection)

    def prompts(self, most: int) -> list[Prompt]:
        prompts = []
        for connection in newest(self.table, most):
            size = address_bytes(connection.egress_key)
            client = self.neighbours.find(connection.egress_key[size : 2 * size])
            if client is not None and self.addresses.card:
                prompts.append(Prompt(connection, self.addresses.card, client.hardware))
        return prompts

    # From the guest.

    def egress(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> Parsed:
        try:
            parsed = parse_frame(frame, start, end)
            packet = segment_of(parsed)
        except MalformedPacket as error:
            self._count_refusal(error)
            raise
        if packet is not None:
            self._from_guest(frame, start, packet, packet is parsed, partial_checksum, now)
        elif isinstance(parsed, NotCompared):
            self.addresses.hear(frame, start, end, now)
            self._guest_asks(frame, start, end)
        else:
            self.addresses.sample(frame, start, end, now)
        return parsed

    def _guest_asks(self, frame: bytearray, start: int, end: int) -> None:
        """What is not compared does not get to the network, so nobody else answers it."""
        answered = self.neighbours.answer(frame, start, end)
        if answered is not None:
            self.ready.append(bytearray(self._header) + answered)

    def _from_guest(
        self, frame: bytearray, start: int, packet: TcpPacket, whole: bool, partial_checksum: bool, now: float
    ) -> None:
        options = self._options(frame, packet)
        connection = self.table.by_egress.get(packet.connection)
        # Fast path: an established connection that carries on has nothing to be learned from.
        carries_on = connection is not None and connection.flowing and packet.flags & _DECISIVE == ACK
        if not carries_on:
            self.addresses.hear(frame, start, packet.end, now)
            connection = self._guest_speaks(connection, frame, packet, options, now)
        if connection is None:
            return
        silence, connection.last_seen = now - connection.last_seen, now
        if packet.flags & ACK:
            connection.delivered = packet.acknowledgment
        moved = connection.sequence_offset or connection.timestamp_offset
        if moved and (carries_on or not connection.guest_refuses(packet)):
            to_primary(frame, packet, options, connection, partial_checksum)
        if not whole:
            # Where the segment ends is told by a later fragment.
            connection.sent = UNSEEN
        elif not packet.flags & RST:
            self._guest_progresses(connection, frame, start, packet, options, silence, now)
        if not carries_on:
            self.table.sort(connection)

    def _guest_progresses(
        self,
        connection: Connection,
        frame: bytearray,
        start: int,
        packet: TcpPacket,
        options: Options,
        silence: float,
        now: float,
    ) -> None:
        controls = bool(packet.flags & SYN) + bool(packet.flags & FIN)
        following = serial_plus(packet.sequence, packet.end - packet.payload + controls)
        new = connection.guest_reaches(following, following != packet.sequence)
        if self._cures and lacks_acknowledgment(connection, packet, following, new, silence, now):
            connection.answered_at = now
            self.counters.repeated_acknowledgments += 1
            self.ready.append(bytearray(self._header) + answer(frame, start, packet, options, connection))

    def _guest_speaks(
        self, connection: Connection | None, frame: bytearray, packet: TcpPacket, options: Options, now: float
    ) -> Connection | None:
        """Take note of the secondary's segment; None where no connection results from it."""
        if packet.flags & RST:
            connection = self._guest_resets(connection)
        elif packet.flags & SYN:
            connection = connection or self._add(packet.connection, now)
            self.inheritance.ends(packet.connection)
            connection.guest_opens(packet, _timestamp(frame, options))
        else:
            if connection is None or connection.phase is Phase.CALLED:
                connection = self._never_seen_opening(connection, packet.connection, now)
            connection.guest_sends(packet)
        if connection is not None:
            self._guest_answered(connection, now)
        return connection

    def _guest_resets(self, connection: Connection | None) -> Connection | None:
        if connection is None:
            return None
        self._drop_kept(connection)
        if connection.phase is Phase.CALLED:
            # The guest refuses the call: nothing is left to be remembered.
            self.table.remove(connection)
            return None
        connection.reset = True
        return connection

    def _guest_answered(self, connection: Connection, now: float) -> None:
        """Whatever the guest sent settles what waited for it."""
        connection.awaiting_guest = False
        kept = self._take_kept(connection)
        if not kept:
            return
        if connection.phase is Phase.OPENING:
            self._learn_from_kept(connection, kept)
        connection.answered_at = now
        for segment in kept:
            self._from_client(segment.frame, connection, segment.packet, segment.partial_checksum)
            self.ready.append(segment.frame)

    def _learn_from_kept(self, connection: Connection, kept: list[KeptSegment]) -> None:
        """The lowest acknowledgement is the handshake's, should the network have reordered them."""
        answers = [segment for segment in kept if connection.answers_guest_syn(segment.packet)]
        if answers:
            near = first_position(answers[0].packet.acknowledgment)
            lowest = min(answers, key=lambda segment: position_near(segment.packet.acknowledgment, near))
            self._learn(connection, lowest.packet, _echo(lowest.frame, self._options(lowest.frame, lowest.packet)))

    # From the client.

    def ingress(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> bool:
        try:
            packet = segment_of(parse_frame(frame, start, end))
        except MalformedPacket as error:
            self._count_refusal(error)
            return False
        if packet is None:
            self.neighbours.hear(frame, start, end, now)
            return True
        connection = self.table.by_ingress.get(packet.connection)
        # Fast path: as on egress.
        if connection is not None and connection.flowing and packet.flags & _DECISIVE == ACK:
            connection.last_seen = now
            self._translate(frame, connection, packet, self._options(frame, packet), partial_checksum)
            return True
        self.neighbours.hear(frame, start, end, now)
        connection = connection or self._called(packet, now)
        if connection is None:
            return True
        connection.last_seen = now
        if packet.flags & (SYN | ACK) == SYN:
            connection.client_opens(packet)
        elif connection.is_early(packet):
            self._keep(connection, frame, start, end, partial_checksum)
            return False
        else:
            self._from_client(frame, connection, packet, partial_checksum)
        self.table.sort(connection)
        return True

    def _called(self, packet: TcpPacket, now: float) -> Connection | None:
        """The connection that the first segment of a client begins, or is taken to belong to."""
        if packet.flags & RST:
            return None
        key = reversed_connection(packet.connection)
        if not packet.flags & SYN:
            return self._never_seen_opening(None, key, now)
        connection = self._add(key, now)
        # A SYN-ACK answers a SYN of the primary; the secondary's is still to come.
        connection.client_opens(packet)
        return connection

    def _from_client(self, frame: bytearray, connection: Connection, packet: TcpPacket, partial_checksum: bool) -> None:
        options = self._options(frame, packet)
        if connection.phase is Phase.OPENING and packet.flags & ACK:
            if connection.answers_guest_syn(packet):
                self._learn(connection, packet, _echo(frame, options))
            else:
                self.counters.stale += 1
        connection.client_sends(packet)
        if packet.flags & ACK and connection.phase is Phase.SETTLED:
            self._translate(frame, connection, packet, options, partial_checksum)

    def _translate(
        self, frame: bytearray, connection: Connection, packet: TcpPacket, options: Options, partial_checksum: bool
    ) -> None:
        excess = 0 if packet.flags & RST else connection.client_acknowledges(packet.acknowledgment, packet.window)
        if excess:
            excess = self._clamp(connection, excess)
        if excess or connection.sequence_offset or connection.timestamp_offset:
            self.counters.translated_sack += bool(options.sack_edges)
            to_secondary(frame, packet, options, connection, excess, partial_checksum)

    def _clamp(self, connection: Connection, excess: int) -> int:
        """By how much the acknowledgement is lowered: a stack takes none of what it has not sent."""
        if not self._cures:
            return 0
        self.counters.clamped_acknowledgments += 1
        self.table.sort(connection)
        return excess

    def _learn(self, connection: Connection, packet: TcpPacket, echo: Serial | None) -> None:
        if connection.learn(packet, echo):
            self.counters.learned += 1
            stamped = connection.guest_syn is not None and connection.guest_syn.timestamp is not None
            # A SYN-ACK without the option declines it (RFC 7323 §3.2); afterwards it may not be missing.
            self.counters.timestamp_unlearned += stamped and echo is None and not packet.flags & (SYN | RST)
        else:
            self.counters.unlearnable += 1

    def _keep(self, connection: Connection, frame: bytearray, start: int, end: int, partial_checksum: bool) -> None:
        limits = self._limits
        if self._kept >= limits.early_packets or len(connection.kept) >= limits.early_packets_per_connection:
            self.counters.early_overflow += 1
            return
        copy = frame[start - self._header : end]
        packet = segment_of(parse_frame(copy, self._header, len(copy)))
        assert packet is not None
        connection.kept.append(KeptSegment(copy, packet, partial_checksum))
        self._kept += 1
        self.counters.early_kept += 1

    # What both directions need.

    def _count_refusal(self, error: MalformedPacket) -> None:
        if isinstance(error, SplitHeader):
            self.counters.split_headers += 1
        else:
            self.counters.malformed += 1

    def _options(self, frame: bytearray, packet: TcpPacket) -> Options:
        options = read_options(frame, packet.tcp + 20, packet.payload)
        self.counters.malformed_options += options.malformed
        return options

    def _add(self, egress_key: bytes, now: float) -> Connection:
        connection, evicted = self.table.add(egress_key, now)
        if evicted is not None:
            self.counters.evicted += 1
            self._drop_kept(evicted)
        return connection

    def _never_seen_opening(self, connection: Connection | None, egress_key: bytes, now: float) -> Connection:
        """It is older than the rewriter, or its opening was missed: nothing can be known of its offsets."""
        self.counters.unknown += 1
        connection = connection or self._add(egress_key, now)
        connection.settle_at_zero(certain=self._copied)
        return connection

    def _take_kept(self, connection: Connection) -> list[KeptSegment]:
        kept, connection.kept = connection.kept, []
        self._kept -= len(kept)
        return kept

    def _drop_kept(self, connection: Connection) -> None:
        self.counters.early_dropped += len(self._take_kept(connection))


def _timestamp(frame: bytearray, options: Options) -> Serial | None:
    return number_at(frame, options.timestamps[-1].value) if options.timestamps else None


def _echo(frame: bytearray, options: Options) -> Serial | None:
    return number_at(frame, options.timestamps[-1].echo) if options.timestamps else None
