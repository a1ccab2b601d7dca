"""What both sides' memberships ask of their daemons."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Traffic(enum.Enum):
    """What becomes of what the primary guest sends."""

    COMPARE = "compare"
    """Held until the secondary has sent the same."""
    PASS = "pass"
    """All of it leaves, and is counted."""
    BLOCK = "block"
    """Nothing leaves: dropped, and counted."""


class Claim(enum.StrEnum):
    """What a side wants to do alone."""

    SOLO = "solo"
    FAILOVER = "failover"


@dataclass(frozen=True, slots=True)
class AskArbiter:
    """Whether this side may go on alone; `arbiter_answered` is due for it, exactly once."""

    claim: Claim
    reason: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Tell the arbiter that this side does not go on alone, or no longer: what it holds of the right is free again.

    To be carried out in turn with `AskArbiter`, never beside it.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the secondary at once that this side is about to go on alone; `secondary_knows` is due for it."""


@dataclass(frozen=True, slots=True)
class RequestCheckpoint:
    reason: str


@dataclass(frozen=True, slots=True)
class GoLive:
    """The secondary becomes the service."""

    reason: str


@dataclass(frozen=True, slots=True)
class Entered:
    """For the log: the state has changed."""

    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """For the log: the arbiter has said no to what was wanted."""

    claim: Claim


Action = AskArbiter | GiveBack | Announce | RequestCheckpoint | GoLive | Entered | Refused
