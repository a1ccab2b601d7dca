"""Frames: read within their bounds or refused, wherever they stand, and their flows have names."""

from __future__ import annotations

from contextlib import suppress

from colo_bridge.wire.flow import describe_flow, flow_of_fragments, is_connection, reversed_connection
from colo_bridge.wire.frame import cut_short, parse_frame, parse_ip
from colo_bridge.wire.packet import Datagram, Fragment, MalformedPacket, NotCompared, Parsed, TcpPacket

_BEFORE, _BEHIND = b"\x45" * 13, b"\x60" * 70


def one_input(data: bytes) -> None:
    frame = read(data, 0, len(data))
    elsewhere = read(_BEFORE + data + _BEHIND, len(_BEFORE), len(_BEFORE) + len(data))
    assert frame == elsewhere, "what stands around a frame changes how it is read"
    with suppress(MalformedPacket):
        check(parse_ip(data, 0, len(data)), 0, len(data))
    with suppress(MalformedPacket):
        check(cut_short(data, 0, len(data)), 0, len(data))


def read(buffer: bytes, start: int, end: int) -> object:
    try:
        return check(parse_frame(buffer, start, end), start, end)
    except MalformedPacket as error:
        return error.problem


def check(packet: Parsed, start: int, end: int) -> object:
    """What is read, with places counted from the beginning of the frame."""
    if isinstance(packet, NotCompared):
        return packet
    assert start <= packet.ip < packet.end <= end
    places = packet.ip - start, packet.end - start
    if isinstance(packet, TcpPacket):
        assert packet.ip < packet.tcp <= packet.payload - 20
        assert packet.payload <= packet.end
        assert is_connection(packet.connection)
        assert reversed_connection(reversed_connection(packet.connection)) == packet.connection
        return places, describe_flow(packet.connection), packet.payload - start, packet.sequence, packet.flags
    if isinstance(packet, Fragment):
        assert packet.ip < packet.body <= packet.end
        assert packet.offset % 8 == 0
        return places, describe_flow(flow_of_fragments(packet.datagram)), packet.header, packet.offset, packet.is_last
    assert isinstance(packet, Datagram)
    assert not is_connection(packet.flow)
    assert len(packet.content) <= packet.length
    return places, describe_flow(packet.flow), packet.content
