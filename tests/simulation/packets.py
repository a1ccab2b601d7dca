"""Segments as the simulated stacks see them, and as frames behind a virtio-net header."""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = 12
"""Bytes of a virtio-net header in front of each frame."""
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_MASK = 0xFFFFFFFF
_TCP = struct.Struct("!HHIIHHHH")
_STAMPS = struct.Struct("!BBBBII")
_SYN = struct.Struct("!BBHBBBB")
_GUEST_MAC, _CLIENT_MAC = bytes.fromhex("525400000002"), bytes.fromhex("525400000009")


@dataclass(slots=True)
class Segment:
    """Numbers are those on the wire; `stamp` and `echo` are the timestamps option."""

    sequence: int
    acknowledgment: int
    flags: int
    window: int
    payload: bytes = b""
    stamp: int | None = None
    echo: int = 0
    maximum: int | None = None
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Ends:
    """Addresses and ports of the guest and of the client."""

    guest: bytes
    client: bytes
    guest_port: int
    client_port: int

    def frame(self, segment: Segment, to_guest: bool) -> bytearray:
        source, target = (self.client, self.guest) if to_guest else (self.guest, self.client)
        ports = (self.client_port, self.guest_port) if to_guest else (self.guest_port, self.client_port)
        options = _options(segment)
        bits = (5 + len(options) // 4) << 12 | segment.flags
        tcp = _TCP.pack(*ports, segment.sequence, segment.acknowledgment, bits, segment.window, 0, 0) + options
        length = len(tcp) + len(segment.payload)
        if len(source) == 4:
            ethertype = b"\x08\x00"
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, 6, 0) + source + target
        else:
            ethertype = b"\x86\xdd"
            ip = struct.pack("!IHBB", 6 << 28, length, 6, 64) + source + target
        macs = _GUEST_MAC + _CLIENT_MAC if to_guest else _CLIENT_MAC + _GUEST_MAC
        return bytearray(bytes(HEADER) + macs + ethertype + ip + tcp + segment.payload)


def read(packet: bytes | bytearray | memoryview, at: int = 0) -> Segment:
    """The segment in an IP packet without IP options or extension headers."""
    if packet[at] >> 4 == 4:
        tcp, end = at + 20, at + int.from_bytes(packet[at + 2 : at + 4], "big")
    else:
        tcp, end = at + 40, at + 40 + int.from_bytes(packet[at + 4 : at + 6], "big")
    assert end <= len(packet), "the packet is longer than its frame"
    _, _, sequence, acknowledgment, bits, window, _, _ = _TCP.unpack_from(packet, tcp)
    payload = tcp + (bits >> 12 << 2)
    segment = Segment(sequence, acknowledgment, bits & 0x3F, window, bytes(packet[payload:end]))
    _read_options(segment, bytes(packet[tcp + 20 : payload]))
    return segment


def _options(segment: Segment) -> bytes:
    options = b""
    if segment.maximum is not None:
        options += _SYN.pack(2, 4, segment.maximum, 1, 3, 3, segment.scale)
    if segment.stamp is not None:
        options += _STAMPS.pack(1, 1, 8, 10, segment.stamp & _MASK, segment.echo & _MASK)
    return options


def _read_options(segment: Segment, options: bytes) -> None:
    at = 0
    while at < len(options) and options[at] != 0:
        kind, length = options[at], 1 if options[at] == 1 else options[at + 1]
        if kind == 2:
            segment.maximum = int.from_bytes(options[at + 2 : at + 4], "big")
        elif kind == 3:
            segment.scale = options[at + 2]
        elif kind == 8:
            segment.stamp, segment.echo = struct.unpack_from("!II", options, at + 2)
        at += length
