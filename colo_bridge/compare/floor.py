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
from colo_bridge.wire.build import is_plain, sack_blocks, selective, timestamps
from colo_bridge.wire.options import may_have_blocks
from colo_bridge.wire.packet import ACK, SYN, TcpPacket
from colo_bridge.wire.serial import Position, Serial, first_position, position_near


class Floor:
    """`above` holds the primary's segments that wait for the floor alone, in order of their ACK."""

    __slots__ = (
        "_lost_at",
        "_sack",
        "_sack_at",
        "_told_ack",
        "_told_edge",
        "_told_sack",
        "above",
        "echo",
        "ledger",
        "newest_stamp",
        "owed",
        "primary",
        "secondary",
        "syn_stamp",
        "windows",
    )

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
        self.owed: Segment | None = None
        """The newest segment of which the client was told less than it says: a lower ACK, or a smaller window."""
        self.syn_stamp: Serial | None = None
        """TSval of the primary's SYN: older than all that the client has seen since."""
        self.echo: Serial | None = None
        """The client's timestamp that the secondary echoed when it had something missing, or no more."""
        # The option by which the secondary said what it has above its ACK, and that ACK.
        self._sack = b""
        self._sack_at: Position | None = None
        self._told_ack: Position | None = None
        self._told_edge: Position | None = None
        self._told_sack = b""
        self._lost_at: Position | None = None

    def note_primary_syn(self, syn: Segment) -> None:
        self.windows.note_primary_syn(syn)
        if self.ledger.settings.forward:
            stamps = timestamps(syn.headers(), syn.tcp - syn.ip)
            self.syn_stamp = None if stamps is None else stamps[0]

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
        ack, floor = segment.ack, self.secondary
        if ack is None or (floor is not None and ack <= floor and self._fits_window(segment)):
            self._leave(segment)
        elif self.ledger.hold(segment):
            if self.ledger.settings.forward and segment.start < segment.end:
                segment.retain()
            else:
                segment.retain_header()
            self.above.insert(bisect_right(self.above, ack, key=_ack_of), segment)

    def reaches(self, segment: Segment) -> bool:
        """Whether the floor, and the window where it matters, lets a segment leave."""
        ack, floor = segment.ack, self.secondary
        return ack is None or (floor is not None and ack <= floor and self._fits_window(segment))

    def settle_pure(self, segment: Segment) -> None:
        """The same for a segment without octets, or with a SYN alone: no more window than the secondary has."""
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

    def note_sack(self, segment: Segment) -> None:
        """What the secondary has above its ACK: a client that is told a lowered ACK has to know what is missing."""
        floor = self.secondary
        if floor is None or not (self._sack or may_have_blocks(segment.buffer, segment.tcp, segment.offset)):
            return
        found = sack_blocks(segment.headers(), segment.tcp - segment.ip)
        places = [(position_near(first, floor), position_near(behind, floor)) for first, behind in found]
        if _repeats(places, floor):
            del found[0]
        self._sack, self._sack_at = selective(found), floor
        stamps = timestamps(segment.headers(), segment.tcp - segment.ip)
        self.echo = None if stamps is None else stamps[1]

    @property
    def sack(self) -> bytes:
        """The SACK option that belongs to an ACK at the floor."""
        return self._sack if self._sack_at == self.secondary else b""

    def lower(self, before: float, forwarding: Forwarding | None) -> None:
        """Let the client know how far the secondary is, where something has waited for it since before a time.

        Older pure ACKs leave lowered to the floor.  The newest stays, to leave when the secondary has caught up, since
        nobody would send it again; it is told lowered, and octets that are verified are forwarded, where there is
        a way.  What waited for room in the secondary's window leaves without.
        """
        floor, above = self.secondary, self.above
        if floor is None or not above:
            return
        newest, self.above = above[-1], []
        for segment in above:
            if segment.arrived >= before or not self._lower(segment, floor, segment is newest, forwarding):
                self.above.append(segment)

    def _lower(self, segment: Segment, floor: Position, newest: bool, forwarding: Forwarding | None) -> bool:
        """Whether the segment has to wait no longer."""
        if _ack_of(segment) <= floor:
            self._narrow(segment)
        elif segment.start < segment.end:
            return forwarding is not None and forwarding.forward_octets(segment)
        elif not is_plain(segment.header, segment.tcp):
            return False
        elif not newest:
            self.ledger.revise(segment, self.windows.lowered(segment, floor, self.sack, self.echo))
        else:
            news = self._told_ack is None or floor > self._told_ack or self.sack != self._told_sack
            if forwarding is not None and news:
                forwarding.tell(segment)
            return False
        return True

    def lowered(self, segment: Segment) -> Position:
        """The ACK of a segment, as far as the secondary has acknowledged too."""
        assert self.secondary is not None
        return min(_ack_of(segment), self.secondary)

    def above_floor(self) -> list[Segment]:
        """What waits for the floor, without what waits for room."""
        floor = self.secondary
        return [segment for segment in self.above if floor is None or _ack_of(segment) > floor]

    def owe(self, segment: Segment) -> None:
        """The client is being told less than this segment says."""
        self.note_told(segment)
        if not self.ledger.settings.forward or segment.flags & SYN or self.is_paid(segment):
            return
        segment.retain_header()
        self.owed = segment
        self.ledger.owing[segment.owner] = None

    def owes_nothing(self, since: float) -> bool:
        """Nothing is owed, or what is so old that the client asks by itself (RFC 9293 §3.8.6.1)."""
        if self.owed is not None and self.owed.arrived < since:
            self.owed = None
        return self.owed is None

    def note_told(self, segment: Segment) -> None:
        self._told_ack = self.lowered(segment)
        self._told_edge = self.windows.limit(segment)
        self._told_sack = self.sack

    def owes_news(self, segment: Segment) -> bool:
        """Whether more can be told by now, and the client needs it."""
        assert self._told_ack is not None
        ack, limit, told = self.lowered(segment), self.windows.limit(segment), self._told_edge
        if ack > self._told_ack or self.sack != self._told_sack:
            return True
        return (
            limit is not None
            and told is not None
            and self.windows.is_news(limit - ack, told - ack, limit == segment.edge)
        )

    def is_paid(self, segment: Segment) -> bool:
        """Everything was told, or a newer segment is there to tell more."""
        ack = _ack_of(segment)
        if self.primary is not None and self.primary > ack:
            return True
        return self._told_ack == ack and self._told_edge == segment.edge

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
                if segment.start < segment.end:
                    self.note_left(segment)
            else:
                without_window.append(segment)
        above[: len(reached)] = without_window

    def note_ahead(self, segment: Segment, cursor: Position | None) -> None:
        """A segment leaves ahead of octets that wait, unless the floor holds it too.

        A receiver takes timestamps from nothing that lies above all that it has (RFC 7323 §4.3).
        """
        if cursor is not None and segment.start <= cursor and self.reaches(segment):
            self.note_left(segment)

    def note_left(self, segment: Segment) -> None:
        """The client gets this segment's timestamps before those of what waits now."""
        if not self.ledger.settings.forward:
            return
        stamps = timestamps(segment.headers(), segment.tcp - segment.ip)
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
            self._narrow(segment)

    def _narrow(self, segment: Segment) -> None:
        self.ledger.revise(segment, self.windows.narrowed(segment, _ack_of(segment)))
        self.owe(segment)


def _first_ack(number: Serial, other: Position | None) -> Position:
    return first_position(number) if other is None else position_near(number, other)


def _ack_of(segment: Segment) -> Position:
    assert segment.ack is not None
    return segment.ack


def _repeats(blocks: list[tuple[Position, Position]], ack: Position) -> bool:
    """Whether the first block only reports a duplicate (RFC 2883 §4), which is not for the client to heed."""
    if not blocks or blocks[0][0] < ack:
        return bool(blocks)
    (first, behind), others = blocks[0], blocks[1:2]
    return any(start <= first and behind <= end for start, end in others)
