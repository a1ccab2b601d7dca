"""When to dial again: soon at first, ever later, and never both hosts of many guests at the same moment."""

from __future__ import annotations


class Backoff:
    """Delays double from `first` to `longest` seconds."""

    def __init__(self, first: float = 0.2, longest: float = 5.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def delay(self, jitter: float) -> float:
        """Seconds until the next try; `jitter`, from 0 to 1, takes away up to a quarter of them."""
        delay, self._next = self._next, min(2 * self._next, self._longest)
        return delay * (1 - jitter / 4)

    def succeeded(self) -> None:
        self._next = self._first

    def refused(self) -> None:
        """The next try will not end otherwise: no hurry."""
        self._next = self._longest
