"""The secondary's QEMU: not followed yet."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from colo_bridge.checkpoint.replica import News
from colo_bridge.config import CheckpointConfig


class Standby:
    phase = "offline"

    def __init__(self, _config: CheckpointConfig, _told: Callable[[News], None]) -> None:
        """Nothing."""

    def watch(self) -> list[Coroutine[Any, Any, None]]:
        return []

    def fence(self, answered: Callable[[], None]) -> None:
        answered()

    async def lost_heartbeat(self) -> None:
        """Nothing."""
