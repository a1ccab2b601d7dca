"""The daemon of a primary whose secondary is on another host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from colo_bridge.config import Config
from colo_bridge.daemon.control import refusing
from colo_bridge.daemon.ending import NOTHING_IS_LEFT, Farewell
from colo_bridge.daemon.life import Life, Work
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.primary_path import PrimaryPath
from colo_bridge.daemon.protector import Protector
from colo_bridge.daemon.record import YIELDED, Record
from colo_bridge.daemon.settings import comparator_for
from colo_bridge.kernel.primary_nic import PrimaryNic
from colo_bridge.membership.actions import Traffic
from colo_bridge.membership.primary import PrimaryMembership

_CLOSED = Farewell(
    logging.CRITICAL,
    "and nothing leaves it: the diversion stays in force, because the other side may be the service "
    "(`colo-bridge cleanup` ends that)",
)


class Primary(Life[PrimaryNic]):
    """The link listens from the making; raises OperatorError if it cannot."""

    def __init__(self, config: Config) -> None:
        self._record = Record(config.run_dir, config.guest)
        yielded = self._record.read() == YIELDED
        self._protector = Protector(config, self._changed, lambda: not self._guarded, yielded=yielded)
        refused = refusing(("failover",), "this daemon is the primary", "ask the secondary's")
        super().__init__(config, {**self._protector.verbs(), **refused})
        self._nics: list[PrimaryNic] = []
        self._thread = ThreadPoolExecutor(1, "silence")
        self._is_silent = self.begins_silent

    @property
    def begins_silent(self) -> bool:
        """Whether the guest may not even answer ARP: where another is the service, that would lead its clients here."""
        return self._protector.membership.traffic is Traffic.BLOCK

    # Life.

    def _path(self, name: str, nic: PrimaryNic) -> PrimaryPath:
        comparison, forward = self._protector.comparison, nic.forward
        return PrimaryPath(
            name,
            nic.queue,
            nic.mirror,
            self._protector.link,
            comparator_for(self._config, forward is not None, comparison.checkpoints.copies_state),
            comparison.divergences,
            Outlet(forward) if forward is not None else None,
        )

    def _prepare(self, protections: Sequence[tuple[str, PrimaryNic]]) -> None:
        self._nics = [nic for _, nic in protections]
        self._protector.serve([self._path(name, nic) for name, nic in protections])

    def _mended(self) -> None:
        self._protector.renew()

    def _begin(self) -> list[Work]:
        self._protector.read()
        return self._protector.begin()

    def _prepare_reload(self, config: Config) -> Callable[[], None]:
        return self._protector.prepare_reload(config)

    def _stop_reading(self) -> None:
        self._protector.stop_reading()

    async def _end(self) -> None:
        await self._protector.end()
        if self.stays_closed:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._silence, True)
        self._thread.shutdown()

    def _changed(self, membership: PrimaryMembership) -> None:
        self._record.keep(YIELDED if membership.yielded else "")
        is_silent = membership.traffic is Traffic.BLOCK
        if is_silent is not self._is_silent:
            self._is_silent = is_silent
            # In a thread, because pyroute2 cannot be used in a running loop; one, because the last word counts.
            self._thread.submit(self._silence, is_silent)

    def _silence(self, on: bool) -> None:
        for nic in self._nics:
            nic.silence(on)

    @property
    def stays_closed(self) -> bool:
        return self._protector.stays_closed

    @property
    def farewell(self) -> Farewell:
        return _CLOSED if self.stays_closed else NOTHING_IS_LEFT

    # What is said about it.

    @property
    def state(self) -> str:
        return self._guarded or self._protector.state

    def _summary(self) -> str:
        return self._protector.comparison.summary(self.state)

    def status(self) -> dict[str, object]:
        counters = self._protector.counters(self._guard.kernel)
        return {
            **self._identity(),
            **self._protector.status(),
            "counters": counters | {"unprotected_checks": self._guard.unprotected_checks},
            "kernel": self._guard.kernel,
        }
