"""Moving the numbers of one segment, and its checksum with them."""

from __future__ import annotations

import struct

from colo_bridge.rewrite.connection import Connection
from colo_bridge.wire.checksum import adjust_tcp, change
from colo_bridge.wire.options import Options
from colo_bridge.wire.packet import TcpPacket
from colo_bridge.wire.serial import Serial, serial_plus

_NUMBER = struct.Struct("!I")
_SEQUENCE, _ACKNOWLEDGMENT = 4, 8


class _Edit:
    """Changes to one TCP header, and what they add to its checksum."""

    __slots__ = ("_changes", "_frame", "_tcp")

    def __init__(self, frame: bytearray, tcp: int) -> None:
        self._frame = frame
        self._tcp = tcp
        self._changes = 0

    def move(self, at: int, distance: int) -> None:
        old = number_at(self._frame, at)
        new = serial_plus(old, distance)
        _NUMBER.pack_into(self._frame, at, new)
        self._changes += change(old, new, at - self._tcp)

    def finish(self, partial_checksum: bool) -> None:
        # A partial checksum covers only addresses, protocol and length, none of which moved.
        if self._changes and not partial_checksum:
            adjust_tcp(self._frame, self._tcp, self._changes)


def number_at(frame: bytearray, at: int) -> Serial:
    return Serial(_NUMBER.unpack_from(frame, at)[0])


def to_primary(
    frame: bytearray, packet: TcpPacket, options: Options, connection: Connection, partial_checksum: bool
) -> None:
    """A segment of the secondary, in the primary's numbers; `packet` follows."""
    edit = _Edit(frame, packet.tcp)
    edit.move(packet.tcp + _SEQUENCE, -connection.sequence_offset)
    for place in options.timestamps:
        edit.move(place.value, -connection.timestamp_offset)
    edit.finish(partial_checksum)
    packet.sequence = serial_plus(packet.sequence, -connection.sequence_offset)


def to_secondary(
    frame: bytearray, packet: TcpPacket, options: Options, connection: Connection, partial_checksum: bool
) -> None:
    """A segment of the client with the ACK flag, in the secondary's numbers."""
    edit = _Edit(frame, packet.tcp)
    edit.move(packet.tcp + _ACKNOWLEDGMENT, connection.sequence_offset)
    for at in options.sack_edges:
        edit.move(at, connection.sequence_offset)
    for place in options.timestamps:
        edit.move(place.echo, connection.timestamp_offset)
    edit.finish(partial_checksum)
