"""How one TCP connection is reset: RSTs of both sides at their numbers, and refusals of the client's SYNs.

1. A RST before a side's SYN refuses what the other side opened: a divergence.
2. A RST that refuses a SYN of the client says nothing about this connection's numbers: its own is 0, and what
   it acknowledges is that SYN. Neither the cursor nor the floor nor the other side's octets concern it.
"""

from __future__ import annotations

from colo_bridge.compare.opening import Opening
from colo_bridge.compare.reset import Number, Resets
from colo_bridge.compare.segment import Segment
from colo_bridge.wire.packet import TcpPacket, has_form_of_refusal
from colo_bridge.wire.serial import Position, Serial, position_near

_MOST_MISSING = 0xFFFF
"""Octets in front of a RST that may not have come yet."""


class Aborts(Opening):
    """The RSTs of a connection, beside its SYNs and streams."""

    __slots__ = ()

    # RSTs at a number of the streams.

    def _primary_reset(self, segment: Segment) -> None:
        if self.primary_isns and not self.primary_followed:
            self._primary_follows(segment.start)
        resets = self._resets()
        if not self._hold_reset(resets, segment, segment.start):
            return
        if resets.conflict:
            self._diverge_control(segment.start, "both sides reset the connection, at different numbers", segment)
        elif self._opened_by_secondary_alone:
            self._refused_by_primary(segment)
        elif self._primary_reset_passed():
            self._diverge_control(segment.start, "only the primary resets the connection", segment, *self.uncompared)

    def _secondary_reset(self, segment: Segment) -> None:
        if self.secondary_isns and not self.secondary_followed:
            self._secondary_follows(segment.start)
        self.ledger.throw_away(segment)
        resets = self._resets()
        matched = self._release_resets(resets, segment.start)
        if resets.conflict:
            detail = "both sides reset the connection, at different numbers"
            self._diverge_control(segment.start, detail, segment, *resets.held)
        elif not matched and self._opened_by_primary_alone:
            self._refused_by_secondary(segment)
        elif self._secondary_reset_passed():
            detail = "only the secondary resets the connection"
            self._diverge_control(segment.start, detail, segment, *self.unverified)

    def _resets(self) -> Resets[Position]:
        if self.resets is None:
            self.resets = Resets()
        return self.resets

    # RSTs that refuse a SYN.

    def is_refusal_of_primary(self, packet: TcpPacket) -> bool:
        """Whether a packet refuses a SYN of the client, and is not at 0 because the primary has got to there."""
        end = self.primary_end if self.primary_end is not None else self.near
        return has_form_of_refusal(packet) and not _follows(packet, end)

    def is_refusal_of_secondary(self, packet: TcpPacket) -> bool:
        """The same for the secondary; before the primary's SYN nobody knows where it has got to behind its own."""
        end = self.secondary_end
        if end is None:
            end = self.cursor if self.secondary_isns else self.near
        is_unplaced = bool(self.secondary_isns) and end is None
        return has_form_of_refusal(packet) and not is_unplaced and not _follows(packet, end)

    def awaits_answer(self, packet: TcpPacket) -> bool:
        """Whether an answer to a SYN of the client is at home here: to that of this opening, or to one refused here."""
        refused = packet.acknowledgment
        return self.is_this_opening(packet) or (self.refusals is not None and self.refusals.is_awaited(refused))

    def _primary_refusal(self, segment: Segment, refused: Serial) -> None:
        if self._hold_reset(self._refusals(), segment, refused) and self._opened_by_secondary_alone:
            self._refused_by_primary(segment)

    def _secondary_refusal(self, segment: Segment, refused: Serial) -> None:
        self.ledger.throw_away(segment)
        if not self._release_resets(self._refusals(), refused) and self._opened_by_primary_alone:
            self._refused_by_secondary(segment)

    def _refusals(self) -> Resets[Serial]:
        if self.refusals is None:
            self.refusals = Resets()
        return self.refusals

    # What both kinds have in common.

    def _hold_reset(self, resets: Resets[Number], segment: Segment, number: Number) -> bool:
        """Whether a RST of the primary waits now; otherwise it has left, or there was no room."""
        if resets.from_primary(segment, number):
            self.finished = True
            self.ledger.release(segment)
            return False
        segment.retain()
        if not self.ledger.hold(segment):
            del resets.held[segment]
            return False
        return True

    def _release_resets(self, resets: Resets[Number], number: Number) -> bool:
        """Let the primary's RSTs leave at whose number the secondary sent one; whether there were any."""
        freed = resets.from_secondary(number)
        for segment in freed:
            self.finished = True
            self.ledger.release(segment)
        return bool(freed)

    @property
    def _opened_by_primary_alone(self) -> bool:
        return bool(self.primary_isns) and not (self.secondary_isns or self.secondary_followed)

    @property
    def _opened_by_secondary_alone(self) -> bool:
        return bool(self.secondary_isns) and not self.primary_isns

    def _refused_by_primary(self, segment: Segment) -> None:
        shown = [segment] if self.secondary_syn is None else [segment, self.secondary_syn]
        self._diverge_control(segment.start, "the primary refused the connection", *shown)

    def _refused_by_secondary(self, segment: Segment) -> None:
        detail = "the secondary refused the connection"
        self._diverge_control(self.primary_isns[-1], detail, segment, *self.primary_syns)


def _follows(reset: TcpPacket, end: Position | None) -> bool:
    """Whether a RST stands behind all that was seen of its side, or not far: some of it may be missing."""
    return end is not None and 0 <= position_near(reset.sequence, end) - end <= _MOST_MISSING
