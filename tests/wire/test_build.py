"""Packets of our own, compared with what the tests build themselves."""

from __future__ import annotations

import pytest

from colo_bridge.wire.build import is_plain, tcp_packet, timestamps
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import ACK, FIN, TcpPacket
from colo_bridge.wire.serial import Serial
from tests import packets

MODEL = {"seq": 100, "ack": 200, "flags": "PA", "window": 50}


def parsed(frame: bytes) -> TcpPacket:
    packet = parse_frame(frame, 0, len(frame))
    assert isinstance(packet, TcpPacket)
    return packet


def header_of(frame: bytes) -> tuple[bytes, int]:
    packet = parsed(frame)
    return frame[packet.ip : packet.payload], packet.tcp - packet.ip


def test_a_packet_is_built_from_the_headers_of_another() -> None:
    header, tcp = header_of(packets.tcp(**MODEL, payload=b"whatever", options=packets.timestamps(7, 8)))
    built = tcp_packet(header, tcp, b"new", Serial(300), Serial(150), ACK | FIN, 9, (Serial(17), Serial(18)))
    wanted = packets.tcp(
        seq=300, ack=150, flags="FA", window=9, payload=b"new", options=packets.timestamps(17, 18), checksum="partial"
    )
    assert built == wanted[14:]


def test_only_timestamps_stay_of_the_options() -> None:
    options = packets.timestamps(7, 8) + packets.nop(2) + packets.sack((1, 2))
    header, tcp = header_of(packets.tcp(**MODEL, options=options))
    built = tcp_packet(header, tcp, b"", Serial(1), Serial(2), ACK, 9, None)
    assert built == packets.tcp(seq=1, ack=2, window=9, checksum="partial")[14:]
    assert timestamps(header, tcp) == (7, 8)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (b"", None),
        (packets.nop(12), None),
        (packets.timestamps(1, 2), (1, 2)),
        (packets.bare_timestamps(3, 4) + packets.nop(2), (3, 4)),
        (packets.maximum_segment_size(), None),
        (b"\x08\x04\0\0" + packets.nop(8), None),
    ],
)
def test_timestamps_are_found_wherever_they_stand(options: bytes, found: tuple[int, int] | None) -> None:
    assert timestamps(*header_of(packets.tcp(**MODEL, options=options))) == found


def test_what_stands_behind_the_header_is_no_option() -> None:
    header, tcp = header_of(packets.tcp(**MODEL))
    assert timestamps(header, tcp) is None


def test_options_of_the_ip_header_make_a_packet_useless_as_a_model() -> None:
    assert is_plain(*header_of(packets.tcp(**MODEL)))
    assert not is_plain(*header_of(packets.tcp(**MODEL, ip_options=b"\x01\x01\x01\x01")))
