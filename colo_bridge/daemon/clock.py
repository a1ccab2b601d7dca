"""A clock that can stand still."""

from __future__ import annotations

import time


class Clock:
    """Seconds that pass while packets are read: what we do not read is not late."""

    __slots__ = ("_lost", "_stopped")

    def __init__(self) -> None:
        self._lost = 0.0
        self._stopped: float | None = None

    def now(self) -> float:
        """Never goes back."""
        return (time.monotonic() if self._stopped is None else self._stopped) - self._lost

    def stop(self) -> None:
        self._stopped = time.monotonic()

    def go_on(self) -> None:
        if self._stopped is not None:
            self._lost += time.monotonic() - self._stopped
            self._stopped = None
