"""The hypervisor of a secondary on its own host, where that makes the checkpoints: what it says, and whether at all."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from colo_bridge.checkpoint.providers.standby import Standby
from colo_bridge.checkpoint.replica import News
from colo_bridge.config import CheckpointConfig


class OwnHypervisor:
    """Nobody asks it anything where another provider is configured."""

    def __init__(self, config: CheckpointConfig, told: Callable[[News], None], hears: Callable[[bool], None]) -> None:
        """`told` hears all news; `hears` whether it answers, whenever that changes: at first it does not."""
        self._standby = Standby(config, self._of_hypervisor) if config.provider == "qmp" else None
        self._told = told
        self._hears = hears
        self._answered = False

    @property
    def is_followed(self) -> bool:
        return self._standby is not None

    @property
    def phase(self) -> str:
        """Empty if it is not followed."""
        return self._standby.phase if self._standby is not None else ""

    def watch(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for as long as it is followed as a secondary's."""
        return self._standby.watch() if self._standby is not None else []

    def fence(self, reached: Callable[[], None]) -> None:
        """Call this when it has answered a question and everything that it said before was told."""
        if self._standby is not None:
            self._standby.fence(reached)

    def look(self) -> None:
        """Find out whether it answers; to be called several times a second."""
        if self._standby is not None and self._standby.answers is not self._answered:
            self._answered = self._standby.answers
            self._hears(self._answered)

    @property
    def answers(self) -> bool:
        return self._standby is not None and self._standby.answers

    async def end_colo(self) -> None:
        """Tell it that its guest is alone; returns when the guest is out of COLO, which may take a checkpoint's end."""
        if self._standby is not None:
            await self._standby.end_colo()

    def _of_hypervisor(self, news: News) -> None:
        self._told(news)
        self.look()
