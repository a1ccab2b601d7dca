"""The same packet in another form: over IPv6, in VLANs, in fragments.

    tagged(over_ipv6(packets.tcp(payload=b"hello")), 7)

Nothing here uses the code under test.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from tests.packets import ethernet, ones_sum

_ETHERNET = 14
_PREFIX = bytes.fromhex("fd00") + bytes(10)
_PROTOCOLS = {1: 58}
_ICMP_TYPES = {0: 129, 8: 128}
_CHECKSUMS = {6: 16, 17: 6}
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60


def ipv6_of(address: str) -> str:
    """What an IPv4 address becomes."""
    return str(IPv6Address(_PREFIX + IPv4Address(address).packed))


def ipv6(source: str, destination: str, protocol: int, body: bytes, *extensions: tuple[int, bytes]) -> bytes:
    """An IPv6 packet; each extension is its protocol number and what follows its first byte (the next header)."""
    protocols = [*(number for number, _ in extensions), protocol]
    headers = b"".join(bytes((after,)) + rest for after, (_, rest) in zip(protocols[1:], extensions, strict=True))
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return struct.pack("!IHBB", 6 << 28, len(headers + body), protocols[0], 64) + addresses + headers + body


def options_header(count: int = 4) -> bytes:
    """Hop-by-hop or destination options with padding of so many bytes in all (RFC 8200 §4.2), but the first byte."""
    size = -(-(2 + count) // 8) * 8
    return bytes((size // 8 - 1, 1, size - 4)) + bytes(size - 4)


def routing_header(segments_left: int, *addresses: str) -> bytes:
    """A routing header of type 4 (RFC 8754) as far as its length goes, but the first byte."""
    rest = b"".join(IPv6Address(address).packed for address in addresses)
    return bytes((len(rest) // 8, 4, segments_left)) + bytes(4) + rest


def fragment_header(offset: int, more: bool, identification: int) -> bytes:
    return struct.pack("!xHI", offset | more, identification)


def over_ipv6(frame: bytes, *extensions: tuple[int, bytes]) -> bytes:
    """An untagged IPv4 frame as an IPv6 one; options become destination options, padding stays.

    A right checksum of TCP or UDP stays right, a wrong one stays wrong.
    """
    packet, padding = _packet_of(frame)
    options = (packet[0] & 15) * 4 - 20
    if options:
        extensions = ((DESTINATION, options_header(options)), *extensions)
    source, destination = (ipv6_of(str(IPv4Address(packet[at : at + 4]))) for at in (12, 16))
    protocol = _PROTOCOLS.get(packet[9], packet[9])
    body = _moved(packet[12:20], source, destination, packet[9], packet[20 + options :])
    return frame[:12] + b"\x86\xdd" + ipv6(source, destination, protocol, body, *extensions) + padding


def _moved(addresses: bytes, source: str, destination: str, protocol: int, body: bytes) -> bytes:
    """What the packet carries, under its new addresses."""
    if protocol == 1 and body:
        return bytes((_ICMP_TYPES.get(body[0], body[0]),)) + body[1:]
    at = _CHECKSUMS.get(protocol)
    if at is None or len(body) < at + 2:
        return body
    checksum = int.from_bytes(body[at : at + 2], "big")
    new = IPv6Address(source).packed + IPv6Address(destination).packed
    checksum = (checksum + ones_sum(addresses) - ones_sum(new)) % 0xFFFF
    return body[:at] + checksum.to_bytes(2, "big") + body[at + 2 :]


def tagged(frame: bytes, *vlans: int, outer: int = 0x8100) -> bytes:
    """The frame in VLANs, the outermost first; `outer` is the Ethernet type of the first tag."""
    types = [outer, *[0x8100] * len(vlans)]
    tags = b"".join(struct.pack("!HH", kind, vlan) for kind, vlan in zip(types, vlans, strict=False))
    return frame[:12] + tags + frame[12:]


def fragment(frame: bytes, start: int, end: int | None, *, identification: int = 1, last: bool | None = None) -> bytes:
    """Bytes [start, end) of what the IP header of an untagged frame carries, as a fragment of its own.

    Without `end` it is the last one; `last` says otherwise.
    """
    packet, _ = _packet_of(frame)
    more = end is not None if last is None else not last
    if packet[0] >> 4 == 6:
        header, body = packet[:40], packet[40:]
        part = bytes((header[6],)) + fragment_header(start, more, identification) + body[start:end]
        header = header[:4] + len(part).to_bytes(2, "big") + bytes((FRAGMENT,)) + header[7:]
        return frame[:_ETHERNET] + header + part
    size = (packet[0] & 15) * 4
    part = packet[size:][start:end]
    bits = start // 8 | (0x2000 if more else 0)
    header = packet[:2] + struct.pack("!HHH", size + len(part), identification, bits) + packet[8:10] + bytes(2)
    header += packet[12:size]
    checksum = (0xFFFF - ones_sum(header)).to_bytes(2, "big")
    return frame[:_ETHERNET] + header[:10] + checksum + header[12:] + part


def fragments(frame: bytes, *cuts: int, identification: int = 1) -> list[bytes]:
    """The frame cut at multiples of eight bytes of what its IP header carries."""
    ends = [*cuts, None]
    starts = [0, *cuts]
    return [fragment(frame, start, end, identification=identification) for start, end in zip(starts, ends, strict=True)]


def _packet_of(frame: bytes) -> tuple[bytes, bytes]:
    """The IP packet of an untagged frame, and what follows it."""
    packet = frame[_ETHERNET:]
    length = int.from_bytes(packet[4:6], "big") + 40 if packet[0] >> 4 == 6 else int.from_bytes(packet[2:4], "big")
    return packet[:length], packet[length:]


def neighbour(kind: int = 135) -> bytes:
    """An ICMPv6 message by which a guest speaks to its link, by default a neighbour solicitation."""
    return ethernet(ipv6("fd00::2", "ff02::1", 58, bytes((kind,)) + bytes(23)), 0x86DD)
