"""What gets connections going again whose guest has just become the service.

While nobody answered, the clients' retransmission time-outs have doubled again and again, and they would wait for as
long again as they have waited already.  Two things end that:

1. The guest's newest acknowledgement, which may have been lost with the primary.  A guest repeats it where a segment
   in the client's name asks whether it is there (a keep-alive, RFC 9293 §3.8.4).
2. Word that there was no way for what the client sent last (RFC 6069).  It is heeded only where it names the very
   octet that the client has to repeat: the one that the guest has acknowledged last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from colo_bridge.rewrite.connection import Connection
from colo_bridge.wire.checksum import finish_tcp
from colo_bridge.wire.flow import TCP, address_bytes, tag_bytes
from colo_bridge.wire.ip_header import ip_header
from colo_bridge.wire.packet import ACK
from colo_bridge.wire.serial import serial_plus
from colo_bridge.wire.unreachable import unreachable

_TYPES = {4: b"\x08\x00", 16: b"\x86\xdd"}
"""Of an Ethernet frame, by the length of an address."""
_TCP = struct.Struct("!4sIIHHHH")
_TCP_HEADER = 20


@dataclass(frozen=True, slots=True)
class Prompt:
    """For one connection; the frames are of the moment at which they are made."""

    connection: Connection
    guest: bytes
    """Its hardware address."""
    client: bytes
    """The same, or its router's."""

    def question(self) -> bytes:
        """By which the client asks the guest whether it is there; the checksum is finished."""
        connection = self.connection
        key, size = connection.ingress_key, address_bytes(connection.ingress_key)
        sequence = serial_plus(connection.delivered, -1)
        acknowledgment = serial_plus(connection.acknowledged, connection.sequence_offset)
        ports = key[2 * size : 2 * size + 4]
        segment = _TCP.pack(ports, sequence, acknowledgment, _TCP_HEADER << 10 | ACK, connection.window, 0, 0)
        packet = bytearray(ip_header(key[: 2 * size], TCP, len(segment)) + segment)
        finish_tcp(packet, 0, len(packet) - len(segment), len(packet))
        return self.guest + self.client + _TYPES[size] + packet

    def no_way(self) -> bytes:
        """Which tells the client that what it sent last had found no way."""
        key = self.connection.ingress_key
        return self.client + self.guest + _TYPES[address_bytes(key)] + unreachable(key, self.connection.delivered)


def newest(connections: Iterable[Connection], most: int) -> list[Connection]:
    """Of those of which enough is known the ones that were heard last."""
    found = sorted(filter(_can_be_prompted, connections), key=lambda connection: connection.last_seen, reverse=True)
    return found[:most]


def _can_be_prompted(connection: Connection) -> bool:
    known = connection.delivered >= 0 and connection.acknowledged >= 0
    return connection.lasting and known and not tag_bytes(connection.egress_key)
