"""Protection is proved, not assumed: each second every part is checked, and mended where it is broken.

1. `unprotected` lasts until a later check finds everything in force, so nobody can miss it.
2. Checks run in a thread of their own: they ask the kernel, which may take milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from colo_bridge.errors import ColoBridgeError
from colo_bridge.kernel.protection import Fault, NicProtection

log = logging.getLogger(__name__)

_INTERVAL = 1.0
_LATE = 3.0
"""Seconds after which a check's result is no longer believed (a lock that somebody holds delays the next one)."""


@dataclass(frozen=True, slots=True)
class _Report:
    faults: tuple[tuple[str, Fault], ...]
    kernel: dict[str, int]


class Guard:
    """`faults` are those of the last check; `kernel` the kernel's counters at that time, summed over NICs."""

    def __init__(self, protections: Sequence[tuple[str, NicProtection]]) -> None:
        self._protections = protections
        self._thread = ThreadPoolExecutor(1, "guard")
        self.faults: tuple[tuple[str, Fault], ...] = ()
        self.kernel: dict[str, int] = {}
        self.checks = 0
        self.unprotected_checks = 0
        self._last = float("-inf")

    async def run(self) -> None:
        """Check for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._take(await loop.run_in_executor(self._thread, self._look))
            if self.faults:
                await loop.run_in_executor(self._thread, self._mend)
            await asyncio.sleep(_INTERVAL)

    def is_late(self) -> bool:
        """Whether what the last check found is too old to be believed."""
        return self.checks > 0 and time.monotonic() - self._last > _LATE

    def close(self) -> None:
        """Wait for a check under way."""
        self._thread.shutdown()

    def _look(self) -> _Report:
        faults: list[tuple[str, Fault]] = []
        kernel: dict[str, int] = {}
        for name, protection in self._protections:
            faults += ((name, fault) for fault in _faults(protection))
            for key, value in _counters(protection).items():
                kernel[key] = kernel.get(key, 0) + value
        return _Report(tuple(faults), kernel)

    def _mend(self) -> None:
        for _, protection in self._protections:
            protection.mend()

    def _take(self, report: _Report) -> None:
        self.checks += 1
        self._last = time.monotonic()
        self.unprotected_checks += bool(report.faults)
        for fault in set(report.faults) - set(self.faults):
            log.error("UNPROTECTED: nic %s: %s: %s", fault[0], fault[1].part, fault[1].problem)
        if self.faults and not report.faults:
            log.warning("protected again")
        self.faults, self.kernel = report.faults, report.kernel


def _faults(protection: NicProtection) -> list[Fault]:
    """What a check found; one that the system refuses (too many files, no memory) proves nothing."""
    try:
        return protection.check()
    except OSError as error:
        return [Fault("check", f"could not be made: {error}")]


def _counters(protection: NicProtection) -> dict[str, int]:
    """The kernel's counters; none while a part is missing (the check says which)."""
    try:
        return protection.counters()
    except (ColoBridgeError, OSError):
        return {}
