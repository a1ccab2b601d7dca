"""The rewriter: one secondary guest's frames in both directions.

Almost every packet belongs to a known, established connection and has one of two header
forms; those take a fast path of one `unpack_from` and one `pack_into`.  Everything else,
and everything that changes what is known, goes the slow way through `Connection`.

Segments protected by TCP-MD5 or TCP-AO (RFC 2385, RFC 5925) can't be rewritten: the
secondary discards them, and such connections diverge.
"""

from __future__ import annotations

import struct

from colo_bridge.rewrite.connection import Connection, KeptSegment, Phase
from colo_bridge.rewrite.limits import RewriteCounters, RewriteLimits
from colo_bridge.rewrite.table import ConnectionTable
from colo_bridge.rewrite.translate import number_at, to_primary, to_secondary
from colo_bridge.wire.flow import reversed_connection
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.options import Options, read_options
from colo_bridge.wire.packet import ACK, ETHERNET_HEADER, RST, SYN, MalformedPacket, Parsed, TcpPacket
from colo_bridge.wire.serial import Serial, first_position, position_near, serial_plus

# From the Ethernet type on: type with IP version and header length, total length, fragment with
# TTL and protocol, connection, then the TCP header: sequence, acknowledgment, data offset with
# flags and window, checksum.
_PLAIN = struct.Struct("!3sxHxxIxx12sIIIH")
# The same, then the urgent pointer with the beginning of the options, TSval, TSecr.
_STAMPED = struct.Struct("!3sxHxxIxx12sIIIH6sII")
_ETHERTYPE_AT, _TCP_AT = 12, 34
_PLAIN_FRAME, _STAMPED_FRAME = 54, 66
_PLAIN_PACKET, _STAMPED_PACKET = 40, 52
_IPV4_WITHOUT_OPTIONS = b"\x08\x00\x45"
# Not a fragment, any TTL, TCP.
_WHOLE_MASK, _WHOLE_TCP = 0x3FFF00FF, 6
# No urgent pointer; NOP, NOP, timestamps of ten bytes.
_TIMESTAMPS_ALONE = b"\x00\x00\x01\x01\x08\x0a"
# Data offset with SYN, RST, FIN and ACK: the forms of an established connection.
_FORM_MASK, _PLAIN_FORM, _STAMPED_FORM = 0xF0170000, 0x50100000, 0x80100000
_FLAGS_SHIFT, _FLAGS_MASK, _WINDOW_MASK = 16, 0x1FF, 0xFFFF

# Written from the sequence number on (egress) or from the acknowledgment number on (ingress).
_EGRESS_PLAIN, _EGRESS_STAMPED = struct.Struct("!IIIH"), struct.Struct("!IIIH6sI")
_INGRESS_PLAIN, _INGRESS_STAMPED = struct.Struct("!IIH"), struct.Struct("!IIH6sII")
_MODULUS = 0xFFFF


class Rewriter:
    """Rewrites frames in place; does no I/O and reads no clock.

    `header`: bytes in front of every frame that belong to it (a virtio-net header has 12).  They
    are kept with a frame that can't be delivered yet.  `ready` holds such frames, header in front
    and already rewritten, once they may be delivered: the caller takes them out after each
    `egress` and after `synchronised`.
    """

    def __init__(self, limits: RewriteLimits, header: int = 12) -> None:
        self.ready: list[bytearray] = []
        self.counters = RewriteCounters()
        self._limits = limits
        self._header = header
        self._kept = 0
        self._table = ConnectionTable(limits)
        self._by_egress = self._table.by_egress
        self._by_ingress = self._table.by_ingress

    @property
    def connections(self) -> int:
        """Connections known now."""
        return len(self._table)

    def egress(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> Parsed:
        """Rewrite the secondary's frame in `frame[start:end]`; raises MalformedPacket.

        `now` is in seconds of a clock that never goes back.  The packet returned has the new sequence number.
        """
        # Fast path: untagged IPv4 and TCP without options but NOP, NOP, timestamps; established.
        if end - start >= _STAMPED_FRAME:
            # fmt: off
            (prefix, total, whole, key, sequence, acknowledgment, bits, checksum,
             options, value, _) = _STAMPED.unpack_from(frame, start + _ETHERTYPE_AT)
            # fmt: on
            connection = self._by_egress.get(key)
            if (
                connection is not None
                and connection.flowing
                and options == _TIMESTAMPS_ALONE
                and bits & _FORM_MASK == _STAMPED_FORM
                and prefix == _IPV4_WITHOUT_OPTIONS
                and whole & _WHOLE_MASK == _WHOLE_TCP
                and _STAMPED_PACKET <= total <= end - start - ETHERNET_HEADER
            ):
                connection.last_seen = now
                tcp = start + _TCP_AT
                moved = serial_plus(sequence, -connection.sequence_offset)
                moved_value = serial_plus(value, -connection.timestamp_offset)
                if not partial_checksum:
                    checksum = (checksum + sequence - moved + value - moved_value) % _MODULUS
                _EGRESS_STAMPED.pack_into(frame, tcp + 4, moved, acknowledgment, bits, checksum, options, moved_value)
                ip = start + ETHERNET_HEADER
                flags, window = bits >> _FLAGS_SHIFT & _FLAGS_MASK, bits & _WINDOW_MASK
                return TcpPacket(key, frame, ip, tcp, tcp + 32, ip + total, moved, acknowledgment, flags, window)
        return self._egress_plain(frame, start, end, partial_checksum, now)

    def ingress(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> bool:
        """Rewrite the client's frame in `frame[start:end]` for the secondary; False: don't deliver it (now).

        `frame[start - header:start]` is its header, kept with it where that is needed.
        """
        # Fast path: as on egress.
        if end - start >= _STAMPED_FRAME:
            # fmt: off
            (prefix, total, whole, key, _, acknowledgment, bits, checksum,
             options, value, echo) = _STAMPED.unpack_from(frame, start + _ETHERTYPE_AT)
            # fmt: on
            connection = self._by_ingress.get(key)
            if (
                connection is not None
                and connection.flowing
                and options == _TIMESTAMPS_ALONE
                and bits & _FORM_MASK == _STAMPED_FORM
                and prefix == _IPV4_WITHOUT_OPTIONS
                and whole & _WHOLE_MASK == _WHOLE_TCP
                and _STAMPED_PACKET <= total <= end - start - ETHERNET_HEADER
            ):
                connection.last_seen = now
                moved = serial_plus(acknowledgment, connection.sequence_offset)
                moved_echo = serial_plus(echo, connection.timestamp_offset)
                if not partial_checksum:
                    checksum = (checksum + acknowledgment - moved + echo - moved_echo) % _MODULUS
                _INGRESS_STAMPED.pack_into(
                    frame, start + _TCP_AT + 8, moved, bits, checksum, options, value, moved_echo
                )
                return True
        return self._ingress_plain(frame, start, end, partial_checksum, now)

    def synchronised(self) -> None:
        """The secondary is a copy of the primary now: all offsets are zero, no opening is remembered."""
        self.counters.synchronisations += 1
        for connection in self._table:
            self.ready.extend(kept.frame for kept in self._take_kept(connection))
            connection.synchronise()
            if not connection.flowing:
                self._table.sort(connection)

    def tick(self, now: float) -> None:
        """Forget what was silent for too long; bounded work, to be called about once a second."""
        for connection in self._table.expire(now):
            self.counters.expired += 1
            self._drop_kept(connection)

    # The second form of established connections.

    def _egress_plain(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> Parsed:
        # Fast path: the same without any option, for clients that don't use timestamps.
        if end - start >= _PLAIN_FRAME:
            prefix, total, whole, key, sequence, acknowledgment, bits, checksum = _PLAIN.unpack_from(
                frame, start + _ETHERTYPE_AT
            )
            connection = self._by_egress.get(key)
            if (
                connection is not None
                and connection.flowing
                and bits & _FORM_MASK == _PLAIN_FORM
                and prefix == _IPV4_WITHOUT_OPTIONS
                and whole & _WHOLE_MASK == _WHOLE_TCP
                and _PLAIN_PACKET <= total <= end - start - ETHERNET_HEADER
            ):
                connection.last_seen = now
                tcp = start + _TCP_AT
                moved = serial_plus(sequence, -connection.sequence_offset)
                if not partial_checksum:
                    checksum = (checksum + sequence - moved) % _MODULUS
                _EGRESS_PLAIN.pack_into(frame, tcp + 4, moved, acknowledgment, bits, checksum)
                ip = start + ETHERNET_HEADER
                flags, window = bits >> _FLAGS_SHIFT & _FLAGS_MASK, bits & _WINDOW_MASK
                return TcpPacket(key, frame, ip, tcp, tcp + 20, ip + total, moved, acknowledgment, flags, window)
        return self._egress_slowly(frame, start, end, partial_checksum, now)

    def _ingress_plain(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> bool:
        # Fast path: as on egress.
        if end - start >= _PLAIN_FRAME:
            prefix, total, whole, key, _, acknowledgment, bits, checksum = _PLAIN.unpack_from(
                frame, start + _ETHERTYPE_AT
            )
            connection = self._by_ingress.get(key)
            if (
                connection is not None
                and connection.flowing
                and bits & _FORM_MASK == _PLAIN_FORM
                and prefix == _IPV4_WITHOUT_OPTIONS
                and whole & _WHOLE_MASK == _WHOLE_TCP
                and _PLAIN_PACKET <= total <= end - start - ETHERNET_HEADER
            ):
                connection.last_seen = now
                moved = serial_plus(acknowledgment, connection.sequence_offset)
                if not partial_checksum:
                    checksum = (checksum + acknowledgment - moved) % _MODULUS
                _INGRESS_PLAIN.pack_into(frame, start + _TCP_AT + 8, moved, bits, checksum)
                return True
        return self._ingress_slowly(frame, start, end, partial_checksum, now)

    # From the guest, in full.

    def _egress_slowly(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> Parsed:
        try:
            packet = parse_frame(frame, start, end)
        except MalformedPacket:
            self.counters.malformed += 1
            raise
        if isinstance(packet, TcpPacket):
            self._from_guest(frame, packet, partial_checksum, now)
        return packet

    def _from_guest(self, frame: bytearray, packet: TcpPacket, partial_checksum: bool, now: float) -> None:
        options = self._options(frame, packet)
        connection = self._guest_speaks(frame, packet, options, now)
        if connection is None:
            return
        connection.last_seen = now
        self._guest_answered(connection)
        if connection.sequence_offset or connection.timestamp_offset:
            to_primary(frame, packet, options, connection, partial_checksum)
        self._table.sort(connection)

    def _guest_speaks(self, frame: bytearray, packet: TcpPacket, options: Options, now: float) -> Connection | None:
        """Take note of the secondary's segment; None where no connection results from it."""
        connection = self._by_egress.get(packet.connection)
        if packet.flags & RST:
            return self._guest_resets(connection)
        if packet.flags & SYN:
            connection = connection or self._add(packet.connection, now)
            connection.guest_opens(packet, _timestamp(frame, options))
            return connection
        if connection is None or connection.phase is Phase.CALLED:
            connection = self._never_seen_opening(connection, packet.connection, now)
        connection.guest_sends(packet)
        return connection

    def _guest_resets(self, connection: Connection | None) -> Connection | None:
        if connection is None:
            return None
        self._drop_kept(connection)
        if connection.phase is Phase.CALLED:
            # The guest refuses the call: nothing is left to be remembered.
            self._table.remove(connection)
            return None
        connection.reset = True
        return connection

    def _guest_answered(self, connection: Connection) -> None:
        """Whatever the guest sent settles what waited for it."""
        connection.awaiting_guest = False
        kept = self._take_kept(connection)
        if not kept:
            return
        if connection.phase is Phase.OPENING:
            self._learn_from_kept(connection, kept)
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

    # From the client, in full.

    def _ingress_slowly(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> bool:
        try:
            packet = parse_frame(frame, start, end)
        except MalformedPacket:
            self.counters.malformed += 1
            return False
        if not isinstance(packet, TcpPacket):
            return True
        connection = self._by_ingress.get(packet.connection) or self._called(packet, now)
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
        self._table.sort(connection)
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
        if packet.flags & ACK and (connection.sequence_offset or connection.timestamp_offset):
            self.counters.translated_sack += bool(options.sack_edges)
            to_secondary(frame, packet, options, connection, partial_checksum)

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
        packet = parse_frame(copy, self._header, len(copy))
        assert isinstance(packet, TcpPacket)
        connection.kept.append(KeptSegment(copy, packet, partial_checksum))
        self._kept += 1
        self.counters.early_kept += 1

    # What both directions need.

    def _options(self, frame: bytearray, packet: TcpPacket) -> Options:
        options = read_options(frame, packet.tcp + 20, packet.payload)
        self.counters.malformed_options += options.malformed
        return options

    def _add(self, egress_key: bytes, now: float) -> Connection:
        connection, evicted = self._table.add(egress_key, now)
        if evicted is not None:
            self.counters.evicted += 1
            self._drop_kept(evicted)
        return connection

    def _never_seen_opening(self, connection: Connection | None, egress_key: bytes, now: float) -> Connection:
        """It is older than the rewriter, or its opening was missed: nothing can be known of its offsets."""
        self.counters.unknown += 1
        connection = connection or self._add(egress_key, now)
        connection.settle_at_zero()
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
