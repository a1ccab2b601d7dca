"""IPv4: what stands where, fragments, and what is refused."""

from __future__ import annotations

import pytest

from tests import forms, packets
from tests.wire.reading import IP, altered, datagram, fragment, parse, refused, segment

TCP_FRAME = packets.tcp(seq=7, ack=9, flags="P", payload=b"hello")
LARGEST_OFFSET = 0x1FFF


@pytest.mark.parametrize("ip_options", [b"", b"\x94\x04\0\0"], ids=["plain", "IP options"])
@pytest.mark.parametrize("options", [b"", packets.timestamps(1, 2)], ids=["plain", "TCP options"])
@pytest.mark.parametrize("padding", [0, 6])
def test_a_tcp_segment(ip_options: bytes, options: bytes, padding: int) -> None:
    frame = packets.tcp(
        seq=0xFFFFFFFE,
        ack=9,
        flags="PF",
        payload=b"hello",
        ip_options=ip_options,
        options=options,
        padding=padding,
    )
    packet = segment(frame)
    assert frame[packet.payload : packet.end] == b"hello"
    assert (packet.ip, packet.tcp) == (IP, IP + 20 + len(ip_options))
    assert (packet.sequence, packet.acknowledgment, packet.flags, packet.window) == (0xFFFFFFFE, 9, 0x19, 0xFFFF)
    assert packet.connection == bytes((10, 0, 0, 2, 10, 0, 0, 9)) + (80).to_bytes(2, "big") + (5000).to_bytes(2, "big")


def test_do_not_fragment_and_the_reserved_bit_make_no_fragment() -> None:
    for bits in (0x4000, 0x8000):
        assert segment(packets.tcp(fragment=bits)).sequence == 0


# Fragments.


@pytest.mark.parametrize("ip_options", [b"", b"\x94\x04\0\0"], ids=["plain", "IP options"])
def test_a_fragment_with_its_place(ip_options: bytes) -> None:
    whole = packets.udp(payload=bytes(range(40)), ip_options=ip_options)
    frame = forms.fragment(whole, 16, 32, identification=0x1234)
    packet = fragment(frame)
    assert frame[packet.body : packet.end] == whole[-32:-16]
    assert (packet.ip, packet.offset, packet.is_last) == (IP, 16, False)
    assert packet.length == 20 + len(ip_options) + 16
    assert packet.datagram == bytes((0x40, 17, 10, 0, 0, 2, 10, 0, 0, 9, 0x12, 0x34))
    header = frame[IP : IP + 20 + len(ip_options)]
    assert packet.header == altered(header, 6, bytes(2))


def test_the_first_and_the_last_fragment() -> None:
    first, last = (fragment(frame) for frame in forms.fragments(packets.udp(payload=bytes(40)), 16))
    assert (first.offset, first.is_last) == (0, False)
    assert (last.offset, last.is_last, last.end - last.body) == (16, True, 32)
    assert first.datagram == last.datagram


def test_a_fragment_may_be_part_of_any_protocol() -> None:
    assert fragment(packets.tcp(fragment=0x00FF)).offset == 0xFF * 8
    assert fragment(packets.ethernet(packets.ipv4("10.0.0.2", "10.0.0.9", 2, b"x", fragment=1))).datagram[1] == 2


@pytest.mark.parametrize("size", [0, 7, 9])
def test_a_fragment_of_another_size_than_eights_that_is_not_the_last(size: int) -> None:
    packet = packets.ipv4("10.0.0.2", "10.0.0.9", 17, bytes(size), fragment=0x2001)
    assert "multiple of 8" in refused(packets.ethernet(packet))


def test_a_fragment_beyond_the_largest_packet() -> None:
    beyond = packets.ipv4("10.0.0.2", "10.0.0.9", 17, b"", fragment=LARGEST_OFFSET)
    assert "largest packet" in refused(packets.ethernet(beyond))
    nearly = packets.ipv4("10.0.0.2", "10.0.0.9", 17, bytes(11), fragment=LARGEST_OFFSET - 3)
    assert fragment(packets.ethernet(nearly)).offset == (LARGEST_OFFSET - 3) * 8
    nearly = packets.ipv4("10.0.0.2", "10.0.0.9", 17, bytes(12), fragment=LARGEST_OFFSET - 3)
    assert "largest packet" in refused(packets.ethernet(nearly))


# What is refused.


@pytest.mark.parametrize("length", [14, 17, 33])
def test_a_packet_without_an_ip_header(length: int) -> None:
    assert "IPv4 header" in refused(TCP_FRAME[:length])


@pytest.mark.parametrize("version", [0x05, 0x35, 0x65, 0xF5])
def test_another_ip_version(version: int) -> None:
    assert "version" in refused(altered(TCP_FRAME, IP, bytes((version,))))


@pytest.mark.parametrize("header_length", [0x40, 0x44, 0x4F])
def test_an_ip_header_length_that_does_not_fit(header_length: int) -> None:
    assert "IPv4 lengths" in refused(altered(packets.udp(), IP, bytes((header_length,))))


@pytest.mark.parametrize("total", [0, 19, len(TCP_FRAME) - IP + 1, 0xFFFF])
def test_an_ip_length_that_does_not_fit(total: int) -> None:
    assert "IPv4 lengths" in refused(altered(TCP_FRAME, IP + 2, total.to_bytes(2, "big")))


@pytest.mark.parametrize("total", [20, 30, 39])
def test_a_tcp_header_that_is_cut_off(total: int) -> None:
    assert "TCP header" in refused(altered(TCP_FRAME, IP + 2, total.to_bytes(2, "big")))
    assert "TCP header" in refused(altered(TCP_FRAME, IP + 2, total.to_bytes(2, "big"))[: IP + total])


def test_another_protocol_whole() -> None:
    packet = datagram(packets.ethernet(packets.ipv4("10.0.0.2", "10.0.0.9", 2, b"abcd")))
    assert (packet.content, packet.length) == (b"abcd", 24)
    assert parse(packets.ethernet(packets.ipv4("10.0.0.2", "10.0.0.9", 2, b"")))
