"""The secondary's QEMU, followed on its own host."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from colo_bridge.checkpoint.providers.monitor import Monitor
from colo_bridge.checkpoint.replica import News, Replica
from colo_bridge.config import CheckpointConfig


class Standby:
    """Tells what the secondary does, and ends COLO when it is to go on alone."""

    def __init__(self, config: CheckpointConfig, told: Callable[[News], None]) -> None:
        self._replica = Replica()
        self._monitor = Monitor("secondary", config.qmp, self._replica, told)

    @property
    def phase(self) -> str:
        return self._replica.phase.value

    def watch(self) -> list[Coroutine[Any, Any, None]]:
        return [self._monitor.run()]

    def fence(self, answered: Callable[[], None]) -> None:
        self._monitor.fence(answered)

    async def lost_heartbeat(self) -> None:
        await self._monitor.execute("x-colo-lost-heartbeat")
