"""Answering the secondary in the client's name, where it missed an acknowledgement.

- Only what the client has acknowledged is acknowledged, and only what the secondary has sent.
- An answer can't be answered in turn for ever: it needs a segment that begins below what it
  acknowledges, and a stack that took the answer sends none.  What repeats old octets all the
  same gets one answer per `ANSWER_INTERVAL`.
- The answer is what the client would say to this very segment: its number is the one that the
  secondary expects, its timestamps are the segment's own, exchanged.  Neither can be too old.
"""

from __future__ import annotations

import struct

from colo_bridge.rewrite.connection import Connection
from colo_bridge.rewrite.translate import number_at
from colo_bridge.wire.checksum import finish_tcp
from colo_bridge.wire.flow import TCP, address_bytes
from colo_bridge.wire.ip_header import ip_header
from colo_bridge.wire.options import Options
from colo_bridge.wire.packet import ACK, TcpPacket
from colo_bridge.wire.serial import Serial, serial_is_after, serial_plus

ANSWER_INTERVAL = 0.001
"""Seconds between two answers to repeated segments of one connection."""
PROBE_SILENCE = 1.0
"""After so many seconds of silence a probe asks whether the client is there, which only the client can say."""

_MAC = 6
_PORTS = 4
_TCP = struct.Struct("!IIHHHH")
_TCP_HEADER = 20
_TIMESTAMPS = struct.Struct("!4sII")
_TIMESTAMPS_LEAD = b"\x01\x01\x08\x0a"


def lacks_acknowledgment(
    connection: Connection, packet: TcpPacket, following: Serial, new: bool, silence: float, now: float
) -> bool:
    """Whether this segment, in the primary's numbers, shows that the secondary missed an acknowledgement.

    `following`: the number behind it; `new`: it has octets that the secondary had not sent before;
    `silence`: seconds since the segment before it.
    """
    limit = connection.acknowledgeable
    if limit < 0 or not packet.flags & ACK or not serial_is_after(limit, packet.sequence):
        return False
    if new:
        # Each octet is new only once.
        return True
    if now - connection.answered_at < ANSWER_INTERVAL:
        return False
    # No octets, one below all that is acknowledged: a window probe or a keep-alive.
    is_probe = following == packet.sequence and serial_plus(following, 1) == limit
    return not is_probe or silence < PROBE_SILENCE


def answer(frame: bytearray, start: int, packet: TcpPacket, options: Options, connection: Connection) -> bytearray:
    """The acknowledgement that answers a segment of the secondary, which is in the primary's numbers already.

    It has the segment's Ethernet addresses, exchanged, and its tags; the checksums are finished.
    """
    segment = _segment(frame, packet, options, connection)
    addresses = connection.ingress_key[: 2 * address_bytes(connection.ingress_key)]
    behind = start + 2 * _MAC
    ethernet = frame[start + _MAC : behind] + frame[start : start + _MAC] + frame[behind : packet.ip]
    made = ethernet + ip_header(addresses, TCP, len(segment)) + segment
    finish_tcp(made, len(ethernet), len(made) - len(segment), len(made))
    return made


def _segment(frame: bytearray, packet: TcpPacket, options: Options, connection: Connection) -> bytes:
    stamps = b""
    if options.timestamps:
        place = options.timestamps[-1]
        own = serial_plus(number_at(frame, place.value), connection.timestamp_offset)
        stamps = _TIMESTAMPS.pack(_TIMESTAMPS_LEAD, number_at(frame, place.echo), own)
    acknowledgment = serial_plus(connection.acknowledgeable, connection.sequence_offset)
    bits = (_TCP_HEADER + len(stamps)) >> 2 << 12 | ACK
    key = connection.ingress_key
    ports = 2 * address_bytes(key)
    header = _TCP.pack(packet.acknowledgment, acknowledgment, bits, connection.window, 0, 0)
    return key[ports : ports + _PORTS] + header + stamps
