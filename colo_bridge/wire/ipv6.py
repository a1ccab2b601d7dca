"""IPv6 packets with their extension headers (RFC 8200 §4).

Jumbograms (RFC 2675) are refused: no queue and no TAP delivers one.
"""

from __future__ import annotations

import struct

from colo_bridge.wire.flow import FRAGMENT, TCP, datagram_flow
from colo_bridge.wire.packet import Buffer, Datagram, Fragment, MalformedPacket, NotCompared, TcpPacket
from colo_bridge.wire.transport import parse_transport

HEADER = 40

# IPv6 without extension headers, then TCP: version, payload length, next header, both addresses
# with both ports (the connection), sequence, acknowledgment, offset with flags, window.
_IPV6_TCP = struct.Struct("!BxxxHBx36sIIHH")
# Version, payload length, next header, both addresses.
_IPV6 = struct.Struct("!BxxxHBx32s")

_HOP_BY_HOP, _ROUTING, _AUTHENTICATION, _DESTINATION = 0, 43, 51, 60
_MOBILITY, _HIP, _SHIM6 = 135, 139, 140
_EXTENSIONS = frozenset((_HOP_BY_HOP, _ROUTING, FRAGMENT, _AUTHENTICATION, _DESTINATION, _MOBILITY, _HIP, _SHIM6))
"""Headers that say what follows them (IANA, IPv6 extension header types); ESP does not."""
_MOST_EXTENSIONS = 16
"""A guest's packet with more of them is refused: no stack sends such a thing."""
_LARGEST = 0xFFFF


def parse_ipv6(buffer: Buffer, ip: int, end: int) -> TcpPacket | Datagram | Fragment | NotCompared:
    """Parse an IPv6 packet in `buffer[ip:end]`; raises MalformedPacket."""
    # Fast path: TCP without extension headers.
    if end - ip >= HEADER + 20:
        version, length, protocol, connection, sequence, acknowledgment, bits, window = _IPV6_TCP.unpack_from(
            buffer, ip
        )
        tcp = ip + HEADER
        payload = tcp + (bits >> 12 << 2)
        if version >> 4 == 6 and protocol == TCP and tcp + 20 <= payload <= tcp + length <= end:
            return TcpPacket(
                connection, buffer, ip, tcp, payload, tcp + length, sequence, acknowledgment, bits & 0x1FF, window
            )
    return _parse_slowly(buffer, ip, end)


def rebuilt_ipv6(header: bytes, body: bytes) -> bytearray:
    """The packet that was sent in fragments; raises MalformedPacket."""
    packet = bytearray(header)
    length = len(header) - HEADER + len(body)
    if length > _LARGEST:
        raise MalformedPacket("fragments make more than the largest packet")
    packet[4:6] = length.to_bytes(2, "big")
    return packet + body


def _parse_slowly(buffer: Buffer, ip: int, end: int) -> TcpPacket | Datagram | Fragment | NotCompared:
    if end - ip < HEADER:
        raise MalformedPacket("packet shorter than an IPv6 header")
    version, length, following, addresses = _IPV6.unpack_from(buffer, ip)
    if version >> 4 != 6:
        raise MalformedPacket("IP version is not 6")
    if not length and following == _HOP_BY_HOP:
        raise MalformedPacket("an IPv6 jumbogram")
    if ip + HEADER + length > end:
        raise MalformedPacket("IPv6 length does not fit the packet")
    end = ip + HEADER + length
    at, names_next = ip + HEADER, ip + 6
    for _ in range(_MOST_EXTENSIONS):
        if following not in _EXTENSIONS:
            return parse_transport(buffer, ip, at, end, 6, addresses, following)
        size = _size(buffer, at, end, following)
        if following == FRAGMENT and not _is_whole(buffer, at):
            return _fragment(buffer, ip, at, end, addresses, names_next)
        names_next, following = at, buffer[at]
        at += size
    raise MalformedPacket(f"more than {_MOST_EXTENSIONS} IPv6 extension headers")


def _size(buffer: Buffer, at: int, end: int, kind: int) -> int:
    """Bytes of the extension header at `at`."""
    if end - at < 8:
        raise MalformedPacket("IPv6 extension header is cut off")
    if kind == FRAGMENT:
        size = 8
    elif kind == _AUTHENTICATION:
        size = (buffer[at + 1] + 2) << 2  # RFC 4302 §2.2
    else:
        size = (buffer[at + 1] + 1) << 3
    if size > end - at:
        raise MalformedPacket("IPv6 extension header is cut off")
    return size


def _is_whole(buffer: Buffer, at: int) -> bool:
    """An atomic fragment is the whole packet (RFC 6946)."""
    return not int.from_bytes(buffer[at + 2 : at + 4], "big") & 0xFFF9


def _fragment(buffer: Buffer, ip: int, at: int, end: int, addresses: bytes, names_next: int) -> Fragment:
    bits = int.from_bytes(buffer[at + 2 : at + 4], "big")
    offset, more, body = bits & 0xFFF8, bool(bits & 1), at + 8
    if more and ((end - body) % 8 or end == body):
        raise MalformedPacket("a fragment that is not the last has no multiple of 8 bytes")
    if at - ip - HEADER + offset + end - body > _LARGEST:
        raise MalformedPacket("a fragment reaches beyond the largest packet")
    header = bytearray(buffer[ip:at])
    header[names_next - ip] = buffer[at]
    # Fragments of one packet may name different next headers, the first one's counts (RFC 8200 §4.5).
    datagram = datagram_flow(6, FRAGMENT, addresses, buffer[at + 4 : at + 8])
    return Fragment(datagram, bytes(header), buffer, ip, body, end, offset, not more)
