"""What a primary's membership can be in, how it is configured, and what it counts."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class PrimaryState(enum.Enum):
    WAITING = "waiting"
    """For a secondary."""
    UNSYNCHRONISED = "unsynchronised"
    PROTECTED = "protected"
    LOST = "lost"
    ASKING = "asking"
    """The arbiter."""
    SOLO = "solo"
    LIVE = "live"
    """Solo too: the guest is a secondary that has gone live, and has had no secondary of its own yet."""
    CLOSED = "closed"
    DRAINED = "drained"
    YIELDED = "yielded"
    """To the other side, which has gone live."""


HELD = frozenset((PrimaryState.WAITING, PrimaryState.UNSYNCHRONISED, PrimaryState.LOST, PrimaryState.ASKING))
"""Nothing new leaves, but it is kept."""
STILL = frozenset((PrimaryState.LOST, PrimaryState.ASKING, PrimaryState.CLOSED, PrimaryState.YIELDED))
"""Nothing new has left since the state before."""
PASSING = frozenset((PrimaryState.SOLO, PrimaryState.LIVE, PrimaryState.DRAINED))
"""Everything leaves."""
RESUMABLE = frozenset((PrimaryState.SOLO, PrimaryState.DRAINED, PrimaryState.CLOSED, PrimaryState.YIELDED))
"""A guest that has just gone live has nothing to go back to."""


@dataclass(frozen=True, slots=True)
class PrimaryPolicy:
    secondary_timeout: float
    """Seconds that packets are held for, at most."""
    solo: bool
    """What follows: everything passes; else nothing leaves."""
    arbiter: bool
    """Somebody else decides between the two sides."""
    retry: float = 5.0
    """Seconds between an answer of the arbiter and the next question."""
    checkpoints: bool = True
    """Somebody makes them."""
    patience: float = 40.0
    """Seconds that an operator's `protect` waits for the comparison, at most."""


@dataclass(frozen=True, slots=True)
class PrimaryCounters:
    secondary_losses: int
    """Times that a secondary was lost."""
    solo: int
    """Times that all was let pass; those of a drain are not counted."""
    closed: int
    """Times that nothing was let pass any more, for lack of a secondary."""
    yielded: int
    """Times that the other side turned out to be live."""
    arbiter_asked: int
    arbiter_refused: int
    """Answers that were no, or no answer in time."""
