"""The life of a guest's daemon inside its event loop, whatever its role: from armed NICs to a signal or an error."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from colo_bridge.config import Config, load
from colo_bridge.daemon.control import ControlServer, Verb
from colo_bridge.daemon.ending import (
    HANDLED_SIGNALS,
    NOTHING_IS_LEFT,
    RELOAD_SIGNAL,
    STOP_SIGNALS,
    Farewell,
    end_by_callback,
    first_end,
)
from colo_bridge.daemon.guard import Guard
from colo_bridge.daemon.notify import Notifier
from colo_bridge.daemon.reload import changed_keys
from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.kernel.boundary import Protection

log = logging.getLogger(__name__)

Work = Coroutine[Any, Any, None]
Nic = TypeVar("Nic", bound=Protection)


class Life(ABC, Generic[Nic]):
    """Base of the daemons: control socket, guard, watchdog, signals, and the order of beginning and end."""

    file: Path | None = None
    """Where the configuration came from, for `reload`."""

    def __init__(self, config: Config, verbs: Mapping[str, Verb]) -> None:
        verbs = {"status": lambda _: self.status(), "reload": lambda _: {"changed": self.reload()}, **verbs}
        self.control = ControlServer(config.control_socket, verbs, uids=config.control.uids)
        self._config = config
        self._notifier = Notifier()
        self._began = time.monotonic()
        self._guard = Guard([])

    # What a daemon of a role has to say.

    @abstractmethod
    def _prepare(self, protections: Sequence[tuple[str, Nic]]) -> None:
        """Make what is between the kernel's parts; nothing is read yet."""

    @abstractmethod
    def _mended(self) -> None:
        """Something was put in force again: TAPs may be new."""

    @abstractmethod
    def _begin(self) -> list[Work]:
        """Read, and say what has to run from now on."""

    @abstractmethod
    def _stop_reading(self) -> None: ...

    @abstractmethod
    async def _end(self) -> None:
        """Close what `_begin` opened."""

    @property
    @abstractmethod
    def state(self) -> str: ...

    @abstractmethod
    def status(self) -> dict[str, object]:
        """What `colo-bridge status` shows; all counters are since the start."""

    @property
    def stays_closed(self) -> bool:
        """Whether nothing may leave the guest, even if the daemon is stopped."""
        return False

    @property
    def farewell(self) -> Farewell:
        """What is so once the daemon has been stopped in order."""
        return NOTHING_IS_LEFT

    def _summary(self) -> str:
        """For the log, and for the service manager."""
        return self.state

    # Life.

    async def run(self, protections: Sequence[tuple[str, Nic]]) -> None:
        """Serve armed NICs until SIGTERM or SIGINT."""
        self._prepare(protections)
        self._guard = Guard(protections, self._mended)
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(RELOAD_SIGNAL, self._on_reload_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        failed: asyncio.Future[None] = loop.create_future()
        loop.set_exception_handler(functools.partial(end_by_callback, failed))
        await self.control.start()
        works = (self._guard.run(), self._guard.follow_devices(), *self._begin(), self._keep_watchdog())
        helpers = [asyncio.create_task(work) for work in works]
        self._notifier.ready(self._summary())
        log.info("guest %s: %s", self._config.guest, self._summary())
        try:
            await first_end(stopped, [*helpers, failed])
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
            self._notifier.stopping()
            for helper in (*helpers, failed):
                helper.cancel()
            self._stop_reading()
            await self._end()
            await self.control.close()
            self._guard.close()

    async def _keep_watchdog(self) -> None:
        """Tell the service manager that the loop still turns, and how the guest is."""
        interval = self._notifier.watchdog_interval or 10.0
        while True:
            self._notifier.watchdog()
            self._notifier.status(self._summary())
            await asyncio.sleep(min(interval, 10.0))

    # A changed configuration.

    def reload(self) -> list[str]:
        """Take over what has changed in the file; the names of those keys. OperatorError: nothing is taken over."""
        if self.file is None:
            raise OperatorError("this daemon has no configuration file")
        config = load(self.file)
        changed = changed_keys(self._config, config)
        take_over = self._prepare_reload(config)
        take_over()
        self._config = config
        self.control.admit(config.control.uids)
        log.info("%s was read again: %s", self.file, ", ".join(changed) or "no key has changed")
        return changed

    @abstractmethod
    def _prepare_reload(self, config: Config) -> Callable[[], None]:
        """Look whether a changed configuration can be taken over; what is returned does it, and can't fail."""

    def _on_reload_signal(self) -> None:
        try:
            self.reload()
        except ColoBridgeError as error:
            log.error("%s", error)

    # What the guard knows.

    @property
    def _guarded(self) -> str:
        """`starting` or `unprotected`, or nothing: everything is in force."""
        if not self._guard.checks:
            return "starting"
        return "unprotected" if self._guard.faults or self._guard.is_late() else ""

    def _faults(self) -> list[str]:
        late = ["guard: the last check is too old"] if self._guard.is_late() else []
        return late + [f"{nic}: {fault.part}: {fault.problem}" for nic, fault in self._guard.faults]

    def _identity(self) -> dict[str, object]:
        """The beginning of every status."""
        return {
            "guest": self._config.guest,
            "role": self._config.role,
            "state": self.state,
            "faults": self._faults(),
            "uptime": time.monotonic() - self._began,
        }


async def every(seconds: float, work: Callable[[], object]) -> None:
    """Call `work` for ever, so many seconds after its last end."""
    while True:
        await asyncio.sleep(seconds)
        work()
