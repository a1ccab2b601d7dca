"""From bytes to packet views: Ethernet frames with up to two VLAN tags, and bare IP packets.

Nothing here verifies a checksum: offloads leave them unfinished.  What is too short for
what it claims to be is `MalformedPacket`.

Formats: IEEE 802.3 clause 3.2.6, IEEE 802.1Q §9.3 and §9.5 (tags).
"""

from __future__ import annotations

from typing import TypeVar

from colo_bridge.wire.flow import CUT_SHORT, datagram_flow, tag_bytes, tagged_connection, tagged_flow, tags_of
from colo_bridge.wire.ipv4 import HEADER as IPV4_HEADER
from colo_bridge.wire.ipv4 import parse_ipv4, rebuilt_ipv4
from colo_bridge.wire.ipv6 import HEADER as IPV6_HEADER
from colo_bridge.wire.ipv6 import parse_ipv6, rebuilt_ipv6
from colo_bridge.wire.packet import (
    ETHERNET_HEADER,
    Buffer,
    CutShort,
    Datagram,
    Fragment,
    MalformedPacket,
    NotCompared,
    Parsed,
    TcpPacket,
)

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_TAGS = (b"\x81\x00", b"\x88\xa8")
_TAG = 4
_MOST_TAGS = 2
_VLAN_IDENTIFIER = 0x0FFF

_Packet = TypeVar("_Packet", bound=TcpPacket | Datagram | Fragment | NotCompared)


def parse_frame(buffer: Buffer, start: int, end: int) -> Parsed:
    """Parse an Ethernet frame in `buffer[start:end]`; raises MalformedPacket."""
    # Fast path: untagged IPv4.
    ip = start + ETHERNET_HEADER
    ethernet_type = buffer[start + 12 : ip]
    if end < ip:
        raise MalformedPacket("frame shorter than an Ethernet header")
    if ethernet_type == _IPV4:
        return parse_ipv4(buffer, ip, end)
    if ethernet_type == _IPV6:
        return parse_ipv6(buffer, ip, end)
    if ethernet_type in _TAGS:
        return _parse_tagged(buffer, start, end)
    return _not_ip(buffer, ip, end)


def parse_ip(buffer: Buffer, ip: int, end: int) -> TcpPacket | Datagram | Fragment | NotCompared:
    """Parse an IPv4 or IPv6 packet in `buffer[ip:end]`; raises MalformedPacket."""
    # Fast path: IPv4.
    if ip == end or buffer[ip] >> 4 != 6:
        return parse_ipv4(buffer, ip, end)
    return parse_ipv6(buffer, ip, end)


def behind_tags(buffer: Buffer, start: int, end: int) -> tuple[bytes, int]:
    """The VLANs of a frame as keys name them, and where that begins which follows its Ethernet type."""
    at, tags = start + 12, b""
    for _ in range(_MOST_TAGS):
        if buffer[at : at + 2] not in _TAGS:
            break
        if end - at < _TAG + 2:
            raise MalformedPacket("frame shorter than its VLAN tags")
        identifier = int.from_bytes(buffer[at + 2 : at + _TAG], "big") & _VLAN_IDENTIFIER
        # Identifier 0 is a priority only: the frame belongs to no VLAN (IEEE 802.1Q §9.6).
        tags += bytes(buffer[at : at + 2]) + identifier.to_bytes(2, "big") if identifier else b""
        at += _TAG
    return tags, at + 2


def ethernet_header(packet: TcpPacket) -> bytes:
    """The header, tags included, of the frame that a packet stands in; empty for a bare packet."""
    header = ETHERNET_HEADER + tag_bytes(packet.connection)
    return bytes(packet.buffer[packet.ip - header : packet.ip]) if packet.ip >= header else b""


def parse_reassembled(datagram: bytes, header: bytes, body: bytes) -> TcpPacket | Datagram:
    """Parse the packet that fragments make, from its key, its header and the rest; raises MalformedPacket."""
    buffer = (rebuilt_ipv6 if header[0] >> 4 == 6 else rebuilt_ipv4)(header, body)
    packet = parse_ip(buffer, 0, len(buffer))
    # A packet is fragmented once, and neighbour discovery never is (RFC 6980 §5).
    if isinstance(packet, Fragment | NotCompared):
        raise MalformedPacket("fragments of what must not be fragmented")
    return _with_tags(packet, tags_of(datagram))


def cut_short(buffer: Buffer, ip: int, end: int) -> CutShort:
    """A packet of which the queue delivered only the beginning: it has no content to compare."""
    family = 6 if ip < end and buffer[ip] >> 4 == 6 else 4
    if end - ip < (IPV6_HEADER if family == 6 else IPV4_HEADER):
        raise MalformedPacket("packet shorter than an IP header")
    addresses = buffer[ip + 8 : ip + 40] if family == 6 else buffer[ip + 12 : ip + 20]
    return CutShort(datagram_flow(family, CUT_SHORT, addresses), b"", buffer, ip, end)


def _parse_tagged(buffer: Buffer, start: int, end: int) -> Parsed:
    tags, ip = behind_tags(buffer, start, end)
    ethernet_type = buffer[ip - 2 : ip]
    if ethernet_type in _TAGS:
        return NotCompared.TAGGED_TOO_OFTEN
    if ethernet_type == _IPV4:
        return _with_tags(parse_ipv4(buffer, ip, end), tags)
    if ethernet_type == _IPV6:
        return _with_tags(parse_ipv6(buffer, ip, end), tags)
    return _not_ip(buffer, ip, end)


def _with_tags(packet: _Packet, tags: bytes) -> _Packet:
    if isinstance(packet, TcpPacket):
        packet.connection = tagged_connection(packet.connection, tags)
    elif isinstance(packet, Datagram):
        packet.flow = tagged_flow(packet.flow, tags)
    elif isinstance(packet, Fragment):
        packet.datagram = tagged_flow(packet.datagram, tags)
    return packet


def _not_ip(buffer: Buffer, behind_type: int, end: int) -> NotCompared:
    # Below 0x0600 the field is the length of an IEEE 802.3 frame (clause 3.2.6).
    if end - behind_type < int.from_bytes(buffer[behind_type - 2 : behind_type], "big") < 0x0600:
        raise MalformedPacket("frame shorter than its IEEE 802.3 length")
    return NotCompared.NOT_IP
