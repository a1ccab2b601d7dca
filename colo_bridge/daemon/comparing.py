"""What a daemon does that compares, wherever the secondary is: timers, checkpoints, divergences, rules, the numbers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from colo_bridge.checkpoint.replica import News
from colo_bridge.compare.observer import Observer
from colo_bridge.config import Config
from colo_bridge.daemon import journal
from colo_bridge.daemon.checkpoints import Checkpoints
from colo_bridge.daemon.control import Verb
from colo_bridge.daemon.divergences import Divergences
from colo_bridge.daemon.life import Life, Work, every
from colo_bridge.daemon.primary_side import PrimarySide
from colo_bridge.daemon.rules import PassthroughRules
from colo_bridge.daemon.settings import CURE
from colo_bridge.kernel.boundary import Protection

log = logging.getLogger(__name__)

TICK = 0.05
"""Seconds between two looks for timeouts."""
AGE = 1.0
"""Seconds between two looks for idle connections and reached limits."""

Nic = TypeVar("Nic", bound=Protection)
Path = TypeVar("Path", bound=PrimarySide)


class Comparing(Life[Nic], Generic[Nic, Path]):
    """Base of the daemons with a comparator; `_paths` has one member for each NIC."""

    def __init__(
        self, config: Config, verbs: Mapping[str, Verb], of_hypervisor: Callable[[News], None] | None = None
    ) -> None:
        """`of_hypervisor`: the replicas are on two hosts, and this hears what the hypervisor of the one here does."""
        self._rules = PassthroughRules(config.passthrough)
        self._checkpoints = Checkpoints(config, of_hypervisor)
        super().__init__(config, {"checkpoint": self._checkpoints.on_request, **self._rules.verbs(), **verbs})
        self._observes = config.compare.mode == "observe"
        self._divergences = Divergences(config, self._checkpoints.request)
        self._limits = journal.Limits()
        self._paths: list[Path] = []

    def _timers(self) -> list[Work]:
        return [every(TICK, self._tick), every(CURE, self._cure), every(AGE, self._age)]

    def _tick(self) -> None:
        now = time.monotonic()
        for path in self._paths:
            path.tick(now)
        self._checkpoints.step()

    def _cure(self) -> None:
        now = time.monotonic()
        for path in self._paths:
            path.cure(now)

    def _age(self) -> None:
        now = time.monotonic()
        for path in self._paths:
            path.age(now)
        for sentence in self._limits.reached(self._compared()):
            log.warning("%s; see [limits]", sentence)

    def _prepare_reload(self, config: Config) -> Callable[[], None]:
        self._rules.merged(config.passthrough)
        rest = super()._prepare_reload(config)

        def take_over() -> None:
            self._rules.reload(config.passthrough)
            rest()

        return take_over

    async def _end(self) -> None:
        await self._checkpoints.close()
        self._divergences.close()

    # What is said about it.

    def _summary(self) -> str:
        unsynchronised = self._unsynchronised()
        text = self.state
        if unsynchronised:
            text += f", {unsynchronised} connections from before the start are not compared"
        return text

    def _compared(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for path in self._paths:
            total.update(path.comparator.counters())
        return total

    def _counters(self) -> dict[str, int]:
        kernel = self._guard.kernel
        return {
            **self._compared(),
            **self._divergences.counters(),
            "queue_dropped": kernel.get("queue_queue_dropped", 0),
            "queue_user_dropped": kernel.get("queue_socket_dropped", 0),
            "socket_dropped": kernel.get("queue_socket_overruns", 0),
            "mirror_tap_dropped": kernel.get("mirror_unread_dropped", 0),
            "unprotected_checks": self._guard.unprotected_checks,
        }

    def status(self) -> dict[str, object]:
        return {
            **self._identity(),
            "epoch": self._checkpoints.epoch,
            "counters": self._counters(),
            "kernel": self._guard.kernel,
            **self._divergences.status(),
            "checkpoint": self._checkpoints.status(),
            "checkpoints": self._checkpoints.counters(),
            "unsynchronised_connections": self._unsynchronised(),
            "passthrough": self._rules.counters(),
            "observed_services": self._observed_services(),
        }

    def _unsynchronised(self) -> int:
        return sum(path.comparator.unsynchronised_connections() for path in self._paths)

    def _observed_services(self) -> dict[str, dict[str, int]]:
        """By NIC where there are several."""
        comparators = [path.comparator for path in self._paths]
        tables = [comparator.services.table() for comparator in comparators if isinstance(comparator, Observer)]
        if len(tables) < 2:
            return tables[0] if tables else {}
        names = [nic.name for nic in self._config.nic]
        return {f"{nic}: {name}": row for nic, table in zip(names, tables, strict=True) for name, row in table.items()}
