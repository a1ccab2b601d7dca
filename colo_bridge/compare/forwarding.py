"""What both replicas sent of a segment that may not leave as it is, sent as packets of our own.

1. Only verified octets are forwarded, with no ACK above the floor and no wider window than both replicas have.
2. A segment of which anything was forwarded never leaves itself: its timestamps would be older than what the client has
   seen by then (RFC 7323 §5, PAWS).  The rest is forwarded too, and the segment replaced.
3. An ACK or a window that was taken back in a packet of ours is *owed*: the newest is told as soon as it may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from colo_bridge.compare.decisions import Forward
from colo_bridge.compare.segment import Segment
from colo_bridge.wire.build import is_plain, tcp_packet, timestamps
from colo_bridge.wire.packet import ACK, FIN, PSH, RST, SYN, URG
from colo_bridge.wire.serial import Position, Serial, first_position, position_near, serial_at

if TYPE_CHECKING:
    from colo_bridge.compare.floor import Floor

_SEGMENT_SIZE = 1_200
"""Payload of a packet that fits every path: IPv6's least MTU (RFC 8200 §5) without headers and timestamps."""


class Forwarding:
    """One connection's; it exists from the first time that something is forwarded or owed."""

    __slots__ = ("_ethernet", "_floor", "_reached", "_told", "_unverified", "owed")

    def __init__(self, ethernet: bytes, unverified: list[Segment], floor: Floor) -> None:
        self._ethernet = ethernet
        self._unverified = unverified
        self._floor = floor
        self._reached: dict[Segment, Position] = {}
        """How far each segment that straddles the cursor was forwarded."""
        self._told: Position | None = None
        """The highest ACK that was told in a packet without octets."""
        self.owed: Segment | None = None
        """It has left but for its ACK and its window."""

    def forward_straddling(self, cursor: Position, before: float) -> None:
        """Forward the verified part of what waits since before a time, and what was verified since of such parts."""
        for segment in self._unverified:
            if segment.start >= cursor:
                break
            start = self._reached.get(segment, segment.start)
            if start < cursor and (start > segment.start or segment.arrived < before) and self._may_serve(segment):
                self._forward(segment, start, cursor)
                self._reached[segment] = cursor

    def forward_octets(self, segment: Segment) -> bool:
        """Forward a verified segment that the floor alone holds; False: it has to wait."""
        if not self._may_serve(segment):
            return False
        self._reached[segment] = segment.start
        self.settle(segment)
        return True

    def settle(self, segment: Segment) -> None:
        """All octets of a segment are verified."""
        reached = self._reached.pop(segment, None)
        if reached is None:
            self._floor.settle(segment)
            return
        self._forward(segment, reached, segment.end)
        self._floor.windows.note_primary(segment)
        if self._floor.reaches(segment):
            self._floor.ledger.replace(segment)
        else:
            self._owe(segment)

    def _owe(self, segment: Segment) -> None:
        older, self.owed = self.owed, segment
        if older is not None:
            if _ack_of(older) > _ack_of(segment):
                older, self.owed = segment, older
            self._floor.ledger.replace(older)

    def pay(self) -> None:
        """Tell what is owed, as far as the floor and the secondary's window allow by now."""
        segment = self.owed
        if segment is None:
            return
        if self._floor.reaches(segment):
            self.owed = None
            self._forward(segment, segment.end, segment.end)
            self._floor.ledger.replace(segment)
        else:
            self.tell(segment)

    def tell(self, segment: Segment) -> None:
        """Tell the floor in a packet of our own, where that is news."""
        floor = self._floor.secondary
        assert floor is not None
        if floor < _ack_of(segment) and (self._told is None or floor > self._told) and self._may_serve(segment):
            self._told = floor
            self._forward(segment, segment.end, segment.end)

    def take_held(self) -> list[Segment]:
        """A checkpoint releases everything as it is."""
        owed, self.owed = self.owed, None
        self._reached.clear()
        return [] if owed is None else [owed]

    def _may_serve(self, segment: Segment) -> bool:
        return (
            self._floor.secondary is not None
            and segment.ack is not None
            and not segment.flags & (SYN | RST | URG)
            and is_plain(segment.header, segment.tcp)
        )

    def _forward(self, segment: Segment, start: Position, end: Position) -> None:
        floor, ack, header, tcp = self._floor, _ack_of(segment), segment.header, segment.tcp
        assert floor.secondary is not None
        ack = min(ack, floor.secondary)
        data_end = min(end, segment.data_end)
        at = segment.offset + start - segment.data_start
        payload = segment.buffer[at : at + data_end - start] if data_end > start else b""
        flags = ACK | (FIN if segment.data_end < end != start else 0)
        if payload and data_end == segment.data_end:
            flags |= segment.flags & PSH
        packet = tcp_packet(
            header,
            tcp,
            payload,
            serial_at(start),
            serial_at(ack),
            flags,
            floor.windows.offered(segment, ack),
            self._stamps(segment),
        )
        segment_size = _SEGMENT_SIZE if len(payload) > _SEGMENT_SIZE else 0
        floor.ledger.forward(Forward(self._ethernet, packet, tcp, len(packet) - len(payload), segment_size))

    def _stamps(self, segment: Segment) -> tuple[Serial, Serial] | None:
        """TSval and TSecr: not older than what left, and not newer than what is still to leave.

        What left before the segment came is older than all that waits now, except for pure ACKs that wait for
        room; what left since was noted.
        """
        own = timestamps(segment.header, segment.tcp)
        if own is None:
            return None
        near = first_position(own[0])
        floor = self._floor
        waiting = [*self._unverified, *(other for other in floor.above if _ack_of(other) > (floor.secondary or 0))]
        found = (timestamps(other.header, other.tcp) for other in waiting)
        value = min((position_near(stamps[0], near) for stamps in found if stamps is not None), default=near)
        value = min(value, near)
        if floor.newest_stamp is not None:
            value = max(value, position_near(floor.newest_stamp, near))
        floor.newest_stamp = serial_at(value)
        return floor.newest_stamp, own[1]


def _ack_of(segment: Segment) -> Position:
    assert segment.ack is not None
    return segment.ack
