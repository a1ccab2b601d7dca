"""What the primary's pure ACKs invite the client to send, and what the secondary would take of it.

1. An ACK leaves with the window that the secondary has room for, if the primary has more: else the
   secondary would drop what the client sends, and the client would not know.
2. While the secondary has no room for one segment, the ACK waits: the secondary says when it has.

Window scale: RFC 7323 §2.  Where no SYN was seen the scale is unknown, and windows are left alone.  So are ACKs
behind IP options or extension headers: a source route changes what the checksum covers (RFC 8200 §8.1).
"""

from __future__ import annotations

import struct

from colo_bridge.compare.segment import Segment
from colo_bridge.wire.build import is_plain, tcp_packet, timestamps
from colo_bridge.wire.checksum import finish_tcp
from colo_bridge.wire.options import window_scale
from colo_bridge.wire.packet import SYN, TcpPacket
from colo_bridge.wire.serial import Position, Serial, later, serial_at

_ONE_SEGMENT = 1_460
_LARGEST = 0xFFFF
_WINDOW_AT = 14
_WINDOW = struct.Struct("!H")
_ACKNOWLEDGMENT = struct.Struct("!I")
_ACKNOWLEDGMENT_AT = 8


class Windows:
    """The receive windows of both replicas of one connection."""

    __slots__ = ("primary_scale", "secondary_edge", "secondary_scale")

    def __init__(self) -> None:
        self.primary_scale: int | None = None
        self.secondary_scale: int | None = None
        self.secondary_edge: Position | None = None

    def note_primary_syn(self, syn: Segment) -> None:
        self.primary_scale = window_scale(syn.buffer, syn.tcp + 20, syn.offset)

    def note_secondary_syn(self, syn: Segment) -> None:
        self.secondary_scale = window_scale(syn.buffer, syn.tcp + 20, syn.offset)

    def note_primary(self, segment: Segment) -> None:
        """Work out the edge of a packet whose window may be made smaller."""
        scale, ack = self.primary_scale, segment.ack
        if scale is None or ack is None or not is_plain(segment.header or segment.buffer, segment.tcp, segment.ip):
            return
        # The window of a SYN is never scaled (RFC 7323 §2.2).
        segment.edge = Position(ack + (segment.window if segment.flags & SYN else segment.window << scale))

    def note_secondary(self, packet: TcpPacket, ack: Position) -> None:
        """The edge of the newest window; a receiver never takes back what it offered (RFC 9293 §3.8.6)."""
        scale = 0 if packet.flags & SYN else self.secondary_scale
        if scale is not None:
            edge = ack + (packet.window << scale)
            if self.secondary_edge is None or edge > self.secondary_edge:
                self.secondary_edge = Position(edge)

    def synchronise(self) -> None:
        """The secondary is the primary now; its next packet tells its window."""
        self.secondary_scale = self.primary_scale
        self.secondary_edge = None

    def is_too_wide(self, edge: Position) -> bool:
        return self.secondary_edge is not None and edge > self.secondary_edge

    def may_leave(self, edge: Position, ack: Position) -> bool:
        """Whether the secondary has room for a segment, or for all that the primary has room for."""
        limit = self.secondary_edge
        return limit is None or edge <= limit or limit - ack >= min(_ONE_SEGMENT, edge - ack)

    def limit(self, segment: Segment) -> Position | None:
        """The edge that both have room up to, of a segment whose edge is known."""
        if segment.edge is None or self.secondary_edge is None:
            return segment.edge
        return min(segment.edge, self.secondary_edge)

    @staticmethod
    def is_news(room: int, told: int, all_of_it: bool) -> bool:
        """Whether a window of `room` deserves a packet, after one that told less (RFC 9293 §3.8.6.2.2)."""
        gain = room - told
        return gain >= 2 * _ONE_SEGMENT or (gain > 0 and all_of_it) or told < _ONE_SEGMENT <= room

    def offered(self, segment: Segment, ack: Position) -> int:
        """The window field that, with an ACK not above the segment's own, offers no more than both have."""
        limit, scale = self.limit(segment), self.primary_scale
        if limit is None or scale is None:
            return segment.window
        return min(_LARGEST, max(0, limit - ack) >> (0 if segment.flags & SYN else scale))

    def room(self, ack: Position) -> int:
        """The window field that offers what the secondary has."""
        edge, scale = self.secondary_edge, self.primary_scale
        return 0 if edge is None or scale is None else min(_LARGEST, max(0, edge - ack) >> scale)

    def narrowed(self, segment: Segment, ack: Position) -> bytes:
        """The IP packet of a pure ACK or of a SYN with this acknowledgment and no more window than both have."""
        packet = bytearray(segment.packet())
        tcp = segment.tcp - segment.ip
        _ACKNOWLEDGMENT.pack_into(packet, tcp + _ACKNOWLEDGMENT_AT, serial_at(ack))
        _WINDOW.pack_into(packet, tcp + _WINDOW_AT, self.offered(segment, ack))
        finish_tcp(packet, 0, tcp, len(packet))
        return bytes(packet)

    def lowered(self, segment: Segment, ack: Position, sack: bytes, echo: Serial | None) -> bytes:
        """The IP packet of a plain pure ACK with a lower acknowledgment, and the SACK blocks that belong to it.

        `echo`: what the secondary echoed with it.  The primary, which needs no repetition, goes on to echo the time of
        the client's first try: to the client its repetition would seem needless (RFC 3522), and be taken back.
        """
        header, tcp, window = segment.headers(), segment.tcp - segment.ip, self.offered(segment, ack)
        stamps = timestamps(header, tcp)
        if stamps is not None and echo is not None:
            stamps = stamps[0], later(stamps[1], echo)
        number, flags = serial_at(segment.start), segment.flags
        packet = bytearray(tcp_packet(header, tcp, b"", number, serial_at(ack), flags, window, stamps, sack))
        finish_tcp(packet, 0, tcp, len(packet))
        return bytes(packet)
