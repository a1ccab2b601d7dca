"""What names a flow: the keys of connections and of datagram flows, and how people read them.

A TCP connection's key is addresses and ports as they stand on the wire, then the tags: its
length is a multiple of four.  Every other key begins with two bytes (family and number of
tags, protocol), so that none of them is ever equal to a connection's.
"""

from __future__ import annotations

import ipaddress

from colo_bridge.wire.packet import Buffer

TAG = 4
"""Bytes of one VLAN tag in a key: its Ethernet type and the VLAN identifier."""

ICMP, TCP, UDP, FRAGMENT, ICMPV6, CUT_SHORT = 1, 6, 17, 44, 58, 255
"""Protocol numbers (IANA); 255 is reserved there and stands here for a packet that was cut short."""

_PREFIX = 2
_ADDRESSES = {4: 8, 6: 32}
_PORTS = 4
_IDENTIFICATION = {4: 2, 6: 4}
_NAMES = {UDP: "udp", ICMP: "icmp", FRAGMENT: "fragment", ICMPV6: "icmpv6", CUT_SHORT: "cut short"}


def datagram_flow(family: int, protocol: int, addresses: Buffer, ports: Buffer = b"") -> bytes:
    """The key of a flow that is not TCP's; `ports` or whatever else separates its flows."""
    return bytes((family << 4, protocol)) + addresses + ports


def tagged_connection(connection: bytes, tags: bytes) -> bytes:
    return connection + tags


def tagged_flow(flow: bytes, tags: bytes) -> bytes:
    """The key of a datagram flow (or of a fragmented packet) in a VLAN."""
    return bytes((flow[0] | len(tags) // TAG,)) + flow[1:] + tags


def tags_of(flow: bytes) -> bytes:
    """The tags in the key of a datagram flow or of a fragmented packet."""
    return flow[len(flow) - TAG * (flow[0] & 0x0F) :]


def flow_of_fragments(datagram: bytes) -> bytes:
    """The key of a fragmented packet without its identification, which tells people nothing."""
    identification = _PREFIX + _ADDRESSES[datagram[0] >> 4]
    return datagram[:identification] + datagram[identification + _IDENTIFICATION[datagram[0] >> 4] :]


def reversed_connection(key: bytes) -> bytes:
    """The key of the same connection as the other side sends it."""
    size = address_bytes(key)
    ports = 2 * size
    return key[size:ports] + key[:size] + key[ports + 2 : ports + 4] + key[ports : ports + 2] + key[ports + 4 :]


def address_bytes(key: bytes) -> int:
    """The size of one address in a connection's key."""
    return 4 if len(key) < _ADDRESSES[6] else 16


def tag_bytes(key: bytes) -> int:
    """The size of the tags in a connection's key."""
    return len(key) - 2 * address_bytes(key) - _PORTS


def is_connection(key: bytes) -> bool:
    return len(key) % 4 == 0


def describe_flow(key: bytes) -> str:
    """`10.0.0.2:80 > 10.0.0.9:5000` of a connection, addresses and protocol of another flow, and the VLANs."""
    if is_connection(key):
        size = address_bytes(key)
        ports = 2 * size
        return _endpoints(key[:ports], key[ports : ports + _PORTS]) + _vlans(key[ports + _PORTS :])
    tags = len(key) - TAG * (key[0] & 0x0F)
    ports = _PREFIX + _ADDRESSES[key[0] >> 4]
    protocol = _NAMES.get(key[1], f"protocol {key[1]}")
    return f"{_endpoints(key[_PREFIX:ports], key[ports:tags])} {protocol}" + _vlans(key[tags:])


def _endpoints(addresses: bytes, ports: bytes) -> str:
    middle = len(addresses) // 2
    return " > ".join(
        _endpoint(addresses[at : at + middle], ports[half : half + 2]) for at, half in ((0, 0), (middle, 2))
    )


def _endpoint(address: bytes, port: bytes) -> str:
    text = str(ipaddress.ip_address(address))
    if not port:
        return text
    return f"{f'[{text}]' if ':' in text else text}:{int.from_bytes(port, 'big')}"


def _vlans(tags: bytes) -> str:
    return "".join(f" vlan {int.from_bytes(tags[at + 2 : at + TAG], 'big')}" for at in range(0, len(tags), TAG))
