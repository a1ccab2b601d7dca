"""The secondary's own QEMU, on the secondary's host: followed, asked, and told when it is alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from colo_bridge.checkpoint.providers.monitor import Monitor
from colo_bridge.checkpoint.replica import News, Phase, Replica
from colo_bridge.config import CheckpointConfig


class Standby:
    """A replica that begins no checkpoints: the primary's side asks for them."""

    def __init__(self, config: CheckpointConfig, told: Callable[[News], None]) -> None:
        """`told` is called for each piece of news, in order, inside the running loop."""
        self._replica = Replica()
        self._has_changed = asyncio.Event()

        def tell(news: News) -> None:
            told(news)
            self._has_changed.set()

        self._monitor = Monitor("secondary", config.qmp, self._replica, tell)

    def watch(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for as long as the guest is served."""
        return [self._monitor.run()]

    @property
    def phase(self) -> str:
        return self._replica.phase.value

    def fence(self, reached: Callable[[], None]) -> None:
        """Call this when QEMU has answered a question and everything that it said before was told."""
        self._monitor.fence(reached)

    @property
    def answers(self) -> bool:
        return self._replica.phase is not Phase.OFFLINE

    async def end_colo(self) -> None:
        """Let the guest go on alone; returns when it is out of COLO, or QEMU has refused because it is that already.

        A checkpoint whose state has come is ended first: QEMU tells of that as of any other.
        """
        if not await self._monitor.lost_heartbeat():
            return
        while self._replica.in_colo:
            self._has_changed.clear()
            await self._has_changed.wait()
