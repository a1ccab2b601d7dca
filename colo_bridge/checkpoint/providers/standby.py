"""The secondary's own QEMU, on the secondary's host: followed, asked, and told when it is alone."""

from __future__ import annotations

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
        self._monitor = Monitor("secondary", config.qmp, self._replica, told)

    def watch(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for as long as the guest is served."""
        return [self._monitor.run()]

    @property
    def phase(self) -> str:
        return self._replica.phase.value

    @property
    def answers(self) -> bool:
        return self._replica.phase is not Phase.OFFLINE

    def fence(self, reached: Callable[[], None]) -> None:
        """Call this when QEMU has answered a question and everything that it said before was told."""
        self._monitor.fence(reached)

    async def lost_heartbeat(self) -> None:
        """Let the guest go on alone; returns when QEMU was told, or has refused because it is alone already."""
        await self._monitor.lost_heartbeat()
