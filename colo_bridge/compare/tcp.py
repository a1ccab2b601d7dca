"""One TCP connection: two streams compared by sequence number.

1. The **cursor** is the number up to which both streams are known equal; it only moves over
   octets (payload, SYN, FIN) that both sides sent.
2. A primary segment leaves when all its octets lie below the cursor and its ACK does not exceed
   the **acknowledged floor**: what the secondary has acknowledged.
3. A gap is waited for; unequal octets are a divergence.

Both sides are in the primary's numbers (the rewriter sees to that), but for the secondary's SYN,
whose own number is unknown to the client and matches whatever it is.
"""

from __future__ import annotations

from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.compare.floor import Floor
from colo_bridge.compare.item import Item, Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.reset import Resets
from colo_bridge.compare.segment import Segment, insert_in_order, is_covered, take_below
from colo_bridge.wire.packet import ACK, FIN, RST, SYN, TcpPacket
from colo_bridge.wire.serial import Position, Serial, first_position, position_near, serial_at

_REMEMBERED_ISNS = 4


class TcpConnection:
    __slots__ = (
        "cursor",
        "diverged",
        "epoch",
        "finished",
        "floor",
        "flow",
        "generation",
        "ledger",
        "near",
        "never_compared",
        "origin",
        "primary_end",
        "primary_followed",
        "primary_isns",
        "primary_syns",
        "resets",
        "secondary_end",
        "secondary_followed",
        "secondary_isn",
        "secondary_syn",
        "syn_matched",
        "uncompared",
        "unsynchronised",
        "unverified",
    )

    def __init__(self, flow: bytes, ledger: Ledger, generation: int) -> None:
        self.flow = flow
        self.ledger = ledger
        self.generation = generation
        self.epoch = ledger.epoch
        self.unsynchronised = False
        self.diverged = False
        self.finished = False
        # The cursor, the lowest number that was ever compared, and some number of this connection.
        self.cursor: Position | None = None
        self.origin: Position | None = None
        self.near: Position | None = None
        self.primary_end: Position | None = None
        self.secondary_end: Position | None = None
        self.floor = Floor(ledger)
        # The primary's segments: with octets above the cursor; from below the first number that was compared.
        self.unverified: list[Segment] = []
        self.never_compared: list[Segment] = []
        # The secondary's segments with octets above the cursor.
        self.uncompared: list[Segment] = []
        self.primary_isns: list[Position] = []
        self.primary_syns: list[Segment] = []
        self.secondary_syn: Segment | None = None
        self.secondary_isn: Serial | None = None
        self.syn_matched = False
        self.primary_followed = False
        self.secondary_followed = False
        self.resets: Resets | None = None

    # The primary's side.

    def from_primary(self, packet: TcpPacket, token: Token, now: float) -> None:
        flags = packet.flags
        # Fast path: the connection is being compared, and this segment is neither SYN nor RST.
        cursor = self.cursor
        if cursor is None or flags & (SYN | RST) or not self.primary_followed:
            self._from_primary_slowly(packet, token, now)
            return
        segment = Segment(
            packet, position_near(packet.sequence, cursor), self.floor.primary_ack(packet), token, self, now
        )
        self._primary_octets(segment)

    def _from_primary_slowly(self, packet: TcpPacket, token: Token, now: float) -> None:
        ack = self.floor.primary_ack(packet)
        segment = Segment(packet, self._position(packet.sequence), ack, token, self, now)
        if packet.flags & RST:
            self._primary_reset(segment)
        elif packet.flags & SYN:
            self._primary_syn(segment)
        else:
            if not self.primary_followed:
                self.primary_followed = True
                self._choose_isn(segment.start)
            self._primary_octets(segment)

    def _primary_octets(self, segment: Segment) -> None:
        """A segment that is neither SYN nor RST."""
        end = segment.end
        if self.primary_end is None or end > self.primary_end:
            self.primary_end = end
        if end == segment.start:
            self.floor.settle_pure(segment)
            return
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
        if self.resets is not None and self._secondary_reset_passed():
            self._diverge_control(segment.start, "the secondary reset the connection, the primary goes on")
        if self.uncompared and not self.diverged:
            self._advance()
        if self.cursor is None or end > self.cursor:
            self._wait(segment)

    def _wait(self, segment: Segment) -> None:
        segment.retain()
        if not self.ledger.hold(segment):
            self.unverified.remove(segment)

    def _primary_repeats(self, segment: Segment) -> None:
        """All octets lie below the cursor: released without a look, unless they were never compared."""
        if self.origin is not None and segment.start < self.origin:
            self._hold_never_compared(segment)
            return
        self.ledger.counters.retransmissions += 1
        self.floor.settle(segment)

    def _hold_never_compared(self, segment: Segment) -> None:
        if self.ledger.settings.pass_unsynchronised:
            self.ledger.counters.unverified_packets += 1
            self.ledger.release(segment)
        elif self.ledger.hold(segment):
            segment.retain()
            self.never_compared.append(segment)

    # The secondary's side.

    def from_secondary(self, packet: TcpPacket, now: float) -> None:
        # Fast path: the connection is being compared, and this segment is neither SYN nor RST.
        cursor = self.cursor
        if cursor is None or packet.flags & (SYN | RST) or not self.secondary_followed:
            self._from_secondary_slowly(packet, now)
            return
        if packet.flags & ACK:
            self.floor.secondary_acknowledges(packet)
        segment = Segment(packet, position_near(packet.sequence, cursor), None, None, self, now)
        self._secondary_octets(segment)

    def _from_secondary_slowly(self, packet: TcpPacket, now: float) -> None:
        if packet.flags & ACK:
            self.floor.secondary_acknowledges(packet)
        segment = Segment(packet, self._position(packet.sequence), None, None, self, now)
        if packet.flags & RST:
            self._secondary_reset(segment)
        elif packet.flags & SYN:
            self._secondary_syn(segment)
        else:
            self.secondary_followed = True
            self._secondary_octets(segment)

    def _secondary_octets(self, segment: Segment) -> None:
        """A segment that is neither SYN nor RST."""
        end, cursor = segment.end, self.cursor
        if self.secondary_end is None or end > self.secondary_end:
            self.secondary_end = end
        uncompared = self.uncompared
        if (
            end == segment.start
            or self.diverged
            or (cursor is not None and end <= cursor)
            or (uncompared and segment.start < uncompared[-1].end and is_covered(uncompared, segment))
        ):
            self.ledger.throw_away(segment)
            return
        if not uncompared or uncompared[-1].start <= segment.start:
            uncompared.append(segment)
        else:
            insert_in_order(uncompared, segment)
        if self.resets is not None and self._primary_reset_passed():
            self._diverge_control(segment.start, "the primary reset the connection, the secondary goes on")
            return
        if self.unverified:
            self._advance()
            if self.diverged:
                return
        if self.cursor is None or end > self.cursor:
            self._keep(segment)

    def _keep(self, segment: Segment) -> None:
        segment.retain()
        if not self.ledger.keep(segment):
            self.uncompared.remove(segment)

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
                        return
                elif not self._same_up_to_fin(ours, theirs, cursor):
                    return
                self.cursor = cursor = end
            if ours.end <= end:
                del primary[0]
                self.floor.settle(ours)
            if theirs.end <= end:
                del secondary[0]
                self.ledger.throw_away(theirs)
        if primary and primary[0].start < cursor:
            for segment in take_below(primary, cursor):
                self._primary_repeats(segment)
        if secondary and secondary[0].start < cursor:
            for segment in take_below(secondary, cursor):
                self.ledger.throw_away(segment)

    def _start_in_midstream(self) -> bool:
        """Without a SYN the cursor starts at the primary's lowest byte, once the secondary covers it."""
        if self.primary_isns or self.secondary_syn is not None:
            return False
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
            return False
        if ours.data_end != theirs.data_end:
            who = "primary" if ours.data_end < theirs.data_end else "secondary"
            self._diverge_control(common, f"only the {who} ends its stream here")
            return False
        self.finished = True
        return True

    # The handshake.

    def _primary_syn(self, segment: Segment) -> None:
        self.floor.windows.note_primary_syn(segment)
        if segment.start not in self.primary_isns:
            self.primary_isns = [*self.primary_isns, segment.start][-_REMEMBERED_ISNS:]
            self.primary_end = segment.end
            self.near = segment.start
            if self.syn_matched:
                self._begin(segment.start)
        if self.syn_matched:
            self.ledger.counters.retransmissions += 1
            self._verified_syn(segment)
            return
        segment.retain()
        if not self.ledger.hold(segment):
            return
        self.primary_syns.append(segment)
        if self.secondary_syn is not None:
            self._match_syns()
        elif self.resets is not None and self.resets.secondary:
            self._diverge_control(segment.start, "the secondary refused the connection")

    def _secondary_syn(self, segment: Segment) -> None:
        self.floor.windows.note_secondary_syn(segment)
        if self.secondary_syn is not None:
            if not self.secondary_followed:
                self.secondary_isn = serial_at(segment.start)
            self.ledger.throw_away(segment)
            return
        segment.retain()
        self.secondary_syn = segment
        self.secondary_isn = serial_at(segment.start)
        if self.primary_isns:
            self._match_syns()
        elif self.resets is not None and self.resets.held:
            self._diverge_control(segment.start, "the primary refused the connection")
        else:
            self.ledger.keep(segment)

    def _match_syns(self) -> None:
        """Both sides sent their SYN: they are the same octet, whatever their numbers."""
        assert self.secondary_syn is not None
        self.syn_matched = True
        self._begin(self.primary_isns[-1])
        self._place_secondary_syn_data(self.secondary_syn)
        syns, self.primary_syns = self.primary_syns, []
        for segment in syns:
            self._verified_syn(segment)

    def _begin(self, isn: Position) -> None:
        self.origin = self.near = isn
        self.cursor = Position(isn + 1)

    def _verified_syn(self, segment: Segment) -> None:
        """The SYN itself is equal; data that came with it is compared like any other."""
        if segment.end == segment.start + 1:
            self.floor.settle(segment)
        else:
            self._primary_octets(segment)

    def _place_secondary_syn_data(self, syn: Segment) -> None:
        if syn.data_end == syn.data_start and not syn.flags & FIN:
            self.ledger.throw_away(syn)
            return
        syn.move_to(self.primary_isns[-1])
        self._secondary_octets(syn)

    def _choose_isn(self, start: Position) -> None:
        """With SYN cookies several SYNs may be out: the first segment behind tells which one counts."""
        if len(self.primary_isns) > 1 and self.syn_matched:
            self._begin(min(self.primary_isns, key=lambda isn: abs(start - isn - 1)))

    def opens_anew_for_primary(self, number: Serial) -> bool:
        """Whether a SYN of the primary with this number belongs to the next connection."""
        if not self.primary_followed and self.primary_isns:
            return False  # a newer ISN replaces it
        return all(serial_at(isn) != number for isn in self.primary_isns)

    def opens_anew_for_secondary(self, number: Serial) -> bool:
        """Whether a SYN of the secondary with this number belongs to the next connection."""
        if self.secondary_syn is None:
            return self.secondary_followed or self.secondary_was_reset or not self.may_open(self.primary_isns)
        if not self.secondary_followed:
            return False  # a newer ISN replaces it
        return number != self.secondary_isn and all(serial_at(isn) != number for isn in self.primary_isns)

    @property
    def secondary_was_reset(self) -> bool:
        return self.resets is not None and bool(self.resets.secondary or self.resets.matched)

    def may_open(self, other_isns: object) -> bool:
        """Whether a side's first SYN belongs here: the other side opened this connection too, or refused it."""
        return bool(other_isns) or not (self.primary_followed or self.secondary_followed)

    # Resets.

    def _primary_reset(self, segment: Segment) -> None:
        self.primary_followed = self.primary_followed or bool(self.primary_isns)
        resets = self._resets()
        if resets.from_primary(segment):
            self.finished = True
            self.ledger.release(segment)
            return
        segment.retain()
        if not self.ledger.hold(segment):
            resets.held.remove(segment)
        elif resets.conflict:
            self._diverge_control(segment.start, "both sides reset the connection, at different numbers")
        elif self.secondary_syn is not None and not self.primary_isns:
            self._diverge_control(segment.start, "the primary refused the connection")
        elif self._primary_reset_passed():
            self._diverge_control(segment.start, "only the primary resets the connection")

    def _secondary_reset(self, segment: Segment) -> None:
        self.secondary_followed = self.secondary_followed or self.secondary_syn is not None
        self.ledger.throw_away(segment)
        resets = self._resets()
        freed = resets.from_secondary(segment.start)
        for reset in freed:
            self.finished = True
            self.ledger.release(reset)
        if resets.conflict:
            self._diverge_control(segment.start, "both sides reset the connection, at different numbers")
        elif not freed and self.primary_isns and self.secondary_syn is None:
            self._diverge_control(self.primary_isns[-1], "the secondary refused the connection")
        elif self._secondary_reset_passed():
            self._diverge_control(segment.start, "only the secondary resets the connection")

    def _resets(self) -> Resets:
        if self.resets is None:
            self.resets = Resets()
        return self.resets

    def _primary_reset_passed(self) -> bool:
        """Whether the secondary has an octet, not compared yet, at or after a RST of the primary."""
        assert self.resets is not None
        return any(self._is_passed(reset.start, self.secondary_end) for reset in self.resets.held)

    def _secondary_reset_passed(self) -> bool:
        assert self.resets is not None
        return any(self._is_passed(number, self.primary_end) for number in self.resets.secondary)

    def _is_passed(self, number: Position, end: Position | None) -> bool:
        if end is None:
            return False
        return end > (number if self.cursor is None else max(number, self.cursor))

    # Divergence, timeout and checkpoint.

    def _diverge_content(self, ours: Segment, theirs: Segment, start: int, end: int) -> None:
        at = ours.first_difference(theirs, start, end)
        one, other = ours.byte_at(at), theirs.byte_at(at)
        self._diverge(
            Divergence(
                Reason.CONTENT,
                self.flow,
                f"the primary sent 0x{one:02x}, the secondary 0x{other:02x}",
                serial_at(Position(at)),
                self._stream_offset(at),
                ours.data_end - ours.data_start,
                theirs.data_end - theirs.data_start,
                one,
                other,
            )
        )

    def _diverge_control(self, at: int, detail: str) -> None:
        self._diverge(Divergence(Reason.CONTROL, self.flow, detail, serial_at(Position(at)), self._stream_offset(at)))

    def _diverge(self, divergence: Divergence) -> None:
        if self.diverged:
            return
        self.diverged = True
        self._forget_uncompared()
        self.ledger.diverge(divergence)

    def _forget_uncompared(self) -> None:
        for segment in self.uncompared:
            self.ledger.throw_away(segment)
        self.uncompared.clear()

    def _stream_offset(self, at: int) -> int | None:
        return at - self.primary_isns[-1] - 1 if self.primary_isns else None

    def why_silent(self, item: Item) -> Divergence:
        assert isinstance(item, Segment)
        if item.token is None:
            detail = "the primary has not sent what the secondary sent"
        elif item in self.floor.above:
            detail = "the secondary has not acknowledged what the primary acknowledges"
        else:
            detail = "the secondary has not sent what the primary sent"
        at = item.start if self.cursor is None else max(item.start, self.cursor)
        return Divergence(Reason.TIMEOUT, self.flow, detail, serial_at(at), self._stream_offset(at))

    def renew(self, synchronised: bool) -> None:
        """A checkpoint is done. `synchronised`: the secondary now is the primary."""
        self.epoch = self.ledger.epoch
        above_floor = self.floor.take_all()
        if above_floor and not synchronised and self.floor.lost_input():
            self.unsynchronised = self.ledger.settings.pass_unsynchronised
        resets = self.resets.take_held() if self.resets is not None else []
        held = [*self.primary_syns, *self.never_compared, *self.unverified, *above_floor, *resets]
        held.sort(key=lambda segment: segment.start)
        for segment in held:
            self.ledger.release(segment)
        for queue in (self.primary_syns, self.never_compared, self.unverified):
            queue.clear()
        self._forget_uncompared()
        if self.secondary_syn is not None and not self.syn_matched:
            self.ledger.throw_away(self.secondary_syn)
        self.diverged = False
        self._go_on_from_primary_end(synchronised)

    def _go_on_from_primary_end(self, synchronised: bool) -> None:
        end = self.primary_end
        if end is not None and (self.cursor is None or end > self.cursor):
            self.cursor = self.near = end
        if self.cursor is not None:
            self.origin = None
            self.syn_matched = bool(self.primary_isns)
        if synchronised:
            self.floor.synchronise()
            self.secondary_end = self.primary_end
            self.unsynchronised = False

    # The table's questions.

    @property
    def idle(self) -> bool:
        """Nothing of this connection waits."""
        return not (
            self.unverified
            or self.floor.above
            or self.uncompared
            or self.never_compared
            or self.primary_syns
            or (self.resets is not None and self.resets.held)
        )

    @property
    def closing(self) -> bool:
        """Half open, or both sides have ended it as far as can be seen from here."""
        return self.finished or not self.primary_followed

    def note_primary(self, packet: TcpPacket) -> None:
        """Keep track of a connection that is not compared, for the checkpoint that synchronises it."""
        self.floor.primary_ack(packet)
        end = Segment(packet, self._position(packet.sequence), None, None, self, 0.0).end
        if self.primary_end is None or end > self.primary_end:
            self.primary_end = self.near = end

    def secondary_left(self) -> None:
        """The secondary has moved on to a newer connection: what it sent in this one is of no use."""
        self._forget_uncompared()

    def _position(self, number: Serial) -> Position:
        near = self.cursor if self.cursor is not None else self.near
        if near is None:
            self.near = first_position(number)
            return self.near
        return position_near(number, near)
