"""The TCP segment that a packet carries, whole or by its first fragment."""

from __future__ import annotations

from colo_bridge.wire.flow import TAG, TCP, tagged_connection
from colo_bridge.wire.frame import parse_ip
from colo_bridge.wire.packet import Fragment, MalformedPacket, Parsed, TcpPacket

_PROTOCOL_AT = 9
_FRAGMENT_HEADER = 8
_IPV4_LENGTH, _IPV6_LENGTH, _IPV6_HEADER = slice(2, 4), slice(4, 6), 40


class SplitHeader(MalformedPacket):
    """A TCP header cut in two: no stack sends that, only attacks do (RFC 1858, RFC 3128)."""


def segment_of(parsed: Parsed) -> TcpPacket | None:
    """The segment whose header stands in the packet; raises SplitHeader where only a part of it does."""
    if isinstance(parsed, TcpPacket):
        return parsed
    if isinstance(parsed, Fragment) and not parsed.offset:
        return _begun_by(parsed)
    return None


def _begun_by(fragment: Fragment) -> TcpPacket | None:
    """The segment that the first fragment begins; it ends where the fragment does."""
    whole = _as_packet(fragment)
    try:
        packet = parse_ip(whole, 0, len(whole))
    except MalformedPacket as error:
        if _carries_tcp(fragment):
            raise SplitHeader("a fragment ends within the TCP header") from error
        return None
    if not isinstance(packet, TcpPacket):
        return None
    connection = tagged_connection(packet.connection, _tags(fragment))
    shift = fragment.body - len(fragment.header)
    return TcpPacket(
        connection,
        fragment.buffer,
        fragment.ip,
        packet.tcp + shift,
        packet.payload + shift,
        fragment.end,
        packet.sequence,
        packet.acknowledgment,
        packet.flags,
        packet.window,
    )


def _as_packet(fragment: Fragment) -> bytes:
    """The fragment as if it were all there is."""
    whole = bytearray(fragment.header + fragment.buffer[fragment.body : fragment.end])
    if whole[0] >> 4 == 4:
        whole[_IPV4_LENGTH] = len(whole).to_bytes(2, "big")
    else:
        whole[_IPV6_LENGTH] = (len(whole) - _IPV6_HEADER).to_bytes(2, "big")
    return bytes(whole)


def _carries_tcp(fragment: Fragment) -> bool:
    # In IPv6 the fragment header stands right in front of its part; headers behind it are not looked through.
    is_ipv4 = fragment.header[0] >> 4 == 4
    return (fragment.header[_PROTOCOL_AT] if is_ipv4 else fragment.buffer[fragment.body - _FRAGMENT_HEADER]) == TCP


def _tags(fragment: Fragment) -> bytes:
    tags = TAG * (fragment.datagram[0] & 0x0F)
    return fragment.datagram[len(fragment.datagram) - tags :]
