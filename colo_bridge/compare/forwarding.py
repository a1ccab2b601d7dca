"""What both replicas sent of a segment that may not leave as it is, sent as packets of our own.

1. Only verified octets are forwarded, with no ACK above the floor and no wider window than both replicas have.
2. A segment of which anything was forwarded never leaves itself: its timestamps would be older than what the client has
   seen by then (RFC 7323 §5, PAWS).  The rest is forwarded too, and the segment replaced.
3. What the client was told less of than the primary said, an ACK or a window, is owed (`Floor.owed`) and told later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from colo_bridge.compare.decisions import Forward
from colo_bridge.compare.segment import Segment
from colo_bridge.wire.build import is_plain, tcp_packet, timestamps
from colo_bridge.wire.packet import ACK, FIN, PSH, RST, SYN, URG
from colo_bridge.wire.serial import Position, Serial, first_position, later, position_near, serial_at

if TYPE_CHECKING:
    from colo_bridge.compare.reset import Resets
    from colo_bridge.compare.streams import Streams

_SEGMENT_SIZE = 1_200
"""Payload of a packet that fits every path: IPv6's least MTU (RFC 8200 §5) without headers and timestamps."""


class Forwarding:
    """One connection's; it exists from its first cure on."""

    __slots__ = ("_asked_at_end", "_reached", "_streams")

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._reached: dict[Segment, Position] = {}
        """How far each segment that straddles the cursor was forwarded."""
        self._asked_at_end = False
        """The client was asked for an ACK after both streams had ended."""

    def act(self, before: float) -> None:
        """Send whatever may be sent of what waits since before a time."""
        streams = self._streams
        repeated, streams.repeated = streams.repeated, None
        if repeated is not None:
            self._ask(repeated)
        if self._asked_at_end and streams.resets is not None:
            self._drop_refusals(streams.resets, before)
        self._pay()
        if streams.cursor is not None:
            self._forward_straddling(streams.cursor, before)

    def _forward_straddling(self, cursor: Position, before: float) -> None:
        """Forward the verified part of what waits since before a time, and what was verified since of such parts."""
        for segment in self._streams.unverified:
            if segment.start >= cursor:
                break
            start = self._reached.get(segment)
            if start is None:
                if segment.arrived >= before or not self._may_serve(segment):
                    continue
                start = segment.start
            if start < cursor:
                self._forward(segment, start, cursor)
                self._reached[segment] = cursor

    def forward_octets(self, segment: Segment) -> bool:
        """Forward a verified segment that the floor alone holds; False: it has to wait."""
        if self._may_serve(segment):
            self._replace(segment, segment.start)
            return True
        return False

    def settle(self, segment: Segment) -> None:
        """All octets of a segment are verified."""
        reached = self._reached.pop(segment, None)
        if reached is None:
            self._streams.floor.settle(segment)
        else:
            self._replace(segment, reached)

    def _replace(self, segment: Segment, start: Position) -> None:
        """Forward what is left of a segment, and owe what it can't say yet."""
        self._forward(segment, start, segment.end)
        floor = self._streams.floor
        floor.ledger.replace(segment)
        floor.owe(segment)

    def _pay(self) -> None:
        """Tell what is owed, as far as the floor and the secondary's window allow by now."""
        floor = self._streams.floor
        segment = floor.owed
        if segment is not None and not floor.is_paid(segment) and floor.owes_news(segment):
            self.tell(segment)
        if segment is not None and floor.is_paid(segment):
            floor.owed = None

    def tell(self, segment: Segment) -> None:
        """Send the ACK and the window of a segment, as far as both replicas have them."""
        if self._may_serve(segment):
            # Not at the segment's own number: the client refuses what lies below all that it has (RFC 9293 §3.10.7.4).
            cursor = self._streams.cursor
            self._send(segment, segment.start if cursor is None else cursor, b"", 0)
            self._streams.floor.note_told(segment)

    def _ask(self, repeated: Segment) -> None:
        """Make the client acknowledge once more: the secondary repeats what it has not heard the client acknowledge.

        An empty segment just below all that was verified is refused with an ACK (RFC 9293 §3.10.7.4), and so is an old
        timestamp (RFC 7323 §5.3): both replicas hear of that one, and the client takes nothing from this one.
        """
        cursor, floor = self._streams.cursor, self._streams.floor
        header, tcp = repeated.header, repeated.tcp
        if cursor is None or floor.primary is None or floor.secondary is None or not is_plain(header, tcp):
            return
        ack = min(floor.primary, floor.secondary)
        theirs = timestamps(header, tcp)
        # Not the secondary's own: where its offset is unknown, the client would refuse all that comes after it.
        stamps = None if theirs is None or floor.syn_stamp is None else (floor.syn_stamp, theirs[1])
        number, window = serial_at(Position(cursor - 1)), floor.windows.room(ack)
        packet = tcp_packet(header, tcp, b"", number, serial_at(ack), ACK, window, stamps)
        self._asked_at_end = self._streams.finished
        floor.ledger.counters.asked_acknowledgments += 1
        floor.ledger.forward(Forward(self._streams.ethernet, packet, tcp, len(packet), 0))

    def _drop_refusals(self, resets: Resets[Position], before: float) -> None:
        """The ACK that the client was asked for comes to a primary that is done with the connection, and refuses it.

        The secondary is not done and will not refuse it; the client has nothing to learn from that.
        """
        ledger = self._streams.ledger
        for reset in resets.take_without_ack(before):
            ledger.withdraw(reset)
            ledger.drop(reset.token)

    def forget(self) -> None:
        """A checkpoint releases everything as it is."""
        self._reached.clear()

    def _may_serve(self, segment: Segment) -> bool:
        return (
            self._streams.floor.secondary is not None
            and segment.ack is not None
            and not segment.flags & (SYN | RST | URG)
            and is_plain(segment.header, segment.tcp)
        )

    def _forward(self, segment: Segment, start: Position, end: Position) -> None:
        data_end = min(end, segment.data_end)
        at = segment.offset + start - segment.data_start
        payload = bytes(segment.buffer[at : at + data_end - start])
        flags = FIN if end > segment.data_end else 0
        if data_end == segment.data_end:
            flags |= segment.flags & PSH
        self._send(segment, start, payload, flags)

    def _send(self, segment: Segment, start: Position, payload: bytes, flags: int) -> None:
        floor, header, tcp = self._streams.floor, segment.header, segment.tcp
        floor.windows.note_primary(segment)
        ack = floor.lowered(segment)
        packet = tcp_packet(
            header,
            tcp,
            payload,
            serial_at(start),
            serial_at(ack),
            ACK | flags,
            floor.windows.offered(segment, ack),
            self._stamps(segment),
            floor.sack if ack == floor.secondary else b"",
        )
        segment_size = _SEGMENT_SIZE if len(payload) > _SEGMENT_SIZE else 0
        forward = Forward(self._streams.ethernet, packet, tcp, len(packet) - len(payload), segment_size)
        floor.ledger.forward(forward)

    def _stamps(self, segment: Segment) -> tuple[Serial, Serial] | None:
        """TSval and TSecr: not older than what left, and not newer than what is still to leave.

        What left before the segment came is older than all that waits now, except for pure ACKs that wait for
        room; what left since was noted.  Of TSecr see `Windows.lowered`.
        """
        own = timestamps(segment.header, segment.tcp)
        if own is None:
            return None
        near = first_position(own[0])
        floor = self._streams.floor
        waiting = [*self._streams.unverified, *floor.above_floor()]
        found = (timestamps(other.header, other.tcp) for other in waiting)
        value = min((near, *(position_near(stamps[0], near) for stamps in found if stamps is not None)))
        if floor.newest_stamp is not None:
            value = max(value, position_near(floor.newest_stamp, near))
        floor.newest_stamp = serial_at(value)
        return floor.newest_stamp, own[1] if floor.echo is None else later(own[1], floor.echo)
