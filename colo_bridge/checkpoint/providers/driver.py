"""Carries out what the coordinator decides: starts the provider, cancels it, reports its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from colo_bridge.checkpoint.coordinator import Action, Coordinator, Kill, Outcome, Start
from colo_bridge.checkpoint.providers import Provider

log = logging.getLogger(__name__)


class Driver:
    """Joins one coordinator and one provider inside a running event loop.

    `finished` is called in the loop with each attempt's outcome, after the
    coordinator has been told.  `clock` gives seconds.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        provider: Provider,
        finished: Callable[[Outcome], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._coordinator = coordinator
        self._provider = provider
        self._finished = finished
        self._clock = clock
        self._attempt: asyncio.Task[bool] | None = None
        self._waiting: list[asyncio.Future[Outcome]] = []

    def request(self, reason: str, detail: Mapping[str, str] | None = None) -> None:
        """Ask for a checkpoint, and begin it if it may begin now."""
        self._coordinator.request(reason, self._clock(), detail)
        self.step()

    async def checkpoint(self, reason: str) -> Outcome:
        """Ask for a checkpoint and wait for how the attempt ends that this begins or joins."""
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(ended)
        self.request(reason)
        return await ended

    def withdraw(self) -> None:
        """Nobody waits for a checkpoint any more: stop the attempt that runs, and begin no other."""
        match self._coordinator.withdraw():
            case Kill() as kill:
                self._carry_out(kill)
            case Outcome() as outcome:
                self._tell(outcome)

    def count_period(self) -> None:
        """The next checkpoint that nobody asks for is due a period after now."""
        self._coordinator.count_period(self._clock())

    def step(self) -> None:
        """Do what is due; to be called after each request and a few times a second.  Never blocks."""
        for action in self._coordinator.tick(self._clock()):
            self._carry_out(action)

    def paused(self) -> None:
        """The replicas stand still for a checkpoint."""
        for action in self._coordinator.paused(self._clock()):
            self._carry_out(action)

    def resumed(self) -> None:
        """A checkpoint is done, whoever asked for it."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
        self._tell(self._coordinator.resumed(self._clock()))

    async def close(self) -> None:
        """Stop a running attempt and wait until its process is gone."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
            await asyncio.wait([attempt])

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Start):
            self._attempt = asyncio.create_task(self._provider.checkpoint(action.reason, action.detail))
            self._attempt.add_done_callback(self._ended)
        elif self._attempt is not None:
            self._attempt.cancel()

    def _ended(self, attempt: asyncio.Task[bool]) -> None:
        if attempt is not self._attempt:
            return
        self._attempt = None
        self._tell(self._coordinator.finished(_succeeded(attempt), self._clock()))

    def _tell(self, outcome: Outcome) -> None:
        waiting, self._waiting = self._waiting, []
        self._finished(outcome)
        for ended in waiting:
            if not ended.done():
                ended.set_result(outcome)


def _succeeded(attempt: asyncio.Task[bool]) -> bool:
    if attempt.cancelled():
        return False
    if error := attempt.exception():
        log.error("checkpoint provider failed: %s", error, exc_info=error)
        return False
    return attempt.result()
