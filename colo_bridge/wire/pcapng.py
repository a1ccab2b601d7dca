"""The blocks of a pcapng file, encoded: a section with its interfaces, and packets with comments.

Little endian, times in nanoseconds, packets without a link header.

Format: draft-ietf-opsawg-pcapng §3.1, §3.5, §4.1 to §4.3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

SECTION_HEADER, INTERFACE, PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
BYTE_ORDER = 0x1A2B3C4D
COMMENT, INTERFACE_NAME, APPLICATION, TIME_RESOLUTION, TIME_OFFSET = 1, 2, 4, 9, 14
"""Codes of options; the second and the last two are of interfaces, the third of sections."""

RAW_IP = 101
"""Link type (LINKTYPE_RAW): IPv4 or IPv6, as the first four bits say."""

_NANOSECONDS = b"\x09"
_UNKNOWN_LENGTH = -1
_LONGEST_OPTION = 0xFFFF
_IPV4_HEADER, _IPV6_HEADER = 20, 40


def section(interfaces: Sequence[str], snap_length: int) -> bytes:
    """What a file begins with; packets name an interface by its place in `interfaces`."""
    header = struct.pack("<IHHq", BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
    blocks = [_block(SECTION_HEADER, header, [(APPLICATION, b"colo-bridge")])]
    for name in interfaces:
        options = [(INTERFACE_NAME, name.encode()), (TIME_RESOLUTION, _NANOSECONDS)]
        blocks.append(_block(INTERFACE, struct.pack("<HHI", RAW_IP, 0, snap_length), options))
    return b"".join(blocks)


def packet(interface: int, time: int, data: bytes, snap_length: int, comment: str) -> bytes:
    """One IP packet, cut to `snap_length`; `time` in nanoseconds since 1970."""
    captured = data[:snap_length]
    length = max(len(data), _length_of_ip(data))
    header = struct.pack("<IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(captured), length)
    text = comment.encode()[:_LONGEST_OPTION]
    return _block(ENHANCED_PACKET, header + _padded(captured), [(COMMENT, text)])


def _length_of_ip(data: bytes) -> int:
    """What the IP header says: of some packets only the headers are kept."""
    if len(data) >= _IPV6_HEADER and data[0] >> 4 == 6:
        return _IPV6_HEADER + int.from_bytes(data[4:6], "big")
    return int.from_bytes(data[2:4], "big") if len(data) >= _IPV4_HEADER and data[0] >> 4 == 4 else 0


def _block(kind: int, body: bytes, options: Iterable[tuple[int, bytes]]) -> bytes:
    listed = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    length = struct.pack("<I", 12 + len(body) + len(listed) + 4)
    return struct.pack("<I", kind) + length + body + listed + bytes(4) + length


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
