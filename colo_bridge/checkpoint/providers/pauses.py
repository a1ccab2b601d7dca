"""When to connect again: soon at first, ever later, and soon again once a connection has stood.

Times are seconds of any clock that never goes back.
"""

from __future__ import annotations


class Pauses:
    """They double from `first` to `longest` seconds, until a connection stands for as long as the longest."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = self._next = first
        self._longest = longest
        self._since: float | None = None

    def stands(self, now: float) -> None:
        """A connection can be used."""
        self._since = now

    def ended(self, now: float) -> float:
        """Whatever there was of a connection is over; how long to wait before the next one."""
        since, self._since = self._since, None
        if since is not None and now - since >= self._longest:
            self._next = self._first
        pause, self._next = self._next, min(2 * self._next, self._longest)
        return pause
