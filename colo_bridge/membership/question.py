"""The arbiter, as one side deals with it: one question at a time, and what it holds is given back.

1. Nothing is asked while an answer is due: that answer serves for whatever is wanted when it comes.
2. Nothing is given back while an answer is due, or it might be what that answer has won.  It is given back then, if
   nobody wants it any more.
"""

from __future__ import annotations

from colo_bridge.membership.actions import Action, AskArbiter, Claim, GiveBack


class Question:
    """`exists`: whether there is an arbiter at all."""

    def __init__(self, claim: Claim, exists: bool, retry: float) -> None:
        self.exists = exists
        self.is_open = False
        """An answer is due."""
        self.asked = self.refused = 0
        self._claim = claim
        self._retry = retry
        self._not_before: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether to ask, and to ask again."""
        return self.exists and not self.is_open and (self._not_before is None or now >= self._not_before)

    def ask(self, reason: str) -> list[Action]:
        if self.is_open or not self.exists:
            return []
        self.is_open = True
        self.asked += 1
        return [AskArbiter(self._claim, reason)]

    def answered(self, won: bool, now: float) -> None:
        self.is_open = False
        self.refused += not won
        self._not_before = now + self._retry

    def give_back(self, reason: str) -> list[Action]:
        return [GiveBack(reason)] if self.exists and not self.is_open else []
