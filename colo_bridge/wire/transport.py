"""What IP carries: TCP segments, and everything that is compared by its content.

Formats: RFC 9293 §3.1 (TCP), RFC 768 (UDP), RFC 792 (ICMP), RFC 4443 §2.1 (ICMPv6).
"""

from __future__ import annotations

import struct

from colo_bridge.wire.flow import ICMP, ICMPV6, TCP, UDP, datagram_flow
from colo_bridge.wire.packet import Buffer, Datagram, MalformedPacket, NotCompared, TcpPacket

_TCP = struct.Struct("!4sIIHH")
_LINK_TALK = frozenset((*range(130, 138), 143, 151, 152, 153))
"""ICMPv6 types: MLD (RFC 2710, RFC 3810), neighbour discovery (RFC 4861), multicast router discovery (RFC 4286)."""


def parse_transport(
    buffer: Buffer, ip: int, body: int, end: int, family: int, addresses: Buffer, protocol: int
) -> TcpPacket | Datagram | NotCompared:
    """What stands in `buffer[body:end]`, behind all IP headers; raises MalformedPacket."""
    if protocol == TCP:
        return parse_tcp(buffer, ip, body, end, addresses)
    if protocol == UDP:
        return _udp(buffer, ip, body, end, family, addresses)
    if protocol == (ICMP if family == 4 else ICMPV6):
        return _icmp(buffer, ip, body, end, family, addresses)
    return Datagram(datagram_flow(family, protocol, addresses), bytes(buffer[body:end]), buffer, ip, end)


def parse_tcp(buffer: Buffer, ip: int, tcp: int, end: int, addresses: Buffer) -> TcpPacket:
    if end - tcp < 20:
        raise MalformedPacket("TCP header is cut off")
    ports, sequence, acknowledgment, bits, window = _TCP.unpack_from(buffer, tcp)
    payload = tcp + (bits >> 12 << 2)
    if not tcp + 20 <= payload <= end:
        raise MalformedPacket("TCP data offset does not fit the packet")
    connection = bytes(addresses) + ports
    return TcpPacket(connection, buffer, ip, tcp, payload, end, sequence, acknowledgment, bits & 0x1FF, window)


def _udp(buffer: Buffer, ip: int, body: int, end: int, family: int, addresses: Buffer) -> Datagram:
    if end - body < 8:
        raise MalformedPacket("UDP header is cut off")
    length = int.from_bytes(buffer[body + 4 : body + 6], "big")
    if not 8 <= length <= end - body:
        raise MalformedPacket("UDP length does not fit the packet")
    flow = datagram_flow(family, UDP, addresses, buffer[body : body + 4])
    return Datagram(flow, bytes(buffer[body + 8 : body + length]), buffer, ip, end)


def _icmp(buffer: Buffer, ip: int, body: int, end: int, family: int, addresses: Buffer) -> Datagram | NotCompared:
    if end - body < 4:
        raise MalformedPacket("ICMP header is cut off")
    if family == 6 and buffer[body] in _LINK_TALK:
        return NotCompared.NEIGHBOUR
    # Type and code, then everything behind the checksum.
    content = bytes(buffer[body : body + 2]) + bytes(buffer[body + 4 : end])
    return Datagram(datagram_flow(family, ICMP if family == 4 else ICMPV6, addresses), content, buffer, ip, end)
