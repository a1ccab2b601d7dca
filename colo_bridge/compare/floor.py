"""The acknowledged floor of one connection: how far the secondary has what the client sent.

1. No packet leaves that acknowledges more than the secondary has acknowledged: else the client would
   discard what the secondary lacks, and a failover would lose it.
2. Before the secondary's first ACK there is no floor, and what carries an ACK waits.
3. A pure ACK opens no wider window than the secondary has (where the cures are on).
"""

from __future__ import annotations

from bisect import bisect_right

from colo_bridge.compare.forwarding import Forwarding
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.segment import Segment
from colo_bridge.compare.window import Windows
from colo_bridge.wire.build import timestamps
from colo_bridge.wire.packet import ACK, TcpPacket
from colo_bridge.wire.serial import Position, Serial, first_position, position_near


class Floor:
    """`above` holds the primary's segments that wait for the floor alone, in order of their ACK."""

    __slots__ = ("_lost_at", "above", "ledger", "newest_stamp", "primary", "secondary", "windows")

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.primary: Position | None = None
        """The primary's highest ACK."""
        self.secondary: Position | None = None
        """The secondary's highest ACK: the floor, since the primary's ACKs are what it is applied to."""
        self.above: list[Segment] = []
        self.windows = Windows()
        self.newest_stamp: Serial | None = None
        """The newest TSval known to have left while something with octets waited."""
        self._lost_at: Position | None = None

    def primary_ack(self, packet: TcpPacket) -> Position | None:
        """What a packet of the primary acknowledges; None: it has no ACK flag."""
        if not packet.flags & ACK:
            return None
        highest = self.primary
        if highest is None:
            ack = _first_ack(packet.acknowledgment, self.secondary)
        else:
            ack = position_near(packet.acknowledgment, highest)
            if ack <= highest:
                return ack
        self.primary = ack
        return ack

    def settle(self, segment: Segment) -> None:
        """Release a segment whose octets are verified, or hold it until the floor reaches its ACK."""
        if self.reaches(segment):
            self._leave(segment)
        elif self.ledger.hold(segment):
            ack = _ack_of(segment)
            if self.ledger.settings.forward:
                segment.retain()
            else:
                segment.retain_header()
            self.above.insert(bisect_right(self.above, ack, key=_ack_of), segment)

    def reaches(self, segment: Segment) -> bool:
        """Whether the floor, and the window where it matters, lets a segment leave."""
        ack, floor = segment.ack, self.secondary
        return ack is None or (floor is not None and ack <= floor and self._fits_window(segment))

    def settle_pure(self, segment: Segment) -> None:
        """The same for a segment without octets."""
        if self.ledger.settings.cure_after is not None:
            self.windows.note_primary(segment)
        self.settle(segment)

    def secondary_acknowledges(self, packet: TcpPacket) -> Position:
        """What a packet of the secondary with the ACK flag acknowledges.

        The caller calls `release` afterwards, once the octets of that packet were compared: what they
        verify comes first.
        """
        highest = self.secondary
        if highest is None:
            self.secondary = ack = _first_ack(packet.acknowledgment, self.primary)
        else:
            ack = position_near(packet.acknowledgment, highest)
            if ack > highest:
                self.secondary = ack
        self.windows.note_secondary(packet, ack)
        return ack

    def lower(self, before: float, forwarding: Forwarding | None) -> None:
        """Lower to the floor what it has held since before a time.

        The client learns how far the secondary is, and resends what it lacks.  Older pure ACKs leave lowered.
        The newest stays, to leave when the secondary has caught up, since nobody would send it again; it, and
        octets that are verified, are forwarded lowered where there is a way.
        """
        floor = self.secondary
        if floor is None or not self.above or _ack_of(self.above[-1]) <= floor:
            return
        above, self.above = self.above, []
        for segment in above:
            waits = segment.arrived >= before or _ack_of(segment) <= floor
            if waits or not self._lower(segment, floor, segment is above[-1], forwarding):
                self.above.append(segment)

    def _lower(self, segment: Segment, floor: Position, newest: bool, forwarding: Forwarding | None) -> bool:
        """Whether the segment has to wait no longer."""
        if segment.start < segment.end:
            return forwarding is not None and forwarding.forward_octets(segment)
        if not newest:
            self.ledger.revise(segment, self.windows.narrowed(segment, floor))
        elif forwarding is not None:
            forwarding.tell(segment)
        return not newest

    def take_all(self) -> list[Segment]:
        """What the floor holds, for a checkpoint to release."""
        above, self.above = self.above, []
        return above

    def lost_input(self) -> bool:
        """Whether the secondary will never acknowledge what a checkpoint is about to release.

        A checkpoint that copies no state may take from the secondary what the client sent.  It may
        only be late; but if it has acknowledged nothing from one such checkpoint to the next, it is lost.
        """
        if not self.above:
            return False
        lost = self._lost_at is not None and self._lost_at == self.secondary
        self._lost_at = self.secondary
        return lost

    def synchronise(self) -> None:
        """The secondary is a copy of the primary."""
        self.secondary = self.primary
        self._lost_at = None
        self.windows.synchronise()

    def release(self) -> None:
        """Let what the floor has reached leave."""
        above, floor = self.above, self.secondary
        if not above or floor is None or _ack_of(above[0]) > floor:
            return
        reached = above[: bisect_right(above, floor, key=_ack_of)]
        without_window = []
        for segment in reached:
            if self._fits_window(segment):
                self._leave(segment)
                if self.ledger.settings.forward:
                    self.note_left(segment)
            else:
                without_window.append(segment)
        above[: len(reached)] = without_window

    def note_left(self, segment: Segment) -> None:
        """Remember the timestamp of what left, or is about to, ahead of something with octets that waits."""
        stamps = timestamps(segment.packet(), segment.tcp - segment.ip)
        if stamps is None:
            return
        newest = self.newest_stamp
        if newest is None or position_near(stamps[0], first_position(newest)) > first_position(newest):
            self.newest_stamp = stamps[0]

    def _fits_window(self, segment: Segment) -> bool:
        return segment.edge is None or self.windows.may_leave(segment.edge, _ack_of(segment))

    def _leave(self, segment: Segment) -> None:
        if segment.edge is None or not self.windows.is_too_wide(segment.edge):
            self.ledger.release(segment)
        else:
            self.ledger.revise(segment, self.windows.narrowed(segment, _ack_of(segment)))


def _first_ack(number: Serial, other: Position | None) -> Position:
    return first_position(number) if other is None else position_near(number, other)


def _ack_of(segment: Segment) -> Position:
    assert segment.ack is not None
    return segment.ack
