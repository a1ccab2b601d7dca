"""What an operator has asked one side for, from then on until it is done or has come to nothing."""

from __future__ import annotations

import enum
from typing import Generic, TypeVar

State = TypeVar("State", bound=enum.Enum)


class Stage(enum.Enum):
    """What a wish waits for."""

    CHECKPOINT = enum.auto()
    """The last one, before this side goes on alone."""
    LEAVE = enum.auto()
    """That this side may go on alone."""
    COMPARISON = enum.auto()
    """That the replicas are compared."""
    OVER = enum.auto()
    """Nothing any more."""


class Wish(Generic[State]):
    """Whoever has asked looks at it until it is no longer open."""

    def __init__(self, goal: State, stage: Stage, by: float) -> None:
        """`goal`: the state that was asked for; `by`: until when it waits in this stage."""
        self.goal = goal
        self.stage = stage
        self.by = by
        self.shortfall = ""
        """What was to come before the goal, and did not."""
        self.problem = ""
        """Why it has come to nothing."""
        self._is_reached = False

    @property
    def is_open(self) -> bool:
        return self.stage is not Stage.OVER

    @property
    def is_done(self) -> bool:
        """As it was asked for."""
        return self._is_reached and not self.shortfall

    def reach(self) -> None:
        """The goal is reached."""
        self.stage = Stage.OVER
        self._is_reached = True

    def fail(self, why: str) -> None:
        self.stage = Stage.OVER
        self.problem = why


class Wishes(Generic[State]):
    """The last one counts: it takes the place of one that is still open."""

    def __init__(self) -> None:
        self.last: Wish[State] | None = None

    def begin(self, goal: State, stage: Stage, by: float) -> Wish[State]:
        self.drop("another order has taken its place")
        self.last = Wish(goal, stage, by)
        return self.last

    def waiting_for(self, *stages: Stage) -> Wish[State] | None:
        """The one that waits for one of these."""
        return self.last if self.last is not None and self.last.stage in stages else None

    def drop(self, why: str) -> None:
        """It comes to nothing, if it is still open."""
        if self.last is not None and self.last.is_open:
            self.last.fail(why)

    def clear(self, why: str) -> None:
        """An order that needs no waiting has taken its place."""
        self.drop(why)
        self.last = None
