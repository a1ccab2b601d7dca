"""Virtual time: a heap of what is to be done, and when."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Work = Callable[[], None]


class Timer:
    """Something to be done once; `cancel` undoes that."""

    __slots__ = ("at", "order", "work")

    def __init__(self, at: float, order: int, work: Work) -> None:
        self.at = at
        self.order = order
        self.work: Work | None = work

    def cancel(self) -> None:
        self.work = None

    def __lt__(self, other: Timer) -> bool:
        return (self.at, self.order) < (other.at, other.order)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[Timer] = []
        self._order = 0

    def after(self, delay: float, work: Work) -> Timer:
        self._order += 1
        timer = Timer(self.now + delay, self._order, work)
        heapq.heappush(self._heap, timer)
        return timer

    def run(self, until: float, done: Callable[[], bool]) -> None:
        """Work until that time, or until nothing is left, or until it is `done`."""
        heap = self._heap
        while heap and not done():
            timer = heapq.heappop(heap)
            if timer.at > until:
                self.now = until
                return
            if timer.work is not None:
                self.now = timer.at
                timer.work()
