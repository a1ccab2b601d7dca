"""Short ways to ask what a frame is read as."""

from __future__ import annotations

import pytest

from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import Datagram, Fragment, MalformedPacket, Parsed, TcpPacket

IP = 14
"""Where the IP packet of an untagged frame begins."""


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


def fragment(frame: bytes) -> Fragment:
    packet = parse(frame)
    assert isinstance(packet, Fragment)
    return packet


def refused(frame: bytes) -> str:
    """Why a frame is malformed."""
    with pytest.raises(MalformedPacket) as caught:
        parse(frame)
    return caught.value.problem


def altered(frame: bytes, at: int, new: bytes) -> bytes:
    return frame[:at] + new + frame[at + len(new) :]
