"""RST segments of one connection: they match by number, not by content.

1. A RST leaves when both sides sent one at the same number, whatever the ACK floor says.
2. Unmatched RSTs on both sides, at different numbers, are a divergence. Once the two have matched anywhere
   the connection is over on both sides: later RSTs answer stragglers, and wait for each other.
3. A repeat of a matched one, ACK field included, is a retransmission.

RFC 9293 §3.5.2 gives the numbers: SND.NXT, or the ACK field of what is refused.
"""

from __future__ import annotations

from colo_bridge.compare.segment import Segment
from colo_bridge.wire.serial import Position

_REMEMBERED = 16
"""Numbers kept per side: a side that resets at more places than this has diverged anyway."""


class Resets:
    __slots__ = ("held", "matched", "secondary")

    def __init__(self) -> None:
        self.held: list[Segment] = []
        self.secondary: list[Position] = []
        self.matched: list[tuple[Position, Position | None]] = []

    def from_primary(self, segment: Segment) -> bool:
        """Whether the segment may leave now; otherwise it is among `held`."""
        if (segment.start, segment.ack) in self.matched:
            return True
        if segment.start in self.secondary:
            self._match(segment.start, segment.ack)
            return True
        self.held.append(segment)
        return False

    def from_secondary(self, number: Position, ack: Position | None) -> list[Segment]:
        """The primary's RSTs that may leave because of this one."""
        if (number, ack) in self.matched:
            return []
        freed = [segment for segment in self.held if segment.start == number]
        if freed:
            self.held = [segment for segment in self.held if segment.start != number]
            self._match(number, ack, *(segment.ack for segment in freed))
        elif number not in self.secondary:
            self.secondary = [*self.secondary, number][-_REMEMBERED:]
        return freed

    def take_refusals(self, before: float) -> list[Segment]:
        """The primary's RSTs without an ACK, by which it refuses what the client sent, held since before a time."""
        taken = [segment for segment in self.held if segment.ack is None and segment.arrived < before]
        self.held = [segment for segment in self.held if segment not in taken]
        return taken

    @property
    def conflict(self) -> bool:
        return bool(self.held and self.secondary and not self.matched)

    def take_held(self) -> list[Segment]:
        """Everything held; what both sides reset and what the secondary reset is forgotten."""
        held, self.held = self.held, []
        self.secondary = []
        self.matched = [*self.matched, *((segment.start, segment.ack) for segment in held)][-_REMEMBERED:]
        return held

    def _match(self, number: Position, *acks: Position | None) -> None:
        self.secondary = [other for other in self.secondary if other != number]
        self.matched = [*self.matched, *((number, ack) for ack in acks)][-_REMEMBERED:]
