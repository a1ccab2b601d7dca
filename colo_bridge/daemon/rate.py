"""Keeps a log readable when the same thing happens very often."""

from __future__ import annotations


class RateLimit:
    """Allows `most` lines in each period of so many seconds, and counts those that it refused."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._began = float("-inf")
        self._allowed = 0
        self._refused = 0

    def allows(self, now: float) -> bool:
        if now - self._began >= self._seconds:
            self._began, self._allowed = now, 0
        if self._allowed == self._most:
            self._refused += 1
            return False
        self._allowed += 1
        return True

    def take_refused(self) -> int:
        """How many were refused since this was asked last."""
        refused, self._refused = self._refused, 0
        return refused
