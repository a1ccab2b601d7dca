"""Frames for tests, built from what a packet trace would say.

    tcp(sport=80, dport=5000, seq=7, ack=9, flags="P", payload=b"hello")

Nothing here uses the code under test: the checksum is the plain sum of RFC 1071.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

Checksum = Literal["full", "partial"]

GUEST_MAC = bytes.fromhex("525400000002")
CLIENT_MAC = bytes.fromhex("525400000009")
VIRTIO_HEADER = 12
_FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20, "E": 0x40, "C": 0x80}
_TCP_PROTOCOL, _UDP_PROTOCOL, _ICMP_PROTOCOL = 6, 17, 1
_NEEDS_CSUM, _GSO_TCPV4 = 1, 1


def ethernet(payload: bytes, ethertype: int = 0x0800, *, to_guest: bool = False, tag: int | None = None) -> bytes:
    """An Ethernet II frame; `tag` adds an 802.1Q tag with that VLAN number."""
    addresses = GUEST_MAC + CLIENT_MAC if to_guest else CLIENT_MAC + GUEST_MAC
    vlan = b"" if tag is None else struct.pack("!HH", 0x8100, tag)
    return addresses + vlan + ethertype.to_bytes(2, "big") + payload


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    body: bytes,
    *,
    ip_options: bytes = b"",
    fragment: int = 0,
    identification: int = 1,
    ttl: int = 64,
) -> bytes:
    """An IPv4 packet; `fragment` is the whole field: 0x2000 more fragments, low 13 bits the offset in 8 bytes."""
    ip_options += bytes(-len(ip_options) % 4)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + len(ip_options) // 4,
        0,
        20 + len(ip_options) + len(body),
        identification,
        fragment,
        ttl,
        protocol,
        0,
        IPv4Address(source).packed,
        IPv4Address(destination).packed,
    )
    header += ip_options
    return header[:10] + (0xFFFF - ones_sum(header)).to_bytes(2, "big") + header[12:] + body


def tcp(
    source: str = "10.0.0.2",
    destination: str = "10.0.0.9",
    *,
    sport: int = 80,
    dport: int = 5000,
    seq: int = 0,
    ack: int | None = None,
    flags: str = "",
    payload: bytes = b"",
    options: bytes = b"",
    ip_options: bytes = b"",
    window: int = 0xFFFF,
    checksum: Checksum = "full",
    padding: int = 0,
    tag: int | None = None,
    fragment: int = 0,
    identification: int = 1,
    ttl: int = 64,
) -> bytes:
    """An Ethernet frame with one TCP segment.

    `flags` are letters of "FSRPAUEC"; an `ack` sets A by itself.  Options are padded
    with zeros to a multiple of four.  `padding` bytes follow the IP packet.
    """
    options += bytes(-len(options) % 4)
    bits = (5 + len(options) // 4) << 12 | sum(_FLAGS[letter] for letter in set(flags))
    if ack is not None:
        bits |= _FLAGS["A"]
    header = struct.pack("!HHIIHHHH", sport, dport, seq, ack or 0, bits, window, 0, 0) + options
    segment = _with_checksum(source, destination, _TCP_PROTOCOL, header + payload, 16, checksum)
    packet = ipv4(
        source,
        destination,
        _TCP_PROTOCOL,
        segment,
        ip_options=ip_options,
        fragment=fragment,
        identification=identification,
        ttl=ttl,
    )
    return ethernet(packet + bytes(padding), tag=tag)


def udp(
    source: str = "10.0.0.2",
    destination: str = "10.0.0.9",
    *,
    sport: int = 53,
    dport: int = 5000,
    payload: bytes = b"",
    ip_options: bytes = b"",
    checksum: Checksum = "full",
    padding: int = 0,
    tag: int | None = None,
    fragment: int = 0,
) -> bytes:
    """An Ethernet frame with one UDP datagram."""
    header = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    datagram = _with_checksum(source, destination, _UDP_PROTOCOL, header + payload, 6, checksum)
    packet = ipv4(source, destination, _UDP_PROTOCOL, datagram, ip_options=ip_options, fragment=fragment)
    return ethernet(packet + bytes(padding), tag=tag)


def icmp(
    source: str = "10.0.0.2",
    destination: str = "10.0.0.9",
    *,
    kind: int = 0,
    code: int = 0,
    body: bytes = b"\x00\x01\x00\x01",
) -> bytes:
    """An Ethernet frame with one ICMP message; `body` is what follows type, code and checksum."""
    message = struct.pack("!BBH", kind, code, 0) + body
    checksum = (0xFFFF - ones_sum(message)).to_bytes(2, "big")
    return ethernet(ipv4(source, destination, _ICMP_PROTOCOL, message[:2] + checksum + body))


def arp(source: str = "10.0.0.2", destination: str = "10.0.0.9") -> bytes:
    """An ARP request of the guest, padded to the least Ethernet length."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + GUEST_MAC + IPv4Address(source).packed
    return ethernet((body + bytes(6) + IPv4Address(destination).packed).ljust(46, b"\0"), 0x0806)


def virtio(frame: bytes, *, partial: bool = False, segment_size: int = 0) -> bytes:
    """The frame behind a 12-byte virtio-net header (little endian, legacy-free layout).

    `partial`: NEEDS_CSUM for TCP behind a plain IPv4 header; `segment_size`: GSO of TCPv4.
    """
    flags, start, offset = (_NEEDS_CSUM, 34, 16) if partial else (0, 0, 0)
    kind, header = (_GSO_TCPV4, 34 + (frame[46] >> 4) * 4) if segment_size else (0, 0)
    return struct.pack("<BBHHHHH", flags, kind, header, segment_size, start, offset, 0) + frame


def nop(count: int = 1) -> bytes:
    return b"\x01" * count


def maximum_segment_size(size: int = 1460) -> bytes:
    return struct.pack("!BBH", 2, 4, size)


def window_scale(shift: int = 7) -> bytes:
    return struct.pack("!BBB", 3, 3, shift)


def sack_permitted() -> bytes:
    return b"\x04\x02"


def sack(*blocks: tuple[int, int]) -> bytes:
    return struct.pack(f"!BB{2 * len(blocks)}I", 5, 2 + 8 * len(blocks), *(edge for block in blocks for edge in block))


def timestamps(value: int, echo: int = 0) -> bytes:
    """The option as every current stack sends it: two NOPs, then twelve bytes in all."""
    return nop(2) + bare_timestamps(value, echo)


def bare_timestamps(value: int, echo: int = 0) -> bytes:
    return struct.pack("!BBII", 8, 10, value, echo)


def ones_sum(data: bytes) -> int:
    """The 16-bit ones' complement sum (RFC 1071 §4.1), not inverted."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _pseudo_header(source: str, destination: str, protocol: int, length: int) -> bytes:
    return IPv4Address(source).packed + IPv4Address(destination).packed + struct.pack("!HH", protocol, length)


def _with_checksum(source: str, destination: str, protocol: int, body: bytes, at: int, checksum: Checksum) -> bytes:
    """`body` with its checksum at `at`: finished, or only the pseudo-header's sum as offloads leave it."""
    pseudo = _pseudo_header(source, destination, protocol, len(body))
    value = ones_sum(pseudo) if checksum == "partial" else 0xFFFF - ones_sum(pseudo + body)
    return body[:at] + value.to_bytes(2, "big") + body[at + 2 :]


@dataclass(frozen=True, slots=True)
class Segment:
    """What a trace would print of a TCP frame."""

    source: str
    destination: str
    sport: int
    dport: int
    seq: int
    ack: int
    flags: str
    options: bytes
    payload: bytes
    checksum_right: bool

    @property
    def timestamps(self) -> tuple[int, int] | None:
        """TSval and TSecr of the option, wherever it stands."""
        body = self.option(8)
        return struct.unpack("!II", body) if body is not None and len(body) == 8 else None

    @property
    def sack(self) -> list[tuple[int, int]]:
        return list(struct.iter_unpack("!II", self.option(5) or b""))

    def option(self, kind: int) -> bytes | None:
        """The body of the first option of this kind."""
        rest = self.options
        while rest and rest[0] != 0:
            length = 1 if rest[0] == 1 else rest[1]
            if rest[0] == kind:
                return rest[2:length]
            rest = rest[length:]
        return None


def read_tcp(frame: bytes | bytearray, start: int = 0) -> Segment:
    """Take a TCP frame apart again; `start` skips a virtio-net header."""
    packet = bytes(frame[start + 14 :])
    packet = packet[: int.from_bytes(packet[2:4], "big")]
    segment = packet[(packet[0] & 15) * 4 :]
    sport, dport, seq, ack, bits = struct.unpack_from("!HHIIH", segment)
    source, destination = str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))
    pseudo = _pseudo_header(source, destination, _TCP_PROTOCOL, len(segment))
    header = (bits >> 12) * 4
    return Segment(
        source=source,
        destination=destination,
        sport=sport,
        dport=dport,
        seq=seq,
        ack=ack,
        flags="".join(letter for letter, bit in _FLAGS.items() if bits & bit),
        options=segment[20:header],
        payload=segment[header:],
        checksum_right=ones_sum(pseudo + segment) == 0xFFFF,
    )
