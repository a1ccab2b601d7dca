"""RST segments of one connection: they match by number, not by content.

1. A RST leaves when both sides sent one at the same number, whatever the ACK floor says.
2. Unmatched RSTs on both sides, at different numbers, are a divergence. Once the two have matched anywhere
   the connection is over on both sides: later RSTs answer stragglers, and wait for each other.
3. Another one at a number that has matched is a retransmission, whatever it acknowledges.
4. A RST that refuses a SYN of the client has no number of its own; its ACK says which SYN it was. Such
   refusals match by that and apart from other RSTs; two of different SYNs wait, each for its equal.

RFC 9293 §3.5.2 gives the numbers: SND.NXT, or the ACK field of what is refused.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from colo_bridge.compare.segment import Segment

_REMEMBERED = 16
"""Numbers kept per side: a side that resets at more places than this has diverged anyway."""

Number = TypeVar("Number", bound=int)
"""Where RSTs stand: a `Position`; for refusals the `Serial` that acknowledges the SYN."""


class Resets(Generic[Number]):
    __slots__ = ("held", "matched", "secondary")

    def __init__(self) -> None:
        self.held: dict[Segment, Number] = {}
        self.secondary: list[Number] = []
        self.matched: list[Number] = []

    def from_primary(self, segment: Segment, number: Number) -> bool:
        """Whether the segment may leave now; otherwise it is among `held`."""
        if number in self.secondary:
            self._match(number)
        if number in self.matched:
            return True
        self.held[segment] = number
        return False

    def from_secondary(self, number: Number) -> list[Segment]:
        """The primary's RSTs that may leave because of this one."""
        if number in self.matched:
            return []
        freed = self.take(number)
        if freed:
            self._match(number)
        elif number not in self.secondary:
            self.secondary = [*self.secondary, number][-_REMEMBERED:]
        return freed

    def take(self, number: Number) -> list[Segment]:
        """The primary's RSTs at a number, which are not held here any more."""
        taken = [segment for segment, other in self.held.items() if other == number]
        for segment in taken:
            del self.held[segment]
        return taken

    def take_without_ack(self, before: float) -> list[Segment]:
        """The primary's RSTs without an ACK, by which it refuses an ACK of the client, held since before a time."""
        taken = [segment for segment in self.held if segment.ack is None and segment.arrived < before]
        for segment in taken:
            del self.held[segment]
        return taken

    def is_awaited(self, number: Number) -> bool:
        """Whether one side alone has sent a RST at a number."""
        return number in self.secondary or number in self.held.values()

    @property
    def conflict(self) -> bool:
        return bool(self.held and self.secondary and not self.matched)

    def take_held(self) -> list[Segment]:
        """Everything held; it counts as matched from now on, and what the secondary reset is forgotten."""
        held, self.held = self.held, {}
        self.secondary = []
        self.matched = [*self.matched, *held.values()][-_REMEMBERED:]
        return list(held)

    def _match(self, number: Number) -> None:
        self.secondary = [other for other in self.secondary if other != number]
        self.matched = [*self.matched, number][-_REMEMBERED:]
