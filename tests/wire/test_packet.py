"""Packet views: where things stand, what is refused, and how flows are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.wire.packet import (
    Datagram,
    MalformedPacket,
    NotCompared,
    Parsed,
    TcpPacket,
    cut_short,
    describe_flow,
    parse_frame,
    parse_ipv4,
)
from tests import packets

GUEST, CLIENT = "10.0.0.2", "10.0.0.9"
TCP_FRAME = packets.tcp(seq=7, ack=9, flags="P", payload=b"hello")
IP = 14


def parse(frame: bytes) -> Parsed:
    return parse_frame(frame, 0, len(frame))


def segment(frame: bytes) -> TcpPacket:
    packet = parse(frame)
    assert isinstance(packet, TcpPacket)
    return packet


def datagram(frame: bytes) -> Datagram:
    packet = parse(frame)
    assert isinstance(packet, Datagram)
    return packet


def refused(frame: bytes) -> str:
    with pytest.raises(MalformedPacket) as caught:
        parse(frame)
    return caught.value.problem


def altered(frame: bytes, at: int, new: bytes) -> bytes:
    return frame[:at] + new + frame[at + len(new) :]


# TCP.


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
    assert (packet.sequence, packet.acknowledgment, packet.flags) == (0xFFFFFFFE, 9, 0x19)
    assert packet.connection == bytes((10, 0, 0, 2, 10, 0, 0, 9)) + (80).to_bytes(2, "big") + (5000).to_bytes(2, "big")


def test_the_reserved_bits_between_offset_and_flags_are_no_flags() -> None:
    assert segment(altered(TCP_FRAME, IP + 32, b"\x5e\x18")).flags == 0x18
    assert segment(altered(TCP_FRAME, IP + 32, b"\x5f\x18")).flags == 0x118


def test_a_segment_anywhere_in_a_larger_buffer() -> None:
    buffer = bytearray(b"x" * 12 + TCP_FRAME + b"y" * 40)
    packet = parse_frame(buffer, 12, 12 + len(TCP_FRAME))
    assert isinstance(packet, TcpPacket)
    assert buffer[packet.payload : packet.end] == b"hello"
    assert packet.buffer is buffer


def test_do_not_fragment_and_the_reserved_bit_make_no_fragment() -> None:
    for bits in (0x4000, 0x8000):
        assert isinstance(parse(packets.tcp(fragment=bits)), TcpPacket)


def test_an_ipv4_packet_without_its_frame() -> None:
    packet = parse_ipv4(TCP_FRAME, IP, len(TCP_FRAME))
    assert isinstance(packet, TcpPacket)
    assert packet.sequence == 7


# Datagrams.


def test_a_udp_datagram_without_its_checksum() -> None:
    one = datagram(packets.udp(payload=b"abc"))
    other = datagram(packets.udp(payload=b"abc", checksum="partial", padding=4, ip_options=b"\x01\x01\x01\x01"))
    assert (one.flow, one.content, one.length) == (other.flow, other.content, other.length)
    assert (one.content, one.length) == (b"abc", 11)


def test_bytes_behind_a_udp_datagram_do_not_count() -> None:
    frame = packets.ethernet(packets.ipv4(GUEST, CLIENT, 17, b"\0\x35\x13\x88\0\x0b\0\0abcTRAILER"))
    assert datagram(frame).content == b"abc"


def test_icmp_without_its_checksum() -> None:
    frame = packets.icmp(kind=8, code=1, body=b"abcd")
    assert datagram(frame).content == b"\x08\x01abcd"
    assert datagram(altered(frame, IP + 22, b"zz")).content == b"\x08\x01abcd"


def test_another_protocol_whole() -> None:
    packet = datagram(packets.ethernet(packets.ipv4(GUEST, CLIENT, 2, b"abcd")))
    assert (packet.content, packet.length) == (b"abcd", 4)


def test_a_fragment_with_its_place() -> None:
    first = datagram(packets.udp(payload=b"abc", fragment=0x2000))
    later = datagram(packets.udp(payload=b"abc", fragment=0x0001))
    assert first.flow == later.flow
    assert first.content[:2] == b"\x20\x00"
    assert later.content[:2] == b"\x00\x01"
    assert datagram(packets.tcp(fragment=0x00FF)).content[:2] == b"\x00\xff"


def test_a_packet_of_which_only_the_beginning_is_known() -> None:
    packet = cut_short(TCP_FRAME, IP, IP + 20)
    assert packet.is_cut_short
    assert not datagram(packets.icmp()).is_cut_short
    with pytest.raises(MalformedPacket, match="shorter than an IPv4 header"):
        cut_short(TCP_FRAME, IP, IP + 19)


def test_no_two_kinds_of_traffic_share_a_flow() -> None:
    flows = [
        segment(TCP_FRAME).connection,
        datagram(packets.udp(sport=80)).flow,
        datagram(packets.udp(fragment=0x2000)).flow,
        datagram(packets.tcp(fragment=0x2000)).flow,
        datagram(packets.icmp()).flow,
        datagram(packets.ethernet(packets.ipv4(GUEST, CLIENT, 2, b""))).flow,
        cut_short(TCP_FRAME, IP, len(TCP_FRAME)).flow,
    ]
    assert len(set(flows)) == len(flows)


def test_flows_by_name() -> None:
    assert describe_flow(segment(TCP_FRAME).connection) == "10.0.0.2:80 > 10.0.0.9:5000"
    assert describe_flow(datagram(packets.udp()).flow) == "10.0.0.2:53 > 10.0.0.9:5000 udp"
    assert describe_flow(datagram(packets.icmp()).flow) == "10.0.0.2 > 10.0.0.9 protocol 1"
    assert describe_flow(datagram(packets.udp(fragment=0x2000)).flow) == "10.0.0.2 > 10.0.0.9 protocol 17 fragment"
    assert describe_flow(cut_short(TCP_FRAME, IP, len(TCP_FRAME)).flow) == "10.0.0.2 > 10.0.0.9 cut short"


# What is not compared.


@pytest.mark.parametrize("ethertype", [0x0806, 0x88CC, 0x0600])
def test_what_is_not_ip(ethertype: int) -> None:
    assert parse(packets.ethernet(bytes(46), ethertype)) is NotCompared.NOT_IP


@pytest.mark.parametrize("ethertype", [0x86DD, 0x8100, 0x88A8])
def test_what_is_not_compared_yet(ethertype: int) -> None:
    assert parse(packets.ethernet(bytes(46), ethertype)) is NotCompared.UNCOMPARED


def test_a_frame_of_ieee_802_3_with_its_length() -> None:
    assert parse(packets.ethernet(bytes(46), 3)) is NotCompared.NOT_IP
    assert parse(packets.ethernet(bytes(46), 46)) is NotCompared.NOT_IP
    assert "802.3 length" in refused(packets.ethernet(bytes(46), 47))


# What is refused.


@pytest.mark.parametrize("length", range(14))
def test_a_frame_without_an_ethernet_header(length: int) -> None:
    assert "Ethernet header" in refused(TCP_FRAME[:length])


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


@pytest.mark.parametrize("offset", [0, 1, 4, 7, 15])
def test_a_tcp_data_offset_that_does_not_fit(offset: int) -> None:
    assert "data offset" in refused(altered(TCP_FRAME, IP + 32, bytes((offset << 4,))))


@pytest.mark.parametrize("body", [b"", b"\0\x35\x13\x88\0\x08\0"])
def test_a_udp_header_that_is_cut_off(body: bytes) -> None:
    assert "UDP header" in refused(packets.ethernet(packets.ipv4(GUEST, CLIENT, 17, body)))


@pytest.mark.parametrize("length", [0, 7, 12, 0xFFFF])
def test_a_udp_length_that_does_not_fit(length: int) -> None:
    frame = packets.udp(payload=b"abc")
    assert "UDP length" in refused(altered(frame, IP + 24, length.to_bytes(2, "big")))


@pytest.mark.parametrize("body", [b"", b"\x08\0\0"])
def test_an_icmp_header_that_is_cut_off(body: bytes) -> None:
    assert "ICMP header" in refused(packets.ethernet(packets.ipv4(GUEST, CLIENT, 1, body)))


def parses_or_refuses(frame: bytes) -> None:
    try:
        packet = parse(frame)
    except MalformedPacket:
        return
    if isinstance(packet, TcpPacket):
        assert IP <= packet.ip < packet.tcp <= packet.payload - 20
        assert packet.payload <= packet.end <= len(frame)


@given(st.binary(max_size=120))
def test_no_bytes_are_read_past_the_end(noise: bytes) -> None:
    parses_or_refuses(noise)
    parses_or_refuses(packets.ethernet(b"E" + noise))


@given(st.integers(0, len(TCP_FRAME)), st.integers(0, len(TCP_FRAME) - 1), st.integers(0, 255))
def test_a_spoiled_and_shortened_segment_is_parsed_or_refused(length: int, at: int, byte: int) -> None:
    parses_or_refuses(altered(TCP_FRAME, at, bytes((byte,)))[:length])
