"""Who has which address on the guest's link: the secondary is told what the primary has heard.

The network never answers the secondary, because what it asks does not get there; and what the primary
knows already, it does not ask.  So the secondary's questions are answered from what it was sent.

What is unknown is not answered, and nobody is told that another has its own hardware address.  Answers do
not prolong an entry.
"""

from __future__ import annotations

from colo_bridge.rewrite.addresses import Addresses
from colo_bridge.rewrite.limits import RewriteCounters, RewriteLimits
from colo_bridge.wire.neighbour import answer, asked


class Neighbours(Addresses):
    def __init__(self, limits: RewriteLimits, counters: RewriteCounters) -> None:
        super().__init__(limits.neighbours, limits.neighbour_idle)
        self._counters = counters

    def answer(self, frame: bytearray, start: int, end: int) -> bytes | None:
        """The frame that answers the guest's, if that asks for a neighbour that is known."""
        question = asked(frame, start, end)
        if question is None:
            return None
        neighbour = self.find(question.name)
        if neighbour is None:
            self._counters.neighbours_unknown += 1
            return None
        if neighbour.hardware == question.asker_hardware:
            return None
        self._counters.neighbours_answered += 1
        return answer(question, neighbour.hardware, neighbour.is_router)

    def _count_evicted(self) -> None:
        self._counters.neighbours_evicted += 1

    def _count_expired(self) -> None:
        self._counters.neighbours_expired += 1
