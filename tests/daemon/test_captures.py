"""Capture files of every kind that is read, and every way in which a file can be broken."""

from __future__ import annotations

import gzip
import itertools
import struct
from pathlib import Path

import pytest
from dpkt import pcap
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colo_bridge.daemon.captures import Capture, Record
from colo_bridge.errors import OperatorError
from colo_bridge.wire.linktype import addresses
from tests import packets
from tests.captures import BEGAN, write_pcap

FRAME = packets.tcp(payload=b"hello", ack=1)
IPV6 = b"\x60\0\0\0\0\x04\x3b\x40" + bytes(range(32)) + b"body"
TIME = BEGAN + 123_456_789


def records(path: Path, interface: str | None = None) -> list[Record]:
    capture = Capture(path, interface)
    try:
        return list(capture)
    finally:
        capture.close()


def problem(path: Path, interface: str | None = None) -> str:
    with pytest.raises(OperatorError) as caught:
        records(path, interface)
    assert str(path) in str(caught.value)
    return caught.value.problem


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", *, link_type: int = 1, options: bytes = b"") -> bytes:
    return block(1, struct.pack(f"{order}HHI", link_type, 0, 0) + options, order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def enhanced(ticks: int, data: bytes = FRAME, order: str = "<", *, index: int = 0, length: int | None = None) -> bytes:
    header = (index, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data) if length is None else length)
    return block(6, struct.pack(f"{order}IIIII", *header) + data, order)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.capture"


# pcap.


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "part", "time"), [(0xA1B2C3D4, 123_456, 123_456_000), (0xA1B23C4D, 123_456, 123_456)]
)
def test_pcap_of_both_resolutions_and_byte_orders(file: Path, order: str, magic: int, part: int, time: int) -> None:
    header = struct.pack(f"{order}IHHIIII", magic, 2, 4, 0, 0, 65_535, 1)
    file.write_bytes(header + struct.pack(f"{order}IIII", 7, part, len(FRAME), len(FRAME)) + FRAME)
    assert records(file) == [Record(7_000_000_000 + time, 1, bytearray(FRAME), False)]


def test_pcap_as_a_library_writes_it(file: Path) -> None:
    with file.open("wb") as opened:
        writer = pcap.Writer(opened)
        writer.writepkt(FRAME, ts=5.25)
        writer.writepkt(FRAME, ts=6)
    assert [(record.time, record.number) for record in records(file)] == [(5_250_000_000, 1), (6_000_000_000, 2)]


def test_a_cut_packet_says_so(file: Path) -> None:
    (record,) = records(write_pcap(file, [(TIME, FRAME)], snap_length=20))
    assert (record.frame, record.is_cut) == (FRAME[:20], True)


@pytest.mark.parametrize(
    ("link_type", "header", "packet"),
    [
        (0, b"\x02\0\0\0", FRAME[14:]),
        (0, b"\x1e\0\0\0", IPV6),
        (108, b"\0\0\0\x02", FRAME[14:]),
        (12, b"", FRAME[14:]),
        (101, b"", FRAME[14:]),
        (101, b"", IPV6),
        (228, b"", FRAME[14:]),
        (229, b"", IPV6),
        (113, bytes(14) + b"\x08\x00", FRAME[14:]),
        (113, bytes(14) + b"\x81\x00\x00\x07\x86\xdd", IPV6),
        (276, b"\x08\x00" + bytes(18), FRAME[14:]),
        (276, b"\x86\xdd" + bytes(18), IPV6),
    ],
)
def test_every_link_type_gives_the_same_packet(file: Path, link_type: int, header: bytes, packet: bytes) -> None:
    (record,) = records(write_pcap(file, [(TIME, header + packet)], link_type=link_type))
    assert record.frame.endswith(packet)
    ends = (packet[12:16], packet[16:20]) if packet[0] >> 4 == 4 else (packet[8:24], packet[24:40])
    assert addresses(record.frame) == ends


@pytest.mark.parametrize(("link_type", "length"), [(113, 15), (276, 19), (101, 0), (0, 3), (1, 13)])
def test_what_is_shorter_than_its_link_header_has_no_addresses(file: Path, link_type: int, length: int) -> None:
    (record,) = records(write_pcap(file, [(TIME, bytes(length))], link_type=link_type))
    assert addresses(record.frame) is None


def test_an_unknown_link_type_is_named(file: Path) -> None:
    assert "link type 127 is not supported" in problem(write_pcap(file, [(TIME, FRAME)], link_type=127))


# pcapng.


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_of_both_byte_orders(file: Path, order: str) -> None:
    file.write_bytes(section(order) + interface(order) + enhanced(TIME // 1_000, order=order))
    assert records(file) == [Record(TIME // 1_000 * 1_000, 1, bytearray(FRAME), False)]


@pytest.mark.parametrize(
    ("options", "ticks", "time"),
    [
        (option(9, b"\x09"), TIME, TIME),
        (option(9, b"\x03"), 5_001, 5_001_000_000),
        (option(9, b"\x8a"), 5 << 10 | 512, 5_500_000_000),
        (option(2, b"eth0") + option(14, struct.pack("<q", 100)), 1_000_000, 101_000_000_000),
        (option(0, b"") + option(9, b"\x09"), 1_000_000, 1_000_000_000),
    ],
)
def test_times_are_in_the_units_of_their_interface(file: Path, options: bytes, ticks: int, time: int) -> None:
    file.write_bytes(section() + interface(options=options) + enhanced(ticks))
    assert [record.time for record in records(file)] == [time]


def test_each_section_has_its_interfaces_and_what_is_unknown_is_passed_over(file: Path) -> None:
    other = section(">") + interface(">", link_type=101) + enhanced(2, FRAME[14:], ">")
    file.write_bytes(section() + block(5, bytes(12)) + interface() + enhanced(1) + block(0xBAD, b"?") + other)
    assert [(record.time, addresses(record.frame)) for record in records(file)] == [
        (1_000, addresses(FRAME)),
        (2_000, addresses(FRAME)),
    ]


def test_interfaces_are_told_apart_by_their_names(file: Path) -> None:
    both = interface(options=option(2, b"primary")) + interface(options=option(2, b"secondary"), link_type=101)
    file.write_bytes(section() + both + enhanced(1) + enhanced(2, FRAME[14:], index=1) + enhanced(3))
    assert [record.number for record in records(file, "primary")] == [1, 3]
    assert [record.number for record in records(file, "secondary")] == [2]


def test_older_and_simpler_packets_are_read(file: Path) -> None:
    older = block(2, struct.pack("<HHIIII", 0, 9, 0, 5, len(FRAME), 200) + FRAME)
    simple = block(3, struct.pack("<I", len(FRAME)) + FRAME)
    file.write_bytes(section() + interface() + older + simple)
    assert records(file) == [Record(5_000, 1, bytearray(FRAME), True), Record(5_000, 2, bytearray(FRAME), False)]


def test_a_cut_simple_packet_says_so(file: Path) -> None:
    file.write_bytes(section() + interface() + block(3, struct.pack("<I", 500) + FRAME[:56]))
    assert [(record.frame, record.is_cut) for record in records(file)] == [(FRAME[:56], True)]


# What is broken.


def whole_files(directory: Path) -> list[bytes]:
    older = write_pcap(directory / "old", [(TIME, FRAME), (TIME, FRAME)]).read_bytes()
    return [older, section() + interface(options=option(9, b"\x09")) + enhanced(1) + enhanced(2)]


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_breaks_off_anywhere_is_refused_or_shorter(file: Path, tmp_path: Path, which: int) -> None:
    whole = whole_files(tmp_path)[which]
    outcomes = set()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        try:
            outcomes.add(len(records(file)))
        except OperatorError as error:
            outcomes.add(error.problem.removeprefix(f"{file}: ").split(" ")[0])
    assert outcomes <= {0, 1, "breaks", "empty", "not"}
    assert {"breaks", 1} <= outcomes


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"GET / HTTP/1.0", "not a capture file"),
        (struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1) + struct.pack("<IIII", 0, 0, 1 << 30, 0), "claims"),
        (section()[:8] + bytes(20), "unknown byte order"),
        (section() + struct.pack("<II", 6, 1 << 30), "claims 1073741824 bytes"),
        (section() + struct.pack("<II", 6, 13) + bytes(8), "claims 13 bytes"),
        (section() + interface()[:-4] + bytes(4), "does not end where it says"),
        (section() + block(1, b"\1\0"), "too short for what it is"),
        (section() + interface() + block(6, bytes(8)), "too short for what it is"),
        (section() + enhanced(1), "has no interface"),
        (section() + interface() + enhanced(1, index=1), "has no interface"),
        (section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 100, 100) + FRAME[:4]), "does not fit"),
        (section() + interface(link_type=127) + enhanced(1), "link type 127"),
        (gzip.compress(section())[:-4], "broken gzip"),
        (b"\x1f\x8b" + bytes(20), "broken gzip"),
    ],
)
def test_what_is_broken_is_named(file: Path, data: bytes, said: str) -> None:
    file.write_bytes(data)
    assert said in problem(file)


def test_an_error_of_the_kernel_is_one_sentence() -> None:
    """Nothing is mapped where this file begins."""
    assert "cannot read" in problem(Path("/proc/self/mem"))


def test_a_pcap_file_has_no_interfaces_to_choose_from(file: Path) -> None:
    assert "no names of interfaces" in problem(write_pcap(file, [(TIME, FRAME)]), "primary")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 1))
def test_any_damage_is_an_operator_error_or_other_packets(
    tmp_path: Path, damage: list[tuple[int, int]], which: int
) -> None:
    data = bytearray(whole_files(tmp_path)[which])
    for at, value in damage:
        data[at % len(data)] = value
    file = tmp_path / "damaged"
    file.write_bytes(data)
    try:
        assert len(records(file)) <= len(data)
    except OperatorError as error:
        assert str(file) in str(error)


def test_memory_is_that_of_a_packet(file: Path) -> None:
    """A hundred thousand packets are not read before the first is handed out."""
    write_pcap(file, [(TIME, FRAME)] * 100_000)
    capture = Capture(file)
    first = list(itertools.islice(capture, 1))
    assert (len(first), capture.position <= 2 << 20 < capture.size) == (1, True)
    capture.close()
