"""Ethernet frames: tags, what is not IP, what is cut short, and that nothing is read past an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.wire.flow import describe_flow
from colo_bridge.wire.frame import cut_short, parse_frame, parse_ip, parse_reassembled
from colo_bridge.wire.packet import CutShort, Fragment, MalformedPacket, NotCompared, TcpPacket
from tests import forms, packets
from tests.wire.reading import IP, altered, datagram, fragment, parse, refused, segment

TCP_FRAME = packets.tcp(seq=7, ack=9, flags="P", payload=b"hello")
TCP6_FRAME = forms.over_ipv6(TCP_FRAME)


def test_a_segment_anywhere_in_a_larger_buffer() -> None:
    for frame in (TCP_FRAME, TCP6_FRAME, forms.tagged(TCP_FRAME, 7), forms.tagged(TCP6_FRAME, 8, 7)):
        buffer = bytearray(b"x" * 12 + frame + b"y" * 40)
        packet = parse_frame(buffer, 12, 12 + len(frame))
        assert isinstance(packet, TcpPacket)
        assert buffer[packet.payload : packet.end] == b"hello"
        assert packet.buffer is buffer


@pytest.mark.parametrize("frame", [TCP_FRAME, TCP6_FRAME])
def test_an_ip_packet_without_its_frame(frame: bytes) -> None:
    packet = parse_ip(frame, IP, len(frame))
    assert isinstance(packet, TcpPacket)
    assert packet.sequence == 7
    assert packet.connection == segment(frame).connection


def test_an_empty_ip_packet() -> None:
    with pytest.raises(MalformedPacket, match="shorter than an IPv4 header"):
        parse_ip(b"", 0, 0)


# Tags.


@pytest.mark.parametrize("frame", [TCP_FRAME, TCP6_FRAME])
def test_tags_are_part_of_a_connection(frame: bytes) -> None:
    untagged = segment(frame).connection
    assert segment(forms.tagged(frame, 7)).connection == untagged + bytes.fromhex("81000007")
    assert segment(forms.tagged(frame, 0xFFF, outer=0x88A8)).connection == untagged + bytes.fromhex("88a80fff")
    twice = forms.tagged(frame, 8, 7, outer=0x88A8)
    assert segment(twice).connection == untagged + bytes.fromhex("88a8000881000007")


def test_tags_are_part_of_a_flow_and_of_a_fragments_key() -> None:
    untagged = datagram(packets.udp()).flow
    assert datagram(forms.tagged(packets.udp(), 7)).flow == b"\x41" + untagged[1:] + bytes.fromhex("81000007")
    whole = packets.udp(payload=bytes(8))
    part = fragment(forms.fragment(whole, 8, None)).datagram
    tagged = fragment(forms.tagged(forms.fragment(whole, 8, None), 8, 7)).datagram
    assert tagged == b"\x42" + part[1:] + bytes.fromhex("8100000881000007")


def test_only_the_identifier_of_a_tag_counts() -> None:
    """Priority and drop eligibility may differ; a tag with identifier 0 is a priority alone (IEEE 802.1Q §9.6)."""
    seven = segment(forms.tagged(TCP_FRAME, 7)).connection
    assert segment(forms.tagged(TCP_FRAME, 0xF007)).connection == seven
    assert segment(forms.tagged(TCP_FRAME, 0xE000)).connection == segment(TCP_FRAME).connection
    assert segment(forms.tagged(TCP_FRAME, 0, 7)).connection == seven


def test_more_than_two_tags() -> None:
    assert parse(forms.tagged(TCP_FRAME, 1, 2, 3)) is NotCompared.TAGGED_TOO_OFTEN
    assert parse(forms.tagged(TCP_FRAME, 0, 0, 0)) is NotCompared.TAGGED_TOO_OFTEN


def test_a_tag_ahead_of_what_is_not_ip() -> None:
    assert parse(forms.tagged(packets.arp(), 7)) is NotCompared.NOT_IP
    assert parse(forms.tagged(forms.neighbour(), 7)) is NotCompared.NEIGHBOUR
    assert "802.3 length" in refused(forms.tagged(packets.ethernet(bytes(46), 47), 7))


@pytest.mark.parametrize("length", range(14, 20))
def test_tags_that_are_cut_off(length: int) -> None:
    assert "VLAN tags" in refused(forms.tagged(TCP_FRAME, 8, 7)[:length].ljust(length, b"\0"))


def test_tags_that_are_cut_off_behind_the_first() -> None:
    for length in (18, 19, 20, 21):
        assert "VLAN tags" in refused(forms.tagged(TCP_FRAME, 8, 7)[:length])


# What is not compared.


@pytest.mark.parametrize("ethertype", [0x0806, 0x88CC, 0x0600])
def test_what_is_not_ip(ethertype: int) -> None:
    assert parse(packets.ethernet(bytes(46), ethertype)) is NotCompared.NOT_IP


def test_a_frame_of_ieee_802_3_with_its_length() -> None:
    assert parse(packets.ethernet(bytes(46), 3)) is NotCompared.NOT_IP
    assert parse(packets.ethernet(bytes(46), 46)) is NotCompared.NOT_IP
    assert "802.3 length" in refused(packets.ethernet(bytes(46), 47))


# What is cut short.


@pytest.mark.parametrize(("frame", "header"), [(TCP_FRAME, 20), (TCP6_FRAME, 40)])
def test_a_packet_of_which_only_the_beginning_is_known(frame: bytes, header: int) -> None:
    packet = cut_short(frame, IP, IP + header)
    assert isinstance(packet, CutShort)
    assert (packet.content, packet.length) == (b"", header)
    assert describe_flow(packet.flow).endswith(" cut short")
    with pytest.raises(MalformedPacket, match="shorter than an IP header"):
        cut_short(frame, IP, IP + header - 1)
    with pytest.raises(MalformedPacket, match="shorter than an IP header"):
        cut_short(frame, IP, IP)


# What was put together.


@pytest.mark.parametrize("vlans", [(), (7,), (8, 7)])
@pytest.mark.parametrize("frame", [TCP_FRAME, TCP6_FRAME])
def test_a_packet_put_together_is_the_packet(frame: bytes, vlans: tuple[int, ...]) -> None:
    first, last = (fragment(forms.tagged(part, *vlans)) for part in forms.fragments(frame, 16))
    body = b"".join(part.buffer[part.body : part.end] for part in (first, last))
    packet = parse_reassembled(first.datagram, first.header, body)
    assert isinstance(packet, TcpPacket)
    assert packet.connection == segment(forms.tagged(frame, *vlans)).connection
    assert packet.buffer[packet.payload : packet.end] == b"hello"
    if frame is TCP_FRAME:
        assert packets.ones_sum(packet.buffer[:20]) == 0xFFFF
    assert packet.buffer[4 if frame is TCP6_FRAME else 12 :] == frame[IP + (4 if frame is TCP6_FRAME else 12) :]


@pytest.mark.parametrize("frame", [TCP_FRAME, TCP6_FRAME])
def test_a_packet_put_together_that_is_too_long(frame: bytes) -> None:
    first = fragment(forms.fragment(frame, 0, 16))
    room = 0xFFFF - (20 if frame is TCP_FRAME else 0)
    body = frame[-25:] + bytes(room - 25)
    assert isinstance(parse_reassembled(first.datagram, first.header, body), TcpPacket)
    with pytest.raises(MalformedPacket, match="more than the largest packet"):
        parse_reassembled(first.datagram, first.header, body + b"\0")


def test_what_must_not_be_fragmented() -> None:
    """Neighbour discovery (RFC 6980 §5), and fragments themselves."""
    neighbour = fragment(forms.fragment(forms.neighbour(), 0, 8))
    with pytest.raises(MalformedPacket, match="must not be fragmented"):
        parse_reassembled(neighbour.datagram, neighbour.header, forms.neighbour()[54:])
    inner = forms.over_ipv6(TCP_FRAME, (forms.FRAGMENT, forms.fragment_header(8, True, 1)))
    outer = fragment(forms.fragment(inner, 0, 8))
    with pytest.raises(MalformedPacket, match="must not be fragmented"):
        parse_reassembled(outer.datagram, outer.header, inner[54:] + bytes(7))


# What is refused.


@pytest.mark.parametrize("length", range(14))
def test_a_frame_without_an_ethernet_header(length: int) -> None:
    assert "Ethernet header" in refused(TCP_FRAME[:length])


def parses_or_refuses(frame: bytes) -> None:
    try:
        packet = parse(frame)
    except MalformedPacket:
        return
    if isinstance(packet, TcpPacket):
        assert IP <= packet.ip < packet.tcp <= packet.payload - 20
        assert packet.payload <= packet.end <= len(frame)
    if isinstance(packet, Fragment):
        assert IP <= packet.ip < packet.body <= packet.end <= len(frame)


@given(st.binary(max_size=120))
def test_no_bytes_are_read_past_the_end(noise: bytes) -> None:
    parses_or_refuses(noise)
    parses_or_refuses(packets.ethernet(b"E" + noise))
    parses_or_refuses(packets.ethernet(b"`" + noise, 0x86DD))
    parses_or_refuses(packets.ethernet(noise, 0x8100))


AUTHENTICATION = (forms.AUTHENTICATION, bytes((1,)) + bytes(10))
SAMPLES = [
    TCP_FRAME,
    TCP6_FRAME,
    forms.tagged(TCP6_FRAME, 8, 7),
    forms.over_ipv6(TCP_FRAME, (forms.HOP_BY_HOP, forms.options_header()), AUTHENTICATION),
    forms.fragment(TCP6_FRAME, 8, 16),
    forms.fragment(TCP_FRAME, 16, None),
]


@given(st.sampled_from(SAMPLES), st.integers(0, 200), st.integers(0, 199), st.integers(0, 255))
def test_a_spoiled_and_shortened_packet_is_parsed_or_refused(frame: bytes, length: int, at: int, byte: int) -> None:
    parses_or_refuses(altered(frame, at % len(frame), bytes((byte,)))[:length])
