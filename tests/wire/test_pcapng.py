"""pcapng as written here, read back with a library."""

from __future__ import annotations

from pathlib import Path

from colo_bridge.wire import pcapng
from tests import packets
from tests.captures import Captured, read_pcapng

PACKET = packets.udp(payload=b"hello")[14:]
TIME = 1_790_000_000_123_456_789


def written(tmp_path: Path, *blocks: bytes, snap_length: int = 100) -> list[Captured]:
    file = tmp_path / "file.pcapng"
    file.write_bytes(pcapng.section(("primary", "secondary"), snap_length) + b"".join(blocks))
    return read_pcapng(file)


def test_packets_keep_their_interface_time_bytes_and_comment(tmp_path: Path) -> None:
    blocks = [
        pcapng.packet(interface, TIME + interface, PACKET, 100, comment)
        for interface, comment in ((1, "Größe"), (0, "x"))
    ]
    assert written(tmp_path, *blocks) == [
        Captured("secondary", pcapng.RAW_IP, TIME + 1, PACKET, len(PACKET), "Größe"),
        Captured("primary", pcapng.RAW_IP, TIME, PACKET, len(PACKET), "x"),
    ]


def test_a_long_packet_is_cut_and_says_so(tmp_path: Path) -> None:
    (read,) = written(tmp_path, pcapng.packet(0, TIME, PACKET, 29, ""), snap_length=29)
    assert (read.data, read.length) == (PACKET[:29], len(PACKET))


def test_a_packet_of_which_only_headers_are_kept_says_its_length(tmp_path: Path) -> None:
    ipv6 = bytes((0x60, 0, 0, 0, 0x04, 0x00)) + bytes(34)
    read = written(tmp_path, pcapng.packet(0, TIME, PACKET[:28], 100, ""), pcapng.packet(0, TIME, ipv6, 100, ""))
    assert [packet.length for packet in read] == [len(PACKET), 40 + 1024]


def test_a_comment_too_long_for_an_option_is_cut(tmp_path: Path) -> None:
    (read,) = written(tmp_path, pcapng.packet(0, TIME, PACKET, 100, "x" * 70_000))
    assert read.comment == "x" * 65_535


def test_no_packet_at_all_is_a_packet_of_no_length(tmp_path: Path) -> None:
    (read,) = written(tmp_path, pcapng.packet(0, TIME, b"", 100, "nothing is kept"))
    assert (read.data, read.length, read.comment) == (b"", 0, "nothing is kept")
