"""The Internet checksum, computed whole or adjusted for a change.

Everything is arithmetic modulo 65535: a ones' complement sum of 16-bit words is the
number that the bytes spell, reduced modulo 2^16 - 1 (RFC 1071 §2).  So a change from
`old` to `new` moves the checksum by `old - new`, whatever the width of the field, and
by 256 times that where the field begins at an odd byte (RFC 1071 §2 (B), RFC 1624 §3).

Results lie in 0..0xFFFE: 0xFFFF would mean that every summed byte is zero, which a
pseudo-header with its protocol number never is.
"""

from __future__ import annotations

import struct

from colo_bridge.wire.packet import Buffer

_MODULUS = 0xFFFF
_FIELD = struct.Struct("!H")
_TCP_CHECKSUM = 16
_TCP_PROTOCOL = 6


def change(old: int, new: int, distance: int) -> int:
    """What replacing `old` by `new` adds to the checksum, `distance` bytes behind the start of what is summed."""
    return (old - new) << (8 * (distance & 1))


def adjusted(checksum: int, changes: int) -> int:
    """A finished checksum after changes, each from `change`, that may be added up first (RFC 1624)."""
    return (checksum + changes) % _MODULUS


def ones_sum(data: Buffer | memoryview) -> int:
    """The ones' complement sum of the data, 0..0xFFFE; an odd last byte counts as the upper half of a word."""
    # One division of a long integer: some forty times faster than a loop over the words.
    return (int.from_bytes(data, "big") << (8 * (len(data) & 1))) % _MODULUS


def adjust_tcp(buffer: bytearray, tcp: int, changes: int) -> None:
    """Adjust the finished checksum of the TCP header at `buffer[tcp:]`."""
    (checksum,) = _FIELD.unpack_from(buffer, tcp + _TCP_CHECKSUM)
    _FIELD.pack_into(buffer, tcp + _TCP_CHECKSUM, adjusted(checksum, changes))


def tcp_checksum(buffer: Buffer, ip: int, tcp: int, end: int) -> int:
    """The checksum that the TCP segment in `buffer[tcp:end]` ought to have, behind the IP header at `ip`."""
    view = memoryview(buffer)
    present: int = _FIELD.unpack_from(buffer, tcp + _TCP_CHECKSUM)[0]
    return (present - _pseudo_header(view, ip, end - tcp) - ones_sum(view[tcp:end])) % _MODULUS


def finish_tcp(buffer: bytearray, ip: int, tcp: int, end: int) -> None:
    """Replace a partial (or any other) checksum by the finished one."""
    _FIELD.pack_into(buffer, tcp + _TCP_CHECKSUM, tcp_checksum(buffer, ip, tcp, end))


def start_tcp(buffer: bytearray, ip: int, tcp: int, end: int) -> None:
    """Leave the checksum partial: the sum of the pseudo-header, for an offload to finish."""
    with memoryview(buffer) as view:
        _FIELD.pack_into(buffer, tcp + _TCP_CHECKSUM, _pseudo_header(view, ip, end - tcp) % _MODULUS)


def _pseudo_header(view: memoryview, ip: int, length: int) -> int:
    addresses = view[ip + 8 : ip + 40] if view[ip] >> 4 == 6 else view[ip + 12 : ip + 20]
    return ones_sum(addresses) + _TCP_PROTOCOL + length
