"""Checkpoints that QEMU makes: asked for, and followed, by its machine protocol (QMP)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from colo_bridge.checkpoint.cause import Cause
from colo_bridge.checkpoint.providers import Listener
from colo_bridge.checkpoint.providers.monitor import Monitor
from colo_bridge.checkpoint.replica import STANDING, News, Phase, Replica
from colo_bridge.config import CheckpointConfig
from colo_bridge.errors import PeerError

_TOO_LATE = "the primary went on before all that it had sent was read"
_DELAY = "x-checkpoint-delay"
"""Setting it, even to the value that it has, begins a checkpoint at once."""

log = logging.getLogger(__name__)


class QmpProvider:
    """Two replicas in QEMU's COLO; of the secondary nothing need be known.

    A checkpoint is done when the primary goes on.  The listener is told, also of those that
    nobody here has asked for.  With two hosts `told` hears all news of the primary: what the listener
    reads when it has stopped comes before, everything else behind.
    """

    synchronises_state = True

    def __init__(
        self, config: CheckpointConfig, listener: Listener, told: Callable[[News], None] | None = None
    ) -> None:
        self._listener = listener
        self._told = told
        self.primary, self.secondary = Replica(), Replica()
        self._primary = Monitor("primary", config.qmp or config.qmp_primary, self.primary, self._of_primary)
        self._secondary = Monitor("secondary", config.qmp_secondary, self.secondary, self._of_secondary)
        self._follows_secondary = bool(config.qmp_secondary)
        self._changed = asyncio.Event()
        self._failed: asyncio.Future[str] | None = None
        self._going_on: asyncio.Task[None] | None = None
        self._knows = False
        """Whether the primary was told that it is alone, since it was in COLO."""
        self.spoiled = 0

    def watch(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for as long as the guest is served."""
        return [self._primary.run(), *([self._secondary.run()] if self._follows_secondary else [])]

    def phases(self) -> dict[str, str]:
        phases = {"primary": self.primary.phase.value}
        return phases | ({"secondary": self.secondary.phase.value} if self._follows_secondary else {})

    def fence(self, reached: Callable[[], None]) -> None:
        """Call this when the primary's QEMU has answered a question and everything that it said before was told."""
        self._primary.fence(reached)

    def lost_heartbeat(self) -> None:
        """Let the primary go on alone, if it waits for the secondary; COLO ends by that.

        Where both guests run it would only keep them from being made equal again.
        """
        phase = self.primary.phase
        waits = phase in STANDING - {Phase.HALTED} or (phase is Phase.EXITED and not self._knows)
        if waits and (self._going_on is None or self._going_on.done()):
            self._going_on = asyncio.get_running_loop().create_task(self._tell_primary())

    async def _tell_primary(self) -> None:
        await self._primary.lost_heartbeat()
        self._knows = True

    async def checkpoint(self, _reason: str, _detail: Mapping[str, str], /) -> bool:
        """Ask as soon as the primary can be asked; one that is under way then will do.  False: it came to nothing."""
        try:
            while (why := await self._try()) == _TOO_LATE:
                log.warning("checkpoint %s: %s; asking again", Cause.SPOILED, why)
            log.error("checkpoint failed: %s", why)
        except PeerError as error:
            log.error("checkpoint refused: %s", error)
        return False

    async def _try(self) -> str:
        """Ask once; why it came to nothing."""
        failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._failed = failed
        asking = asyncio.ensure_future(self._ask())
        try:
            either: list[asyncio.Future[Any]] = [failed, asking]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not failed.done():
                asking.result()
            return await failed
        finally:
            asking.cancel()

    async def _ask(self) -> None:
        while not self.primary.can_be_asked:
            self._changed.clear()
            await self._changed.wait()
        parameters = await self._primary.execute("query-migrate-parameters")
        delay = parameters.get(_DELAY) if isinstance(parameters, Mapping) else None
        if not isinstance(delay, int):
            raise PeerError(f"this QEMU knows no {_DELAY}")
        await self._primary.execute("migrate-set-parameters", {_DELAY: delay})

    # What the replicas do.

    def _of_primary(self, news: News) -> None:
        listener, told = self._listener, self._told
        self._changed.set()
        if told is not None and news is not News.STOPPED:
            told(news)
        match news:
            case News.STOPPED:
                listener.stopped(primary=True)
                if told is not None:
                    told(news)
                if self.primary.phase is Phase.DOUBTFUL:
                    # It was found like that.  That will be no checkpoint, but the pause has to end as any other.
                    listener.paused()
            case News.PAUSED:
                listener.paused()
            case News.RESUMED:
                listener.resumed()
            case News.GOES_ON:
                listener.goes_on()
            case News.JOINED:
                self._knows = False
                listener.goes_on()
                listener.wanted(Cause.START)
            case News.SPOILED:
                self.spoiled += 1
                self._fail(_TOO_LATE)
                listener.goes_on()
                listener.wanted(Cause.SPOILED)
            case News.LOST:
                self._fail(f"the primary is {self.primary.phase.value}")
                listener.goes_on()

    def _of_secondary(self, news: News) -> None:
        if news is News.STOPPED and self.primary.phase is not Phase.OFFLINE:
            self._listener.stopped(primary=False)
        elif self._may_be_read(news) and self.primary.phase not in STANDING:
            self._listener.goes_on()

    def _may_be_read(self, news: News) -> bool:
        """What the secondary sends after a checkpoint waits for the primary, which goes on last, and may be heard first
        all the same.
        """
        if news in (News.RESUMED, News.SPOILED):
            return self.secondary.went_on_at <= self.primary.went_on_at
        return news in (News.GOES_ON, News.LOST)

    def _fail(self, why: str) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(why)
