"""Reads pcapng files block by block with dpkt, which shares no code with what writes them here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpkt import pcapng


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
