"""Epochs of two replicas on two hosts: their numbers, and what the two sides ask their daemons to do.

1. Each side counts the checkpoints that its own hypervisor tells of, and says its count in front of what it sends: a
   barrier on every stream. A packet is taken only where it was sent after as many checkpoints as are behind the side
   that takes it. What is behind is thrown away; what is ahead waits in its stream.
2. Nobody knows in which order the events of one hypervisor, those of the other and the link's come. So the counts are
   brought into line first, and again whenever a side heard of anything that was no proven checkpoint.
3. A count is good for one *era* only, which the primary begins by a barrier with the era's first number.

How they are brought into line: the primary, while its guest runs, begins an era. When its barrier has come on all
streams and the secondary's guest runs, the secondary asks its hypervisor anything, so as to have heard of all that was
before, and answers with the same barrier. When that has come on all streams the primary asks its hypervisor likewise.
If its guest never stood still meanwhile, both sides had made the same checkpoints at that moment in between at which
the secondary ran: in each checkpoint the secondary stands still before the primary does, and goes on only after that.
So a checkpoint that the primary has behind it is behind a secondary that runs, and one that the secondary has behind it
cannot be before a primary that has not stood still for it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from colo_bridge.checkpoint.cause import Cause

CHECKPOINTS = 1 << 32
"""Numbers of one era."""
LEFT_COLO = "the secondary's hypervisor is not in COLO any more"
"""The one reason of the secondary's, in its messages, that the primary knows."""


def next_era(epoch: int) -> int:
    """The first number of the era after that of `epoch`."""
    return (epoch // CHECKPOINTS + 1) * CHECKPOINTS


def count_of(epoch: int) -> int:
    """Checkpoints since the era began."""
    return epoch % CHECKPOINTS


class Alignment(enum.Enum):
    """How far two sides' counts are brought into line."""

    APART = "apart"
    BEGUN = "begun"
    FENCING = "fencing"
    ALIGNED = "aligned"


@dataclass(frozen=True, slots=True)
class SendBarrier:
    """What is sent from now on, on all streams, belongs to `epoch`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class PauseStream:
    """Take nothing of this stream until `ResumeStream`."""

    nic: str


@dataclass(frozen=True, slots=True)
class ResumeStream:
    """Stands behind all other actions: what waits in the stream may begin the next thing at once."""

    nic: str


@dataclass(frozen=True, slots=True)
class Fence:
    """Ask the hypervisor anything; call `fenced(epoch)` when it has answered and all it said before was told."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Begun:
    """The replicas are equal, and what they send from now on is compared."""


@dataclass(frozen=True, slots=True)
class Suspended:
    """It was `Begun`; until it is again nothing of the other side can be used.  `detail`: why, for the log."""

    detail: str


@dataclass(frozen=True, slots=True)
class Parted:
    """The primary: as `Suspended`, and COLO is over: the secondary is as good as lost, and has all that has left."""


@dataclass(frozen=True, slots=True)
class Renew:
    """The primary: a checkpoint is done, what is held may leave. `nic`: on this one only; None: on all."""

    synchronised: bool
    nic: str | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """The primary: another secondary has come, no connection of before can be compared."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The primary: the replicas may differ, and a checkpoint would be of use now."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Drain:
    """The secondary: read what the guest has sent, to the end."""


@dataclass(frozen=True, slots=True)
class ReadGuest:
    """The secondary: whether what the guest sends is read at all."""

    on: bool


@dataclass(frozen=True, slots=True)
class Synchronised:
    """The secondary: the guest has the primary's state."""


@dataclass(frozen=True, slots=True)
class RequestCheckpoint:
    """The secondary: tell the primary that the counts must be brought into line, and a checkpoint be made."""

    reason: str


Action = (
    SendBarrier
    | PauseStream
    | ResumeStream
    | Fence
    | Begun
    | Suspended
    | Parted
    | Renew
    | Forget
    | Wanted
    | Drain
    | ReadGuest
    | Synchronised
    | RequestCheckpoint
)
