"""Checkpoints of a guest that is being served: asked for, followed, and carried over to its data paths."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import fields
from typing import Any, Protocol

from colo_bridge.checkpoint.cause import Cause
from colo_bridge.checkpoint.coordinator import Coordinator, Outcome, Policy, State
from colo_bridge.checkpoint.providers.command import CommandProvider
from colo_bridge.checkpoint.providers.driver import Driver
from colo_bridge.checkpoint.providers.qmp import QmpProvider
from colo_bridge.checkpoint.replica import News, Phase
from colo_bridge.config import Config
from colo_bridge.errors import OperatorError

log = logging.getLogger(__name__)

_FAILURES = {
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "has not begun in time",
    Outcome.NOT_RESUMED: "does not end",
}
OPERATOR = "operator"
"""The reason of a checkpoint that was asked for on the control socket."""


class Replicas(Protocol):
    """The data paths, as far as a checkpoint concerns them."""

    def stopped(self, primary: bool) -> None:
        """A replica, the primary or the other, stands still: nothing that it sends from now on may be read."""

    def checkpoint_done(self, synchronised: bool) -> None:
        """What is held may leave; `synchronised`: the secondary's state is the primary's."""

    def checkpoint_failed(self, why: str) -> None:
        """One that was asked for did not begin, or does not end; it is tried again."""

    def goes_on(self) -> None:
        """Whoever stood still runs again."""


class Checkpoints:
    """One coordinator with the provider that the configuration names; without one nothing is asked for."""

    def __init__(self, config: Config, of_hypervisor: Callable[[News], None] | None = None) -> None:
        """`of_hypervisor`: the other replica is elsewhere, and this hears first what the hypervisor here does."""
        self._config = config.checkpoint
        self._name = "none" if config.compare.mode == "observe" else config.checkpoint.provider
        self._is_told_when = of_hypervisor is not None
        self._qmp = QmpProvider(config.checkpoint, self, of_hypervisor) if self._name == "qmp" else None
        self._provider = self._qmp or CommandProvider(config.guest, config.checkpoint)
        self._coordinator = Coordinator(_policy(config, self._name), time.monotonic())
        self._driver = Driver(self._coordinator, self._provider, self._ended)
        self._replicas: Replicas | None = None

    def serve(self, replicas: Replicas) -> list[Coroutine[Any, Any, None]]:
        """Carry checkpoints over to these; what must run for that."""
        self._replicas = replicas
        return self._qmp.watch() if self._qmp is not None else []

    @property
    def epoch(self) -> int:
        return self._coordinator.epoch

    @property
    def copies_state(self) -> bool:
        """Whether connections can wait for a checkpoint that makes them comparable."""
        return self.exist and self._provider.synchronises_state

    @property
    def hypervisor_answers(self) -> bool | None:
        """None: nobody asks it anything."""
        return self._qmp.primary.phase is not Phase.OFFLINE if self._qmp is not None else None

    @property
    def exist(self) -> bool:
        """Whether anybody makes any."""
        return self._name != "none"

    def diverged(self, reason: str, detail: Mapping[str, str]) -> None:
        """The replicas differ."""
        if not self.exist:
            log.error("no checkpoint.provider is configured: what diverged stays held")
        self.request(reason, detail)

    def request(self, reason: str, detail: Mapping[str, str]) -> None:
        """One would be of use, for whatever reason."""
        if self.exist:
            self._driver.request(reason, detail)

    async def on_request(self, _request: Mapping[str, object]) -> dict[str, object]:
        """The control socket's `checkpoint`: one now, how it ended, and if it failed, whether it is tried again."""
        if not self.exist:
            raise OperatorError("nothing here makes checkpoints", "configure checkpoint.provider, in mode enforce")
        began = time.monotonic()
        outcome = await self._driver.checkpoint(OPERATOR)
        return {
            "outcome": outcome.value,
            "again": outcome is not Outcome.DONE and self._coordinator.state is not State.IDLE,
            "epoch": self.epoch,
            "seconds": time.monotonic() - began,
        }

    def withdraw(self) -> None:
        """Nobody waits for one any more, nor for one that would be due without a reason; `count_period` ends that."""
        self._driver.withdraw()

    def count_period(self) -> None:
        self._driver.count_period()

    def fence(self, answered: Callable[[], None]) -> None:
        """Call this once everything that the hypervisor has said until now was told."""
        if self._qmp is not None:
            self._qmp.fence(answered)

    def go_on_alone(self) -> None:
        """There is no secondary any more: the hypervisor must not wait for one."""
        if self._qmp is not None:
            self._qmp.lost_heartbeat()

    def step(self) -> None:
        """Do what is due."""
        self._driver.step()

    async def close(self) -> None:
        await self._driver.close()

    def status(self) -> dict[str, object]:
        return {
            "provider": self._name,
            "state": self._coordinator.state.value,
            "reasons": dict(self._coordinator.counters.reasons),
            "replicas": self._qmp.phases() if self._qmp is not None else {},
        }

    def counters(self) -> dict[str, int]:
        counters = self._coordinator.counters
        numbers = {field.name: getattr(counters, field.name) for field in fields(counters) if field.name != "reasons"}
        return numbers | {"spoiled": self._qmp.spoiled if self._qmp is not None else 0}

    # What the hypervisor does.

    def stopped(self, primary: bool) -> None:
        if self._replicas is not None:
            self._replicas.stopped(primary)

    def goes_on(self) -> None:
        if self._replicas is not None:
            self._replicas.goes_on()

    def paused(self) -> None:
        self._driver.paused()

    def resumed(self) -> None:
        self._driver.resumed()
        self.goes_on()

    def wanted(self, cause: Cause) -> None:
        # With two hosts the epochs know when it would be of use.
        if not self._is_told_when:
            self.request(cause.value, {})

    def _ended(self, outcome: Outcome) -> None:
        if outcome is Outcome.DONE:
            log.info("checkpoint %d done", self.epoch)
            if self._replicas is not None:
                self._replicas.checkpoint_done(self._provider.synchronises_state)
        elif outcome is Outcome.WITHDRAWN:
            log.warning("the checkpoint is given up: nobody waits for it any more")
        else:
            log.error("checkpoint %s; next try in %g s", outcome.value, self._config.retry_interval)
            if self._replicas is not None:
                self._replicas.checkpoint_failed(f"a checkpoint {_FAILURES[outcome]}")


def _policy(config: Config, provider: str) -> Policy:
    checkpoint = config.checkpoint
    return Policy(
        timeout=checkpoint.timeout,
        retry_interval=checkpoint.retry_interval,
        pause_timeout=checkpoint.pause_timeout,
        min_interval=checkpoint.min_interval,
        period=checkpoint.period if provider != "none" else 0.0,
    )
