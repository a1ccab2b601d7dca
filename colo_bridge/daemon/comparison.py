"""What a daemon does that compares, wherever the secondary is: timers, checkpoints, divergences, rules, the numbers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from colo_bridge.checkpoint.replica import News
from colo_bridge.compare.observer import Observer
from colo_bridge.config import Config
from colo_bridge.daemon import journal
from colo_bridge.daemon.checkpoints import Checkpoints, Replicas
from colo_bridge.daemon.control import Verb
from colo_bridge.daemon.divergences import Divergences
from colo_bridge.daemon.life import Work, every
from colo_bridge.daemon.primary_side import PrimarySide
from colo_bridge.daemon.rules import PassthroughRules
from colo_bridge.daemon.settings import CURE

log = logging.getLogger(__name__)

TICK = 0.05
"""Seconds between two looks for timeouts."""
AGE = 1.0
"""Seconds between two looks for idle connections and reached limits."""

Path = TypeVar("Path", bound=PrimarySide)


class Comparison(Generic[Path]):
    """The comparators of a guest; `paths` has one member for each NIC, from `serve` on."""

    def __init__(self, config: Config, of_hypervisor: Callable[[News], None] | None = None) -> None:
        """`of_hypervisor`: the replicas are on two hosts, and this hears what the hypervisor of the one here does."""
        self._config = config
        self._rules = PassthroughRules(config.passthrough)
        self._limits = journal.Limits()
        self.checkpoints = Checkpoints(config, of_hypervisor)
        self.divergences = Divergences(config, self.checkpoints.diverged)
        self.observes = config.compare.mode == "observe"
        self.paths: Sequence[Path] = ()

    def verbs(self) -> dict[str, Verb]:
        return {"checkpoint": self.checkpoints.on_request, **self._rules.verbs()}

    # Life.

    def serve(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._rules.serve([path.comparator.passthrough for path in paths])

    def begin(self, replicas: Replicas) -> list[Work]:
        """What has to run from now on; checkpoints are carried over to `replicas`."""
        self.divergences.start()
        timers = [every(TICK, self._tick), every(CURE, self._cure), every(AGE, self._age)]
        return [*timers, *self.checkpoints.serve(replicas)]

    async def end(self) -> None:
        await self.checkpoints.close()
        self.divergences.close()

    def prepare_reload(self, config: Config) -> Callable[[], None]:
        """Look whether changed rules can be taken over; what is returned does it."""
        self._rules.merged(config.passthrough)
        return lambda: self._rules.reload(config.passthrough)

    def _tick(self) -> None:
        now = time.monotonic()
        for path in self.paths:
            path.tick(now)
        self.checkpoints.step()

    def _cure(self) -> None:
        now = time.monotonic()
        for path in self.paths:
            path.cure(now)

    def _age(self) -> None:
        now = time.monotonic()
        for path in self.paths:
            path.age(now)
        for sentence in self._limits.reached(self._compared()):
            log.warning("%s; see [limits]", sentence)

    # What is said about it.

    def summary(self, state: str) -> str:
        if unsynchronised := self._unsynchronised():
            return f"{state}, {unsynchronised} connections from before the start are not compared"
        return state

    def counters(self, kernel: Mapping[str, int]) -> dict[str, int]:
        return {
            **self._compared(),
            **self.divergences.counters(),
            "queue_dropped": kernel.get("queue_queue_dropped", 0),
            "queue_user_dropped": kernel.get("queue_socket_dropped", 0),
            "socket_dropped": kernel.get("queue_socket_overruns", 0),
            "mirror_tap_dropped": kernel.get("mirror_unread_dropped", 0),
        }

    def status(self) -> dict[str, object]:
        return {
            "epoch": self.checkpoints.epoch,
            **self.divergences.status(),
            "checkpoint": self.checkpoints.status(),
            "checkpoints": self.checkpoints.counters(),
            "unsynchronised_connections": self._unsynchronised(),
            "passthrough": self._rules.counters(),
            "observed_services": self._observed_services(),
        }

    def _compared(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for path in self.paths:
            total.update(path.comparator.counters())
        return total

    def _unsynchronised(self) -> int:
        return sum(path.comparator.unsynchronised_connections() for path in self.paths)

    def _observed_services(self) -> dict[str, dict[str, int]]:
        """By NIC where there are several."""
        comparators = [path.comparator for path in self.paths]
        tables = [comparator.services.table() for comparator in comparators if isinstance(comparator, Observer)]
        if len(tables) < 2:
            return tables[0] if tables else {}
        names = [nic.name for nic in self._config.nic]
        return {f"{nic}: {name}": row for nic, table in zip(names, tables, strict=True) for name, row in table.items()}
