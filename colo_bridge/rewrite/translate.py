"""Moving the numbers of one segment, and its checksum with them."""

from __future__ import annotations

import struct

from colo_bridge.rewrite.connection import Connection
from colo_bridge.wire.checksum import adjust_tcp, change
from colo_bridge.wire.options import Options
from colo_bridge.wire.packet import TcpPacket
from colo_bridge.wire.serial import Serial, serial_plus, serials_plus

_NUMBER = struct.Struct("!I")
_EDGES = [struct.Struct(f"!{edges}I") for edges in range(11)]
"""For as many edges as an option list has room for."""
_SEQUENCE, _ACKNOWLEDGMENT = 4, 8


def number_at(frame: bytearray, at: int) -> Serial:
    return Serial(_NUMBER.unpack_from(frame, at)[0])


def to_primary(
    frame: bytearray, packet: TcpPacket, options: Options, connection: Connection, partial_checksum: bool
) -> None:
    """A segment of the secondary, in the primary's numbers; `packet` follows."""
    tcp = packet.tcp
    changes = _move(frame, tcp, tcp + _SEQUENCE, -connection.sequence_offset)
    for place in options.timestamps:
        changes += _move(frame, tcp, place.value, -connection.timestamp_offset)
    _finish(frame, tcp, changes, partial_checksum)
    packet.sequence = serial_plus(packet.sequence, -connection.sequence_offset)


def to_secondary(
    frame: bytearray, packet: TcpPacket, options: Options, connection: Connection, excess: int, partial_checksum: bool
) -> None:
    """A segment of the client with the ACK flag, in the secondary's numbers; the acknowledgement `excess` lower."""
    tcp, offset = packet.tcp, connection.sequence_offset
    changes = _move(frame, tcp, tcp + _ACKNOWLEDGMENT, offset - excess)
    if options.sack_edges:
        changes += _move_edges(frame, tcp, options.sack_edges, offset)
    for place in options.timestamps:
        changes += _move(frame, tcp, place.echo, connection.timestamp_offset)
    _finish(frame, tcp, changes, partial_checksum)


def _move(frame: bytearray, tcp: int, at: int, distance: int) -> int:
    """Move the number at `at`; returns what that adds to the checksum of the header at `tcp`."""
    (old,) = _NUMBER.unpack_from(frame, at)
    new = serial_plus(old, distance)
    _NUMBER.pack_into(frame, at, new)
    return change(old, new, at - tcp)


def _move_edges(frame: bytearray, tcp: int, edges: tuple[int, ...], distance: int) -> int:
    first, count = edges[0], len(edges)
    if edges[-1] - first != 4 * (count - 1):
        # Of several options.
        return sum(_move(frame, tcp, at, distance) for at in edges)
    # Fast path: one option.
    numbers = _EDGES[count]
    old = numbers.unpack_from(frame, first)
    new = serials_plus(old, distance)
    numbers.pack_into(frame, first, *new)
    return change(sum(old), sum(new), first - tcp)


def _finish(frame: bytearray, tcp: int, changes: int, partial_checksum: bool) -> None:
    # A partial checksum covers only addresses, protocol and length, none of which moved.
    if changes and not partial_checksum:
        adjust_tcp(frame, tcp, changes)
