"""Packets of our own, made of the headers of one that a guest sent.

1. Only packets without IP options and extension headers serve as a model: what those mean for a
   packet of another length, or for its pseudo-header, is not known here.
2. The TCP checksum stays partial, as offloads leave it: the sum of the pseudo-header, which
   whoever sends the packet on completes (linux/virtio_net.h, VIRTIO_NET_HDR_F_NEEDS_CSUM).
3. Of the options only timestamps stay: the model's SACK blocks tell what another replica has.
"""

from __future__ import annotations

import struct

from colo_bridge.wire.checksum import ones_sum, start_tcp
from colo_bridge.wire.options import read_options
from colo_bridge.wire.packet import Buffer
from colo_bridge.wire.serial import Serial

_IPV4_HEADER, _IPV6_HEADER, _TCP_HEADER = 20, 40, 20
_HALF = struct.Struct("!H")
_NUMBER = struct.Struct("!I")
# Sequence, acknowledgment, data offset with flags, window, checksum, urgent pointer.
_TCP = struct.Struct("!IIHHHH")
_STAMPED = struct.Struct("!HBBII")
_SACK, _MOST_BLOCKS = 5, 3
_NOP_NOP, _TIMESTAMPS, _TIMESTAMPS_LENGTH = 0x0101, 8, 10


def is_plain(buffer: Buffer, tcp: int, ip: int = 0) -> bool:
    """Whether the IP header at `ip` in front of the TCP header at `tcp` has neither options nor extensions."""
    return tcp - ip == (_IPV6_HEADER if buffer[ip] >> 4 == 6 else _IPV4_HEADER)


def timestamps(header: Buffer, tcp: int) -> tuple[Serial, Serial] | None:
    """TSval and TSecr of the TCP header at `header[tcp:]`."""
    # Fast path: the one form that current stacks send.
    if len(header) == tcp + _TCP_HEADER + _STAMPED.size:
        nops, kind, length, value, echo = _STAMPED.unpack_from(header, tcp + _TCP_HEADER)
        if (nops, kind, length) == (_NOP_NOP, _TIMESTAMPS, _TIMESTAMPS_LENGTH):
            return Serial(value), Serial(echo)
    found = read_options(header, tcp + _TCP_HEADER, len(header)).timestamps
    if not found:
        return None
    value, echo = (_NUMBER.unpack_from(header, at)[0] for at in (found[-1].value, found[-1].echo))
    return Serial(value), Serial(echo)


def sack_blocks(header: Buffer, tcp: int) -> list[tuple[Serial, Serial]]:
    """The SACK blocks of the TCP header at `header[tcp:]`, first and behind last octet of each (RFC 2018 §3)."""
    edges = read_options(header, tcp + _TCP_HEADER, len(header)).sack_edges
    numbers = [Serial(_NUMBER.unpack_from(header, at)[0]) for at in edges]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def selective(blocks: list[tuple[Serial, Serial]]) -> bytes:
    """A SACK option with these blocks, as many as fit beside timestamps; empty for none."""
    blocks = blocks[:_MOST_BLOCKS]
    if not blocks:
        return b""
    edges = b"".join(_NUMBER.pack(edge) for block in blocks for edge in block)
    return _HALF.pack(_NOP_NOP) + bytes((_SACK, 2 + len(edges))) + edges


def tcp_packet(
    header: Buffer,
    tcp: int,
    payload: Buffer,
    sequence: Serial,
    acknowledgment: Serial,
    flags: int,
    window: int,
    stamps: tuple[Serial, Serial] | None,
    sack: bytes = b"",
) -> bytes:
    """An IP packet between the ends of `header`, which must be plain.

    `stamps` become its timestamps option; `sack` is a whole option, as `selective` makes it.
    """
    options = (b"" if stamps is None else _STAMPED.pack(_NOP_NOP, _TIMESTAMPS, _TIMESTAMPS_LENGTH, *stamps)) + sack
    bits = (_TCP_HEADER + len(options)) << 10 | flags
    ports = header[tcp : tcp + 4]
    fixed = _TCP.pack(sequence, acknowledgment, bits, window, 0, 0)
    packet = bytearray(b"".join((header[:tcp], ports, fixed, options, payload)))
    _set_length(packet, tcp)
    start_tcp(packet, 0, tcp, len(packet))
    return bytes(packet)


def _set_length(packet: bytearray, tcp: int) -> None:
    if packet[0] >> 4 == 6:
        _HALF.pack_into(packet, 4, len(packet) - _IPV6_HEADER)
        return
    _HALF.pack_into(packet, 2, len(packet))
    _HALF.pack_into(packet, 10, 0)
    _HALF.pack_into(packet, 10, 0xFFFF - ones_sum(packet[:tcp]))
