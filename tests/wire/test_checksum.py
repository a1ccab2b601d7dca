"""Checksums, whole and adjusted, against the plain sum of RFC 1071."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.wire import checksum
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import TcpPacket
from tests import forms, packets

WORDS = st.integers(0, 0xFFFFFFFF)


def parsed(frame: bytes | bytearray) -> TcpPacket:
    packet = parse_frame(frame, 0, len(frame))
    assert isinstance(packet, TcpPacket)
    return packet


def test_the_example_of_rfc_1071():
    assert checksum.ones_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


def test_the_example_of_rfc_1624():
    assert checksum.adjusted(0xDD2F, checksum.change(0x5555, 0x3285, 0)) == 0x0000


@given(st.binary(max_size=100))
def test_the_sum_is_the_plain_one(data):
    assert checksum.ones_sum(data) == packets.ones_sum(data) % 0xFFFF


@given(st.binary(min_size=4, max_size=60), st.integers(0, 56), WORDS)
def test_a_change_at_any_place_is_as_good_as_a_new_sum(data, place, new):
    place = min(place, len(data) - 4)
    before = b"\x12\x34" + data
    place += 2
    old = int.from_bytes(before[place : place + 4], "big")
    after = before[:place] + new.to_bytes(4, "big") + before[place + 4 :]
    adjusted = checksum.adjusted(0xFFFF - packets.ones_sum(before), checksum.change(old, new, place))
    assert adjusted == 0xFFFF - packets.ones_sum(after)


@given(seq=WORDS, payload=st.binary(max_size=50), ip_options=st.sampled_from([b"", b"\x01" * 4, b"\x01" * 40]))
def test_a_partial_checksum_is_finished(seq, payload, ip_options):
    frame = bytearray(packets.tcp(seq=seq, payload=payload, ip_options=ip_options, checksum="partial", padding=3))
    packet = parsed(frame)
    checksum.finish_tcp(frame, packet.ip, packet.tcp, packet.end)
    assert frame == packets.tcp(seq=seq, payload=payload, ip_options=ip_options, padding=3)


@given(st.binary(max_size=50))
def test_a_finished_checksum_is_what_it_ought_to_be(payload):
    frame = packets.tcp(payload=payload)
    packet = parsed(frame)
    assert checksum.tcp_checksum(frame, packet.ip, packet.tcp, packet.end) == int.from_bytes(frame[50:52], "big")


@given(seq=WORDS, payload=st.binary(max_size=50))
def test_a_checksum_over_ipv6_is_finished(seq, payload):
    right = forms.over_ipv6(packets.tcp(seq=seq, payload=payload))
    frame = bytearray(right)
    packet = parsed(frame)
    addresses, segment = right[packet.ip + 8 : packet.ip + 40], right[packet.tcp : packet.end]
    assert packets.ones_sum(addresses + len(segment).to_bytes(4, "big") + bytes((0, 0, 0, 6)) + segment) == 0xFFFF
    frame[packet.tcp + 16 : packet.tcp + 18] = b"??"
    checksum.finish_tcp(frame, packet.ip, packet.tcp, packet.end)
    assert frame == right


@given(seq=WORDS, new=WORDS)
def test_a_finished_checksum_is_adjusted_in_place(seq, new):
    frame = bytearray(packets.tcp(seq=seq, payload=b"x"))
    tcp = parsed(frame).tcp
    frame[tcp + 4 : tcp + 8] = new.to_bytes(4, "big")
    checksum.adjust_tcp(frame, tcp, checksum.change(seq, new, 4))
    assert frame == packets.tcp(seq=new, payload=b"x")
