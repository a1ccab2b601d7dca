"""A checkpoint that is done when the operator's command says so by its exit status."""

from __future__ import annotations

from collections.abc import Mapping

from colo_bridge.checkpoint.providers.execute import Command
from colo_bridge.config import CheckpointConfig


class CommandProvider:
    """Runs `checkpoint.command`; it copies no state itself, so connections keep their offsets.

    The command gets COLO_GUEST, COLO_REASON, COLO_CONNECTION (and one COLO_… variable for each further detail).
    """

    synchronises_state = False

    def __init__(self, guest: str, config: CheckpointConfig) -> None:
        self._guest = guest
        self._command = Command("checkpoint command", config.command, config.timeout)

    async def checkpoint(self, reason: str, detail: Mapping[str, str]) -> bool:
        """Run the command; True for exit status 0, False for any other end or the time-out."""
        details = {f"COLO_{name.upper()}": value for name, value in detail.items()}
        named = {"COLO_GUEST": self._guest, "COLO_REASON": reason}
        return await self._command.run({"COLO_CONNECTION": "", **details, **named})
