"""Protection is proved, not assumed: each second every part is checked, and mended where it is broken.

1. `unprotected` lasts until a later check finds everything in force, so nobody can miss it.
2. Checks run in a thread of their own: they ask the kernel, which may take milliseconds.
3. A device that comes, goes or changes is looked at and mended at once, in a second thread, which
   does not wait for a check under way; a whole check follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from colo_bridge.errors import ColoBridgeError
from colo_bridge.kernel.boundary import Protection
from colo_bridge.kernel.fault import Fault
from colo_bridge.kernel.link_monitor import LinkMonitor

log = logging.getLogger(__name__)

_INTERVAL = 1.0
_CALM = 0.02
"""Seconds between two looks at devices that change without end and without harm."""
_LATE = 3.0
"""Seconds after which a check's result is no longer believed (a lock that somebody holds delays the next one)."""


@dataclass(frozen=True, slots=True)
class _Report:
    faults: tuple[tuple[str, Fault], ...]
    kernel: dict[str, int]


class Guard:
    """`faults` are those of the last check; `kernel` the kernel's counters at that time, summed over NICs."""

    def __init__(
        self, protections: Sequence[tuple[str, Protection]], mended: Callable[[], object] = lambda: None
    ) -> None:
        """`mended` is called in the loop after something was put in force again: TAPs may be new."""
        self._protections = protections
        self._mended = mended
        self._thread = ThreadPoolExecutor(1, "guard")
        self._device_thread = ThreadPoolExecutor(1, "guard-devices")
        self._check_now = asyncio.Event()
        self.faults: tuple[tuple[str, Fault], ...] = ()
        self.kernel: dict[str, int] = {}
        self.checks = 0
        self.unprotected_checks = 0
        self._last = float("-inf")

    async def run(self) -> None:
        """Check for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._check_now.clear()
            self._take(await loop.run_in_executor(self._thread, self._look))
            if self.faults:
                await loop.run_in_executor(self._thread, self._mend)
                self._mended()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._check_now.wait(), _INTERVAL)

    async def follow_devices(self) -> None:
        """Mend for ever what a change of a device broke, as soon as the kernel tells of it."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        devices = frozenset[str]().union(*(protection.devices for _, protection in self._protections))
        with contextlib.closing(LinkMonitor()) as monitor:
            loop.add_reader(monitor.fileno(), _tell, monitor, devices, changed)
            try:
                while True:
                    await changed.wait()
                    changed.clear()
                    if faults := await loop.run_in_executor(self._device_thread, self._mend_devices):
                        self._found(faults)
                    else:
                        await asyncio.sleep(_CALM)
            finally:
                loop.remove_reader(monitor.fileno())

    def is_late(self) -> bool:
        """Whether what the last check found is too old to be believed."""
        return self.checks > 0 and time.monotonic() - self._last > _LATE

    def close(self) -> None:
        """Wait for what is under way."""
        self._device_thread.shutdown()
        self._thread.shutdown()

    def _look(self) -> _Report:
        faults: list[tuple[str, Fault]] = []
        kernel: dict[str, int] = {}
        for name, protection in self._protections:
            faults += ((name, fault) for fault in _faults(protection.check))
            for key, value in _counters(protection).items():
                kernel[key] = kernel.get(key, 0) + value
        return _Report(tuple(faults), kernel)

    def _mend(self) -> None:
        for name, protection in self._protections:
            # What the system refuses (too many files, no memory) is for the next check to report.
            with contextlib.suppress(OSError):
                protection.mend({fault.part for nic, fault in self.faults if nic == name})

    def _mend_devices(self) -> list[tuple[str, Fault]]:
        return [(name, fault) for name, protection in self._protections for fault in _faults(protection.mend_devices)]

    def _found(self, faults: list[tuple[str, Fault]]) -> None:
        """Faults that a change of a device brought: mended as far as can be, until a check says whether all is well."""
        self.unprotected_checks += 1
        self._say(faults)
        self.faults = tuple(dict.fromkeys((*self.faults, *faults)))
        self._mended()
        self._check_now.set()

    def _take(self, report: _Report) -> None:
        self.checks += 1
        self._last = time.monotonic()
        self.unprotected_checks += bool(report.faults)
        self._say(report.faults)
        if self.faults and not report.faults:
            log.warning("protected again")
        self.faults, self.kernel = report.faults, report.kernel

    def _say(self, faults: Sequence[tuple[str, Fault]]) -> None:
        for nic, fault in dict.fromkeys(faults):
            if (nic, fault) not in self.faults:
                log.error("UNPROTECTED: nic %s: %s: %s", nic, fault.part, fault.problem)


def _tell(monitor: LinkMonitor, devices: frozenset[str], changed: asyncio.Event) -> None:
    names = monitor.read()
    if names is None or names & devices:
        changed.set()


def _faults(check: Callable[[], list[Fault]]) -> list[Fault]:
    """What a check found; one that the system refuses (too many files, no memory) proves nothing."""
    try:
        return check()
    except OSError as error:
        return [Fault("check", f"could not be made: {error}")]


def _counters(protection: Protection) -> dict[str, int]:
    """The kernel's counters; none while a part is missing (the check says which)."""
    try:
        return protection.counters()
    except (ColoBridgeError, OSError):
        return {}
