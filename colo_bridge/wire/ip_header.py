"""The IP header of a packet of our own, without options."""

from __future__ import annotations

import struct

from colo_bridge.wire.checksum import ones_sum

_HOPS = 64
_DO_NOT_FRAGMENT = 0x4000
# Version and header length, service, length, identification, fragment, hops, protocol, checksum.
_IPV4 = struct.Struct("!BBHHHBBH")
_IPV4_HEADER = 20
# Version with class and flow, payload length, next header, hop limit.
_IPV6 = struct.Struct("!IHBB")
_IPV6_VERSION = 6 << 28
_IPV4_ADDRESSES = 8


def ip_header(addresses: bytes, protocol: int, length: int) -> bytes:
    """In front of `length` bytes; `addresses`: source and destination, which tell the family."""
    if len(addresses) != _IPV4_ADDRESSES:
        return _IPV6.pack(_IPV6_VERSION, length, protocol, _HOPS) + addresses
    fields = 0x45, 0, _IPV4_HEADER + length, 0, _DO_NOT_FRAGMENT, _HOPS, protocol
    checksum = -ones_sum(_IPV4.pack(*fields, 0) + addresses) % 0xFFFF
    return _IPV4.pack(*fields, checksum) + addresses
