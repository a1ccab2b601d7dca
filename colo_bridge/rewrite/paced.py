"""The rewriter for a secondary that nobody waits for (observe mode): the client may be ahead of it.

1. A client's ACK of what the secondary has not sent yet reaches it lowered to what it has sent: a guest
   discards a segment that acknowledges more (RFC 9293 §3.10.7.4).
2. What the secondary sends and the client has acknowledged already is answered at once with the client's last ACK,
   because the client will not repeat it.

Works in the secondary's numbers, around the rewriter. It looks at every packet twice, which nothing waits for.
"""

from __future__ import annotations

import struct

from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.checksum import adjust_tcp, change, finish_tcp, ones_sum
from colo_bridge.wire.flow import reversed_connection
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import ACK, FIN, RST, SYN, MalformedPacket, Parsed, TcpPacket
from colo_bridge.wire.serial import Serial, serial_difference, serial_plus

_HALF = 1 << 31
_FIELD, _NUMBER = struct.Struct("!H"), struct.Struct("!I")
_ACKNOWLEDGMENT_AT, _FLAGS_AT = 8, 13
_IPV6_HEADER = 40


class _Pace:
    """How far the secondary has sent, and the client's last ACK: its number, and a segment to repeat it with."""

    __slots__ = ("acknowledged", "end", "repeat")

    def __init__(self, end: Serial) -> None:
        self.end = end
        self.acknowledged: Serial | None = None
        self.repeat: _Repeat | None = None


class _Repeat:
    """Headers of a client's segment, with what stands in front of the frame."""

    __slots__ = ("headers", "ip", "sequence", "tcp")

    def __init__(self, headers: bytes, ip: int, tcp: int, sequence: Serial) -> None:
        self.headers = headers
        self.ip = ip
        self.tcp = tcp
        self.sequence = sequence
        """What the client sends next."""

    def frame(self, header: int, acknowledgment: Serial) -> bytearray:
        """A pure ACK with finished checksums."""
        frame = bytearray(self.headers)
        frame[:header] = bytes(header)
        _set_length(frame, self.ip)
        _NUMBER.pack_into(frame, self.tcp + 4, self.sequence)
        _NUMBER.pack_into(frame, self.tcp + _ACKNOWLEDGMENT_AT, acknowledgment)
        frame[self.tcp + _FLAGS_AT] = ACK
        finish_tcp(frame, self.ip, self.tcp, len(frame))
        return frame


class PacedRewriter(Rewriter):
    def __init__(self, limits: RewriteLimits, header: int = 12) -> None:
        super().__init__(limits, header)
        self._paces: dict[bytes, _Pace] = {}

    def egress(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> Parsed:
        sent = _tcp(frame, start, end)
        answer = None if sent is None else self._sent(sent)
        already_ready = len(self.ready)
        packet = super().egress(frame, start, end, partial_checksum, now)
        for kept in self.ready[already_ready:]:
            self._lower(kept, self._header, len(kept), bool(self._header and kept[0] & 1))
        if answer is not None:
            self.counters.acknowledgments_repeated += 1
            self.ready.append(answer)
        return packet

    def ingress(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> bool:
        deliver = super().ingress(frame, start, end, partial_checksum, now)
        if deliver:
            self._lower(frame, start, end, partial_checksum)
        return deliver

    def synchronised(self) -> None:
        """The secondary is where the primary is."""
        super().synchronised()
        self._paces.clear()

    def _sent(self, packet: TcpPacket) -> bytearray | None:
        """Take note of how far the secondary has sent; an ACK that it should get now."""
        end = _end(packet)
        pace = self._paces.get(packet.connection)
        if packet.flags & RST:
            self._paces.pop(packet.connection, None)
            return None
        if pace is None or packet.flags & SYN:
            self._begin(packet.connection, end)
            return None
        if _is_ahead(end, pace.end):
            pace.end = end
        if pace.acknowledged is None or pace.repeat is None or not _is_ahead(pace.acknowledged, packet.sequence):
            return None
        lowest = pace.end if _is_ahead(pace.acknowledged, pace.end) else pace.acknowledged
        return pace.repeat.frame(self._header, lowest) if end != packet.sequence else None

    def _begin(self, connection: bytes, end: Serial) -> None:
        self._paces.pop(connection, None)
        if len(self._paces) >= self._limits.connections:
            del self._paces[next(iter(self._paces))]
        self._paces[connection] = _Pace(end)

    def _lower(self, frame: bytearray, start: int, end: int, partial_checksum: bool) -> None:
        """Take note of the client's ACK, and lower it if the secondary has not sent so much."""
        packet = _tcp(frame, start, end)
        if packet is None or packet.flags & (SYN | RST | ACK) != ACK:
            return
        pace = self._paces.get(reversed_connection(packet.connection))
        if pace is None:
            return
        acknowledged = packet.acknowledgment
        if pace.acknowledged is None or not _is_ahead(pace.acknowledged, acknowledged):
            pace.acknowledged = acknowledged
            before = start - self._header
            headers = bytes(frame[before : packet.payload])
            pace.repeat = _Repeat(headers, packet.ip - before, packet.tcp - before, _end(packet))
        if _is_ahead(acknowledged, pace.end):
            self.counters.acknowledgments_lowered += 1
            _NUMBER.pack_into(frame, packet.tcp + _ACKNOWLEDGMENT_AT, pace.end)
            if not partial_checksum:
                adjust_tcp(frame, packet.tcp, change(acknowledged, pace.end, _ACKNOWLEDGMENT_AT))


def _tcp(frame: bytearray, start: int, end: int) -> TcpPacket | None:
    try:
        packet = parse_frame(frame, start, end)
    except MalformedPacket:
        return None
    return packet if isinstance(packet, TcpPacket) else None


def _end(packet: TcpPacket) -> Serial:
    """The number behind a segment's last octet."""
    flags = packet.flags
    return serial_plus(packet.sequence, packet.end - packet.payload + bool(flags & SYN) + bool(flags & FIN))


def _is_ahead(number: Serial, other: Serial) -> bool:
    return 0 < serial_difference(number, other) < _HALF


def _set_length(frame: bytearray, ip: int) -> None:
    """Let the IP header say how long the packet is now."""
    length = len(frame) - ip
    if frame[ip] >> 4 == 6:
        _FIELD.pack_into(frame, ip + 4, length - _IPV6_HEADER)
        return
    header = (frame[ip] & 0x0F) << 2
    _FIELD.pack_into(frame, ip + 2, length)
    _FIELD.pack_into(frame, ip + 10, 0)
    _FIELD.pack_into(frame, ip + 10, 0xFFFF - ones_sum(frame[ip : ip + header]))
