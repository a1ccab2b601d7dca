"""IPv4 packets (RFC 791 §3.1).  Lengths come from the header, so Ethernet padding never counts as payload."""

from __future__ import annotations

import struct

from colo_bridge.wire.checksum import ones_sum
from colo_bridge.wire.flow import TCP, datagram_flow
from colo_bridge.wire.packet import Buffer, Datagram, Fragment, MalformedPacket, NotCompared, TcpPacket
from colo_bridge.wire.transport import parse_transport

HEADER = 20
"""Without options."""

_FRAGMENT_OFFSET, _MORE_FRAGMENTS = 0x1FFF, 0x2000
_FRAGMENT = _FRAGMENT_OFFSET | _MORE_FRAGMENTS
_LARGEST = 0xFFFF

# IPv4 without options, then TCP: version and length, total length, fragment, protocol,
# both addresses with both ports (the connection), sequence, acknowledgment, offset with flags, window.
_IPV4_TCP = struct.Struct("!BxHxxHxBxx12sIIHH")
# Version and length, total length, identification, fragment, protocol, both addresses.
_IPV4 = struct.Struct("!BxH2sHxBxx8s")


def parse_ipv4(buffer: Buffer, ip: int, end: int) -> TcpPacket | Datagram | Fragment | NotCompared:
    """Parse an IPv4 packet in `buffer[ip:end]`; raises MalformedPacket."""
    # Fast path: TCP behind a header without options, not a fragment.
    if end - ip >= 40:
        version, total, fragment, protocol, connection, sequence, acknowledgment, bits, window = _IPV4_TCP.unpack_from(
            buffer, ip
        )
        payload = ip + 20 + (bits >> 12 << 2)
        if version == 0x45 and protocol == TCP and not fragment & _FRAGMENT and ip + 40 <= payload <= ip + total <= end:
            return TcpPacket(
                connection, buffer, ip, ip + 20, payload, ip + total, sequence, acknowledgment, bits & 0x1FF, window
            )
    return _parse_slowly(buffer, ip, end)


def rebuilt_ipv4(header: bytes, body: bytes) -> bytearray:
    """The packet that was sent in fragments; raises MalformedPacket."""
    packet = bytearray(header)
    length = len(header) + len(body)
    if length > _LARGEST:
        raise MalformedPacket("fragments make more than the largest packet")
    packet[2:4] = length.to_bytes(2, "big")
    packet[10:12] = bytes(2)
    packet[10:12] = (0xFFFF - ones_sum(packet)).to_bytes(2, "big")
    return packet + body


def _parse_slowly(buffer: Buffer, ip: int, end: int) -> TcpPacket | Datagram | Fragment | NotCompared:
    if end - ip < HEADER:
        raise MalformedPacket("packet shorter than an IPv4 header")
    version, total, identification, fragment, protocol, addresses = _IPV4.unpack_from(buffer, ip)
    body = ip + ((version & 0x0F) << 2)
    if version >> 4 != 4:
        raise MalformedPacket("IP version is not 4")
    if not ip + 20 <= body <= ip + total <= end:
        raise MalformedPacket("IPv4 lengths do not fit the packet")
    if fragment & _FRAGMENT:
        datagram = datagram_flow(4, protocol, addresses, identification)
        return _fragment(buffer, ip, body, ip + total, datagram, fragment)
    return parse_transport(buffer, ip, body, ip + total, 4, addresses, protocol)


def _fragment(buffer: Buffer, ip: int, body: int, end: int, datagram: bytes, fragment: int) -> Fragment:
    offset, more = (fragment & _FRAGMENT_OFFSET) << 3, bool(fragment & _MORE_FRAGMENTS)
    if more and ((end - body) % 8 or end == body):
        raise MalformedPacket("a fragment that is not the last has no multiple of 8 bytes")
    if body - ip + offset + end - body > _LARGEST:
        raise MalformedPacket("a fragment reaches beyond the largest packet")
    header = bytearray(buffer[ip:body])
    header[6:8] = bytes(2)
    return Fragment(datagram, bytes(header), buffer, ip, body, end, offset, not more)
