"""Who may go on alone: not asked yet."""

from __future__ import annotations

from collections.abc import Callable

from colo_bridge.config import Config
from colo_bridge.link.protocol.messages import Role
from colo_bridge.membership.actions import AskArbiter, GiveBack


class Arbiter:
    def __init__(self, _config: Config, _role: Role, _answered: Callable[[bool], None]) -> None:
        self.exists = False

    def carry_out(self, action: AskArbiter | GiveBack) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""
