"""The two streams of one TCP connection, compared by sequence number.

1. The **cursor** is the number up to which both streams are known equal; it only moves over
   octets (payload, SYN, FIN): those that both sides sent, at a checkpoint those that the primary sent.
2. A primary segment leaves when all its octets lie below the cursor and its ACK does not exceed
   the acknowledged floor.
3. A gap is waited for; unequal octets are a divergence.
4. What is equal in front of a RST leaves before it is judged whether the other side goes on behind that.

Both sides are in the primary's numbers: the rewriter sees to that.
"""

from __future__ import annotations

from collections import deque

from colo_bridge.compare.differences import Differences
from colo_bridge.compare.forwarding import Forwarding
from colo_bridge.compare.item import Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.reset import Resets
from colo_bridge.compare.segment import (
    LONG,
    Queue,
    Segment,
    insert_in_order,
    is_covered,
    remove_newest,
    take_below,
)
from colo_bridge.wire.packet import ACK, FIN, TcpPacket
from colo_bridge.wire.serial import Position, Serial, serial_at


class Streams(Differences):
    __slots__ = (
        "ethernet",
        "finished",
        "forwarding",
        "near",
        "never_compared",
        "origin",
        "primary_end",
        "refusals",
        "repeated",
        "resets",
        "secondary_end",
        "secondary_isns",
        "unsynchronised",
        "unverified",
    )

    def __init__(self, flow: bytes, ledger: Ledger) -> None:
        super().__init__(flow, ledger)
        self.unsynchronised = False
        self.finished = False
        # The lowest number that was ever compared, and some number of this connection.
        self.origin: Position | None = None
        self.near: Position | None = None
        # The number behind all octets that a side sent; what has none moves nothing.
        self.primary_end: Position | None = None
        self.secondary_end: Position | None = None
        # The primary's segments: with octets above the cursor; from below the first number that was compared.
        self.unverified: Queue = []
        self.never_compared: tuple[Segment, ...] = ()
        self.secondary_isns: tuple[Serial, ...] = ()
        """The secondary's own numbers, the newest last; none before its SYN."""
        self.resets: Resets[Position] | None = None
        self.refusals: Resets[Serial] | None = None
        """RSTs that refuse a SYN of the client, by the number that acknowledges it."""
        self.ethernet = b""
        """The header in front of the secondary's packets, where packets of our own may be sent."""
        self.forwarding: Forwarding | None = None
        self.repeated: Segment | None = None
        """Something below the cursor that the secondary has sent again."""

    # The primary's octets.

    def _primary_octets(self, segment: Segment) -> None:
        """A segment that is neither SYN nor RST."""
        end = segment.end
        if end == segment.start:
            if self.unverified:
                self.floor.note_ahead(segment, self.cursor)
            self.floor.settle_pure(segment)
            return
        if self.primary_end is None or end > self.primary_end:
            self.primary_end = end
        cursor = self.cursor
        if cursor is not None and end <= cursor:
            self._primary_repeats(segment)
            return
        if self.origin is not None and segment.start < self.origin:
            self._hold_never_compared(segment)
            return
        # Fast path: in order.
        unverified = self.unverified
        if not unverified or unverified[-1].start <= segment.start:
            unverified.append(segment)
        else:
            insert_in_order(unverified, segment)
            self.floor.note_left(segment)
        if self.uncompared and not self.diverged:
            self._advance()
        if self.resets is not None and self._secondary_reset_passed():
            self._diverge_control(segment.start, "the secondary reset the connection, the primary goes on", segment)
        if self.cursor is None or end > self.cursor:
            self._wait(segment)

    def _wait(self, segment: Segment) -> None:
        segment.retain()
        if not self.ledger.hold(segment):
            remove_newest(self.unverified, segment)
        elif len(self.unverified) == LONG and isinstance(self.unverified, list):
            self.unverified = deque(self.unverified)

    def _primary_repeats(self, segment: Segment) -> None:
        """All octets lie below the cursor: released without a look, unless they were never compared."""
        if self.origin is not None and segment.start < self.origin:
            self._hold_never_compared(segment)
            return
        self.ledger.counters.retransmissions += 1
        if self.unverified:
            self.floor.note_ahead(segment, self.cursor)
        self._settle(segment)

    def _settle(self, segment: Segment) -> None:
        if self.forwarding is None:
            self.floor.settle(segment)
        else:
            self.forwarding.settle(segment)

    def _hold_never_compared(self, segment: Segment) -> None:
        if self.ledger.settings.pass_unsynchronised:
            self.ledger.counters.unverified_packets += 1
            self.ledger.release(segment)
        elif self.ledger.hold(segment):
            segment.retain()
            self.never_compared = (*self.never_compared, segment)

    # The secondary's octets.

    def _secondary_octets(self, segment: Segment) -> None:
        """A segment that is neither SYN nor RST."""
        end, cursor = segment.end, self.cursor
        if end > segment.start and (self.secondary_end is None or end > self.secondary_end):
            self.secondary_end = end
        uncompared = self.uncompared
        if end == segment.start or self.diverged or (cursor is not None and end <= cursor):
            if cursor is not None and segment.start < cursor:
                self._secondary_repeats(segment)
            self.floor.note_sack(segment)
            self.ledger.throw_away(segment)
            return
        # Fast path: in order.
        if not uncompared or uncompared[-1].end <= segment.start:
            uncompared.append(segment)
        elif is_covered(uncompared, segment):
            self.ledger.throw_away(segment)
            return
        else:
            insert_in_order(uncompared, segment)
        if self.unverified:
            self._advance()
        if self.resets is not None and self._primary_reset_passed():
            detail = "the primary reset the connection, the secondary goes on"
            self._diverge_control(segment.start, detail, segment, *self.resets.held)
        if self.diverged:
            return
        if self.cursor is None or end > self.cursor:
            self._keep(segment)

    def _secondary_repeats(self, segment: Segment) -> None:
        """The secondary sends again what was compared, or probes: an ACK may have been lost on its way there."""
        if self.ethernet and segment.flags & ACK:
            segment.retain_header()
            self.repeated = segment
            self.ledger.owing[segment.owner] = None

    def _keep(self, segment: Segment) -> None:
        segment.retain()
        if not self.ledger.keep(segment):
            remove_newest(self.uncompared, segment)
        elif len(self.uncompared) == LONG and isinstance(self.uncompared, list):
            self.uncompared = deque(self.uncompared)

    # The comparison.

    def _advance(self) -> None:
        """Compare what both sides have at the cursor, as far as it goes."""
        if self.cursor is None and not self._start_in_midstream():
            return
        cursor = self.cursor
        assert cursor is not None
        primary, secondary = self.unverified, self.uncompared
        while primary and secondary:
            ours, theirs = primary[0], secondary[0]
            if ours.start > cursor or theirs.start > cursor:
                break  # a gap, on either side
            end = ours.end if ours.end < theirs.end else theirs.end
            if end > cursor:
                # Fast path: payload on both sides, no FIN.
                if end <= ours.data_end and end <= theirs.data_end:
                    if not ours.same_bytes(theirs, cursor, end):
                        self._diverge_content(ours, theirs, cursor, end)
                        if self.diverged:
                            break
                        end = ours.end
                elif not self._same_up_to_fin(ours, theirs, cursor):
                    if self.diverged:
                        break
                    end = ours.end
                self.cursor = cursor = end
            if ours.end <= end:
                del primary[0]
                if self.forwarding is None:
                    self.floor.settle(ours)
                else:
                    self.forwarding.settle(ours)
            if theirs.end <= end:
                del secondary[0]
                self.ledger.throw_away(theirs)
        self._decide_below_cursor()

    def _decide_below_cursor(self) -> None:
        """What lies wholly below the cursor without having been used: retransmissions, cut in another way."""
        cursor, primary, secondary = self.cursor, self.unverified, self.uncompared
        assert cursor is not None
        if primary and primary[0].start < cursor:
            for segment in take_below(primary, cursor):
                self._primary_repeats(segment)
        if secondary and secondary[0].start < cursor:
            for segment in take_below(secondary, cursor):
                self.ledger.throw_away(segment)

    def _same_as_waiting(self, packet: TcpPacket, cursor: Position, ack: Position | None, token: Token) -> bool:
        """Fast path of the fast path: the primary sends just what the secondary's only waiting segment holds."""
        uncompared, floor = self.uncompared, self.floor.secondary
        if len(uncompared) != 1 or self.unverified or packet.flags & FIN:
            return False
        theirs = uncompared[0]
        if (
            theirs.start != cursor
            or packet.sequence != serial_at(cursor)
            or theirs.end - cursor != packet.end - packet.payload
            or theirs.end != theirs.data_end
            or (ack is not None and (floor is None or ack > floor))
            or not packet.buffer.startswith(theirs.buffer, packet.payload)
        ):
            return False
        self.cursor = end = theirs.end
        if self.primary_end is None or end > self.primary_end:
            self.primary_end = end
        uncompared.clear()
        self.ledger.throw_away(theirs)
        self.ledger.pass_on(token, packet.end - packet.ip)
        return True

    def _same_as_head(self, packet: TcpPacket, cursor: Position) -> bool:
        """Fast path of the fast path: the secondary sends just what the primary's only waiting segment holds."""
        unverified = self.unverified
        if len(unverified) != 1 or self.uncompared or self.diverged or packet.flags & FIN:
            return False
        ours = unverified[0]
        if (
            ours.start != cursor
            or packet.sequence != serial_at(cursor)
            or ours.end - cursor != packet.end - packet.payload
            or ours.end != ours.data_end
            or not packet.buffer.startswith(ours.buffer, packet.payload)
        ):
            return False
        self.cursor = end = ours.end
        if self.secondary_end is None or end > self.secondary_end:
            self.secondary_end = end
        unverified.clear()
        self.floor.settle(ours)
        counters = self.ledger.counters
        counters.thrown_away_packets += 1
        counters.thrown_away_bytes += packet.end - packet.ip
        return True

    def _start_in_midstream(self) -> bool:
        """Without a SYN the cursor starts at the primary's lowest byte, once the secondary covers it."""
        lowest = self.unverified[0].start
        if not any(theirs.start <= lowest < theirs.end for theirs in self.uncompared):
            return False
        self.cursor = self.origin = self.near = lowest
        return True

    def _same_up_to_fin(self, ours: Segment, theirs: Segment, start: int) -> bool:
        """Compare a part at whose end a FIN stands on one side at least."""
        common = min(ours.data_end, theirs.data_end)
        if common > start and not ours.same_bytes(theirs, start, common):
            self._diverge_content(ours, theirs, start, common)
            if not self.diverged and ours.flags & FIN:
                self.finished = True
            return False
        if ours.data_end != theirs.data_end:
            self.cursor = common
            who = "primary" if ours.data_end < theirs.data_end else "secondary"
            self._diverge_control(common, f"only the {who} ends its stream here", ours, theirs)
            return False
        self.finished = True
        return True

    # Resets: the other side goes on behind them.

    def _primary_reset_passed(self) -> bool:
        """Whether the secondary has an octet, not compared yet, at or after a RST of the primary."""
        assert self.resets is not None
        numbers = self.resets.held.values()
        return any(self._is_passed(number, self.primary_end, self.secondary_end) for number in numbers)

    def _secondary_reset_passed(self) -> bool:
        assert self.resets is not None
        return any(self._is_passed(number, self.secondary_end, self.primary_end) for number in self.resets.secondary)

    def _is_passed(self, number: Position, own_end: Position | None, end: Position | None) -> bool:
        """Whether `end` lies behind the RST, the cursor, and all that the side of the RST sent itself."""
        return end is not None and all(other is None or end > other for other in (number, self.cursor, own_end))

    # What two healthy stacks might wait for.

    def cure(self, before: float) -> None:
        """Let the client know what it may of what waits since before a time."""
        if self.ethernet and self.forwarding is None:
            self.forwarding = Forwarding(self)
        self.floor.lower(before, self.forwarding)
        if self.forwarding is not None and not self.diverged:
            self.forwarding.act(before)

    # The checkpoint.

    def take_held(self, resets: list[Segment]) -> list[Segment]:
        """Everything that is held, in order of sequence, then of arrival; the secondary's is forgotten."""
        if self.forwarding is not None:
            self.forwarding.forget()
        held = [*self.never_compared, *self.unverified, *self.floor.take_all(), *resets]
        arrival = self.ledger.held
        held.sort(key=lambda segment: (segment.start, arrival[segment]))
        self.never_compared = ()
        self.unverified.clear()
        self._forget_uncompared()
        self.secondary_end = None
        self.diverged = False
        return held

    def go_on_from_primary_end(self) -> None:
        """A checkpoint is done: the comparison goes on behind what the primary sent until then."""
        end = self.primary_end
        if end is not None and (self.cursor is None or end > self.cursor):
            self.cursor = self.near = end
        if self.cursor is not None:
            self.origin = None
