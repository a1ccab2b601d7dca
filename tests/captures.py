"""Captures for tests: written by hand or with dpkt, and read block by block with dpkt."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from dpkt import pcapng

from tests import packets


@dataclass(frozen=True, slots=True)
class Captured:
    """One packet of a pcapng file."""

    interface: str
    link_type: int
    time: int
    data: bytes
    length: int
    comment: str


def read_pcapng(path: Path) -> list[Captured]:
    """All packets; times in nanoseconds, as the files here give them."""
    rest, interfaces, packets = path.read_bytes(), [], []
    pcapng.SectionHeaderBlockLE(_first(rest))
    while rest:
        block, rest = _first(rest), rest[len(_first(rest)) :]
        kind = int.from_bytes(block[:4], "little")
        if kind == pcapng.PCAPNG_BT_IDB:
            interfaces.append(pcapng.InterfaceDescriptionBlockLE(block))
        elif kind == pcapng.PCAPNG_BT_EPB:
            packets.append(_packet(pcapng.EnhancedPacketBlockLE(block), interfaces))
    return packets


def _first(data: bytes) -> bytes:
    return data[: int.from_bytes(data[4:8], "little")]


def _packet(block: pcapng.EnhancedPacketBlockLE, interfaces: list[pcapng.InterfaceDescriptionBlockLE]) -> Captured:
    interface = interfaces[block.iface_id]
    assert _option(interface, pcapng.PCAPNG_OPT_IF_TSRESOL) == b"\x09"
    return Captured(
        interface=_option(interface, pcapng.PCAPNG_OPT_IF_NAME).decode(),
        link_type=interface.linktype,
        time=block.ts_high << 32 | block.ts_low,
        data=block.pkt_data,
        length=block.pkt_len,
        comment=_option(block, pcapng.PCAPNG_OPT_COMMENT).decode(),
    )


def _option(block: pcapng._PcapngBlock, code: int) -> bytes:
    return next(option.data for option in block.opts if option.code == code)


# Sessions to be captured, and the files.

SECOND = 1_000_000_000
BEGAN = 1_790_000_000 * SECOND
"""Nanoseconds since 1970."""

Frames = list[tuple[int, bytes]]
"""Frames with their times."""


@dataclass(frozen=True, slots=True)
class Replica:
    """What is a replica's own: its numbers."""

    isn: int
    stamp: int
    """TSval of its first packet."""


ALIKE, OTHER = Replica(1_000, 500_000), Replica(0xFFFFFF00, 70_000)


def conversation(
    replica: Replica, *, response: bytes = b"The answer is 42.\n" * 200, cut: int = 1_000, opens: bool = False
) -> tuple[Frames, Frames]:
    """What the guest sends, and what the client sends to it with the primary's numbers (those of ALIKE).

    The client asks for `response`; `cut`: bytes in a segment; `opens`: the guest opens the connection.
    """
    guest, client = _Side(replica, to_guest=False), _Side(Replica(9_000_000, 8_000), to_guest=True)
    client.peer = ALIKE
    if opens:
        guest.sends(0, "S", ack=False)
        client.received = 1
        client.sends(1, "S")
        guest.has_received_from(client)
    else:
        client.sends(0, "S", ack=False)
        guest.has_received_from(client)
        guest.sends(1, "S")
        client.received = 1
    client.sends(2, "")
    client.sends(3, "P", b"GET / HTTP/1.0\r\n\r\n")
    guest.has_received_from(client)
    guest.sends(4, "")
    for index, at in enumerate(range(0, len(response), cut)):
        guest.sends(5 + index, "P", response[at : at + cut])
    guest.sends(300, "F")
    client.received = guest.next
    client.sends(301, "F")
    guest.has_received_from(client)
    guest.sends(302, "")
    return guest.frames, client.frames


class _Side:
    """One end of a connection; numbers count from its ISN."""

    def __init__(self, replica: Replica, *, to_guest: bool) -> None:
        self.replica = replica
        self.peer = Replica(9_000_000, 8_000)
        self.to_guest = to_guest
        self.next = self.received = 0
        self.frames: Frames = []

    def has_received_from(self, other: _Side) -> None:
        self.received = other.next

    def sends(self, milliseconds: int, flags: str, payload: bytes = b"", *, ack: bool = True) -> None:
        ends = {"source": "10.0.0.9", "destination": "10.0.0.2", "sport": 5000, "dport": 80} if self.to_guest else {}
        frame = packets.tcp(
            **ends,
            seq=(self.replica.isn + self.next) & 0xFFFFFFFF,
            ack=(self.peer.isn + self.received) & 0xFFFFFFFF if ack else None,
            flags=flags,
            payload=payload,
            options=packets.timestamps(self.replica.stamp + milliseconds, self.peer.stamp + milliseconds if ack else 0),
        )
        if self.to_guest:
            frame = packets.GUEST_MAC + packets.CLIENT_MAC + frame[12:]
        self.next += len(payload) + ("S" in flags) + ("F" in flags)
        self.frames.append((BEGAN + milliseconds * 1_000_000, frame))


def merged(*frames: Frames) -> Frames:
    return sorted((pair for part in frames for pair in part), key=lambda pair: pair[0])


def tagged(frames: Frames, vlan: int) -> Frames:
    return [(time, frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]) for time, frame in frames]


def over_ipv6(frames: Frames) -> Frames:
    """The same segments behind IPv6 headers, with checksums that are now wrong."""
    return [(time, _ipv6(frame)) for time, frame in frames]


def _ipv6(frame: bytes) -> bytes:
    packet = frame[14:]
    body = packet[20:]
    addresses = b"".join(bytes.fromhex("fd00") + bytes(10) + packet[at : at + 4] for at in (12, 16))
    return frame[:12] + b"\x86\xdd\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x06\x40" + addresses + body


def write_pcap(path: Path, frames: Frames, *, link_type: int = 1, strip: int = 0, snap_length: int = 1 << 18) -> Path:
    """`strip` bytes are taken from the front of each frame; longer ones than `snap_length` are cut."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, snap_length, link_type))
        for time, frame in frames:
            data = frame[strip:]
            captured = data[:snap_length]
            file.write(struct.pack("<IIII", time // SECOND, time % SECOND, len(captured), len(data)) + captured)
    return path


def write_pcapng(path: Path, frames: Frames) -> Path:
    with path.open("wb") as file:
        pcapng.Writer(file, snaplen=1 << 18).writepkts((time / SECOND, frame) for time, frame in frames)
    return path
