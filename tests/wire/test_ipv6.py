"""IPv6: extension headers, fragments, and what is refused."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from colo_bridge.wire.packet import NotCompared
from tests import forms, packets
from tests.wire.reading import IP, altered, datagram, fragment, parse, refused, segment

TCP_FRAME = forms.over_ipv6(packets.tcp(seq=7, ack=9, flags="P", payload=b"hello"))
ADDRESSES = b"".join(IPv6Address(forms.ipv6_of(address)).packed for address in ("10.0.0.2", "10.0.0.9"))
AUTHENTICATION = (forms.AUTHENTICATION, bytes((4,)) + bytes(22))
EXTENSIONS = {
    "none": [],
    "hop-by-hop options": [(forms.HOP_BY_HOP, forms.options_header())],
    "longer ones": [(forms.HOP_BY_HOP, forms.options_header(30))],
    "a routing header": [(forms.ROUTING, forms.routing_header(0, "fd00::7"))],
    "a whole packet as a fragment": [(forms.FRAGMENT, forms.fragment_header(0, False, 99))],
    "an authentication header": [AUTHENTICATION],
    "mobility, HIP and Shim6": [(number, forms.options_header()) for number in (135, 139, 140)],
    "many": [(forms.DESTINATION, forms.options_header())] * 15,
}


def frame_of(protocol: int, body: bytes, *extensions: tuple[int, bytes]) -> bytes:
    packet = forms.ipv6(forms.ipv6_of("10.0.0.2"), forms.ipv6_of("10.0.0.9"), protocol, body, *extensions)
    return packets.ethernet(packet, 0x86DD)


@pytest.mark.parametrize("extensions", EXTENSIONS.values(), ids=EXTENSIONS)
@pytest.mark.parametrize("options", [b"", packets.timestamps(1, 2)], ids=["plain", "TCP options"])
@pytest.mark.parametrize("padding", [0, 6])
def test_a_tcp_segment(extensions: list[tuple[int, bytes]], options: bytes, padding: int) -> None:
    frame = packets.tcp(seq=0xFFFFFFFE, ack=9, flags="PF", payload=b"hello", options=options, padding=padding)
    frame = forms.over_ipv6(frame, *extensions)
    packet = segment(frame)
    assert frame[packet.payload : packet.end] == b"hello"
    assert packet.end == len(frame) - padding
    assert (packet.ip, packet.payload - packet.tcp) == (IP, 20 + len(options))
    assert (packet.sequence, packet.acknowledgment, packet.flags, packet.window) == (0xFFFFFFFE, 9, 0x19, 0xFFFF)
    assert packet.connection == ADDRESSES + (80).to_bytes(2, "big") + (5000).to_bytes(2, "big")


@pytest.mark.parametrize("extensions", EXTENSIONS.values(), ids=EXTENSIONS)
def test_datagrams(extensions: list[tuple[int, bytes]]) -> None:
    udp = datagram(forms.over_ipv6(packets.udp(payload=b"abc"), *extensions))
    assert udp.content == b"abc"
    assert udp.flow == bytes((0x60, 17)) + ADDRESSES + b"\0\x35\x13\x88"
    echo = datagram(forms.over_ipv6(packets.icmp(kind=8, code=1, body=b"abcd"), *extensions))
    assert echo.content == b"\x80\x01abcd"
    other = datagram(frame_of(132, b"abcd", *extensions))
    assert (other.content, other.flow) == (b"abcd", bytes((0x60, 132)) + ADDRESSES)


def test_what_the_last_extension_header_names_may_be_nothing() -> None:
    """No next header (RFC 8200 §4.7): compared like any other protocol."""
    assert datagram(frame_of(59, b"")).content == b""


def test_encrypted_contents_are_compared_as_they_are() -> None:
    assert datagram(frame_of(50, b"sealed")).content == b"sealed"


@pytest.mark.parametrize("kind", [130, 131, 132, 133, 134, 135, 136, 137, 143, 151, 152, 153])
def test_what_a_guest_tells_its_link(kind: int) -> None:
    assert parse(forms.neighbour(kind)) is NotCompared.NEIGHBOUR


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 128, 129, 138, 144, 160])
def test_other_messages_are_compared(kind: int) -> None:
    assert datagram(forms.neighbour(kind)).content[0] == kind


def test_the_types_of_icmpv6_mean_nothing_in_icmp() -> None:
    assert datagram(packets.icmp(kind=135)).content[0] == 135


# Fragments.


def test_a_fragment_with_its_place() -> None:
    whole = forms.over_ipv6(packets.udp(payload=bytes(range(40))))
    frame = forms.fragment(whole, 16, 32, identification=0x12345678)
    packet = fragment(frame)
    assert frame[packet.body : packet.end] == whole[-32:-16]
    assert (packet.ip, packet.offset, packet.is_last, packet.length) == (IP, 16, False, 64)
    assert packet.datagram == bytes((0x60, 44)) + ADDRESSES + bytes.fromhex("12345678")
    assert packet.header == altered(whole[IP : IP + 40], 4, frame[IP + 4 : IP + 6])


def test_headers_ahead_of_the_fragment_header_belong_to_every_fragment() -> None:
    hop, destination = (forms.HOP_BY_HOP, forms.options_header()), (forms.DESTINATION, forms.options_header())
    part = (forms.FRAGMENT, forms.fragment_header(0, True, 1))
    frame = frame_of(17, bytes(8), hop, part, destination)
    packet = fragment(frame)
    assert packet.header[6] == forms.HOP_BY_HOP
    assert packet.header[40] == forms.DESTINATION
    assert len(packet.header) == 48
    assert packet.end - packet.body == 16


@pytest.mark.parametrize("size", [0, 7, 9])
def test_a_fragment_of_another_size_than_eights_that_is_not_the_last(size: int) -> None:
    part = (forms.FRAGMENT, forms.fragment_header(8, True, 1))
    assert "multiple of 8" in refused(frame_of(17, bytes(size), part))


def test_a_fragment_beyond_the_largest_packet() -> None:
    part = (forms.FRAGMENT, forms.fragment_header(0xFFF8, False, 1))
    assert fragment(frame_of(17, bytes(7), part)).offset == 0xFFF8
    assert "largest packet" in refused(frame_of(17, bytes(8), part))
    hop = (forms.HOP_BY_HOP, forms.options_header())
    assert "largest packet" in refused(frame_of(17, b"", hop, part))


# What is refused.


@pytest.mark.parametrize("length", [IP, IP + 1, IP + 39])
def test_a_packet_without_an_ip_header(length: int) -> None:
    assert "IPv6 header" in refused(TCP_FRAME[:length])


@pytest.mark.parametrize("version", [0x05, 0x40, 0x50, 0xF0])
def test_another_ip_version(version: int) -> None:
    assert "version" in refused(altered(TCP_FRAME, IP, bytes((version,))))


def test_a_length_that_does_not_fit() -> None:
    for length in (len(TCP_FRAME) - IP - 39, 0xFFFF):
        assert "IPv6 length" in refused(altered(TCP_FRAME, IP + 4, length.to_bytes(2, "big")))
    assert "IPv6 length" in refused(TCP_FRAME[:-1])


def test_a_jumbogram() -> None:
    frame = frame_of(17, bytes(8), (forms.HOP_BY_HOP, forms.options_header()))
    assert "jumbogram" in refused(altered(frame, IP + 4, bytes(2)))


@pytest.mark.parametrize("length", [0, 19])
def test_a_tcp_header_that_is_cut_off(length: int) -> None:
    assert "TCP header" in refused(frame_of(6, bytes(length)))
    assert "TCP header" in refused(altered(TCP_FRAME, IP + 4, length.to_bytes(2, "big")))


@pytest.mark.parametrize("number", [0, 43, 44, 51, 60])
@pytest.mark.parametrize("size", [0, 7])
def test_an_extension_header_that_is_cut_off(number: int, size: int) -> None:
    frame = altered(frame_of(17, bytes(size)), IP + 6, bytes((number,)))
    assert ("jumbogram" if number == size == 0 else "cut off") in refused(frame)


@pytest.mark.parametrize("number", [0, 43, 51, 60])
def test_an_extension_header_longer_than_the_packet(number: int) -> None:
    assert "cut off" in refused(frame_of(17, b"", (number, bytes((5,)) + bytes(14))))


def test_more_extension_headers_than_anybody_sends() -> None:
    assert "extension headers" in refused(frame_of(17, bytes(8), *EXTENSIONS["many"], *EXTENSIONS["many"][:1]))
