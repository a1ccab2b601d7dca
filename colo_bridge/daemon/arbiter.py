"""Asks who may go on alone: the operator's command decides, and a second one gives back what was won."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from colo_bridge.checkpoint.providers.execute import Command
from colo_bridge.config import Config
from colo_bridge.link.protocol.messages import Role
from colo_bridge.membership.actions import AskArbiter, GiveBack

log = logging.getLogger(__name__)

GIVE_BACK = "give-back"
"""COLO_ACTION of the second command; the first one's is the claim."""


class Arbiter:
    """Carries out one thing after the other, in the order in which they were wanted.

    Nothing is given back twice in a row: a question must not wait behind what is of no use any more.
    """

    def __init__(self, config: Config, role: Role, answered: Callable[[bool], None]) -> None:
        """`answered` is told for each question, once, whether this side may go on alone."""
        section = config.arbiter
        self.exists = bool(section.command)
        self._returns = bool(section.give_back)
        self._ask = Command("arbiter.command", section.command, section.timeout)
        self._give_back = Command("arbiter.give_back", section.give_back, section.timeout)
        identity = config.link.identity if config.link is not None else ""
        self._variables = {"COLO_GUEST": config.guest, "COLO_ROLE": role.value, "COLO_IDENTITY": identity}
        self._answered = answered
        self._wanted: deque[AskArbiter | GiveBack] = deque()
        self._has_given_back = False
        """Whether nothing can have been won since something was given back."""
        self._work: asyncio.Task[None] | None = None

    def carry_out(self, action: AskArbiter | GiveBack) -> None:
        if isinstance(action, GiveBack) and self._wanted and isinstance(self._wanted[-1], GiveBack):
            self._wanted.pop()
        self._wanted.append(action)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._carry_out_all())

    async def close(self) -> None:
        """Kill what runs; no answer is told any more."""
        self._wanted.clear()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def _carry_out_all(self) -> None:
        while self._wanted:
            action = self._wanted.popleft()
            if isinstance(action, AskArbiter):
                log.warning("asking the arbiter for %s: %s", action.claim.value, action.reason)
                self._has_given_back = False
                won = await self._run(self._ask, action.claim.value, action.reason)
                # Not from here: what it leads to may be wanted of this very task.
                asyncio.get_running_loop().call_soon(self._answered, won)
            elif self._returns and not self._has_given_back:
                self._has_given_back = await self._run(self._give_back, GIVE_BACK, action.reason)

    async def _run(self, command: Command, action: str, reason: str) -> bool:
        try:
            return await command.run({**self._variables, "COLO_ACTION": action, "COLO_REASON": reason})
        except Exception:
            # Whoever asked holds packets until there is an answer.
            log.exception("a bug of colo-bridge: the arbiter's command could not be carried out")
            return False
