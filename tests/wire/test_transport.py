"""What IP carries: TCP, UDP and ICMP headers, and what is refused. The same behind either family."""

from __future__ import annotations

import pytest

from tests import forms, packets
from tests.wire.reading import IP, altered, datagram, refused, segment

TCP_FRAME = packets.tcp(seq=7, ack=9, flags="P", payload=b"hello")


def carried(protocol: int, body: bytes) -> bytes:
    return packets.ethernet(packets.ipv4("10.0.0.2", "10.0.0.9", protocol, body))


@pytest.mark.parametrize("ip_options", [b"", b"\x01\x01\x01\x01"], ids=["fast path", "slow path"])
def test_the_reserved_bits_between_offset_and_flags_are_no_flags(ip_options: bytes) -> None:
    frame = packets.tcp(ip_options=ip_options)
    at = IP + 32 + len(ip_options)
    assert segment(altered(frame, at, b"\x5e\x18")).flags == 0x18
    assert segment(altered(frame, at, b"\x5f\x18")).flags == 0x118


@pytest.mark.parametrize("offset", [0, 1, 4, 7, 15])
def test_a_tcp_data_offset_that_does_not_fit(offset: int) -> None:
    assert "data offset" in refused(altered(TCP_FRAME, IP + 32, bytes((offset << 4,))))
    assert "data offset" in refused(altered(forms.over_ipv6(TCP_FRAME), IP + 52, bytes((offset << 4,))))


def test_a_udp_datagram_without_its_checksum() -> None:
    one = datagram(packets.udp(payload=b"abc"))
    other = datagram(packets.udp(payload=b"abc", checksum="partial", padding=4, ip_options=b"\x01\x01\x01\x01"))
    assert (one.flow, one.content) == (other.flow, other.content)
    assert (one.content, one.length, other.length) == (b"abc", 31, 35)


def test_bytes_behind_a_udp_datagram_do_not_count() -> None:
    assert datagram(carried(17, b"\0\x35\x13\x88\0\x0b\0\0abcTRAILER")).content == b"abc"


def test_icmp_without_its_checksum() -> None:
    frame = packets.icmp(kind=8, code=1, body=b"abcd")
    assert datagram(frame).content == b"\x08\x01abcd"
    assert datagram(altered(frame, IP + 22, b"zz")).content == b"\x08\x01abcd"


@pytest.mark.parametrize("body", [b"", b"\0\x35\x13\x88\0\x08\0"])
def test_a_udp_header_that_is_cut_off(body: bytes) -> None:
    assert "UDP header" in refused(carried(17, body))
    assert "UDP header" in refused(forms.over_ipv6(carried(17, body)))


@pytest.mark.parametrize("length", [0, 7, 12, 0xFFFF])
def test_a_udp_length_that_does_not_fit(length: int) -> None:
    frame = packets.udp(payload=b"abc")
    assert "UDP length" in refused(altered(frame, IP + 24, length.to_bytes(2, "big")))


@pytest.mark.parametrize("body", [b"", b"\x08\0\0"])
def test_an_icmp_header_that_is_cut_off(body: bytes) -> None:
    assert "ICMP header" in refused(carried(1, body))
    assert "ICMP header" in refused(forms.over_ipv6(carried(1, body)))


def test_icmp_of_the_other_family_is_a_protocol_like_others() -> None:
    assert datagram(carried(58, b"\x87\0\0\0")).content == b"\x87\0\0\0"
