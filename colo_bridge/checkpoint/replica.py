"""One replica as its hypervisor tells of it: whether it is in COLO, and what it means when it stops and goes on.

    phase             event                       next      news
    ----------------  --------------------------  --------  -----------------------------------------
    OFFLINE           connected, not in COLO      RUNNING   -
    OFFLINE           connected, in COLO, runs    ACTIVE    JOINED
    OFFLINE           connected, in COLO, halted  HALTED    JOINED
    OFFLINE           connected, in a checkpoint  DOUBTFUL  STOPPED
    RUNNING, EXITED   in COLO, anew               ACTIVE    JOINED
    ACTIVE            not in COLO any more        EXITED    LOST
    standing at all   stopped                     (same)    -
    any other         stopped                     STOPPED   STOPPED
    STOPPED           status "colo", in COLO      PAUSED    PAUSED
    STOPPED           status "colo", not in COLO  DOUBTFUL  PAUSED
    STOPPED           status "running", in COLO   DOUBTFUL  -
    STOPPED           any other status            HALTED    GOES_ON
    PAUSED            resumed, in order           ACTIVE    RESUMED
    PAUSED            resumed, too late to tell   ACTIVE    SPOILED
    DOUBTFUL          resumed                     ACTIVE    SPOILED
    STOPPED, HALTED   resumed                     RUNNING,  GOES_ON
                                                  ACTIVE
    any but EXITED    exited                      EXITED    LOST
    any               lost                        OFFLINE   LOST

1. Only a replica that stood still *for a checkpoint* when it was asked has made one by going on: an operator's
   stop and cont says nothing about the other replica.
2. What was sent before the pause must have been read before the replica went on, or nobody can tell it from what
   was sent after it: such a checkpoint is spoiled, and so is one of which the status came too late.
3. Once COLO has ended there is no checkpoint until it begins anew. A hypervisor that was not told that it is alone goes
   on saying that its migration is in COLO: that is no beginning.
4. Times are seconds of the clock that the hypervisor's events carry.
"""

from __future__ import annotations

import enum

IN_COLO = "colo"
"""What a hypervisor answers about a replica that stands still for a checkpoint, and about a migration in COLO."""
IS_RUNNING = "running"


class Phase(enum.Enum):
    OFFLINE = "offline"
    RUNNING = "running"
    ACTIVE = "colo"
    STOPPED = "stopped"
    DOUBTFUL = "doubtful"
    PAUSED = "paused"
    HALTED = "halted"
    EXITED = "exited"


class News(enum.Enum):
    JOINED = enum.auto()
    STOPPED = enum.auto()
    PAUSED = enum.auto()
    GOES_ON = enum.auto()
    RESUMED = enum.auto()
    SPOILED = enum.auto()
    LOST = enum.auto()


STANDING = frozenset((Phase.STOPPED, Phase.DOUBTFUL, Phase.PAUSED, Phase.HALTED))


class Replica:
    """The state of one replica; every method returns what is news, or None."""

    def __init__(self) -> None:
        self.phase = Phase.OFFLINE
        self.went_on_at = 0.0
        """When it last did; 0: never, or nobody knows."""
        self._in_colo = False
        self._is_over = False
        """COLO has ended, but it says of its migration what it said before."""
        self._read_up_to = 0.0

    @property
    def can_be_asked(self) -> bool:
        """Whether it would begin a checkpoint."""
        return self.phase is Phase.ACTIVE

    @property
    def in_colo(self) -> bool:
        """Whether a checkpoint may still come, or be under way."""
        return self._in_colo and self.phase is not Phase.OFFLINE

    def connected(self, status: str, migration: str) -> News | None:
        """The hypervisor answers again: what it says of the guest and of its migration."""
        self._in_colo = migration == IN_COLO
        self._is_over = False
        if status == IN_COLO:
            self.phase = Phase.DOUBTFUL
            return News.STOPPED
        if self._in_colo and status != IS_RUNNING:
            # Nor would it tell of a checkpoint: it stands still already.
            self.phase = Phase.HALTED
            return News.JOINED
        self.phase = Phase.RUNNING
        return self.migration(migration)

    def migration(self, status: str) -> News | None:
        """What it says of its migration after it has gone on."""
        if status != IN_COLO:
            self._is_over = False
            return self._end(Phase.EXITED) if self.phase is Phase.ACTIVE else None
        if self._is_over or self.phase not in (Phase.RUNNING, Phase.EXITED):
            return None
        self._in_colo = True
        self.phase = Phase.ACTIVE
        return News.JOINED

    def stopped(self) -> News | None:
        if self.phase in STANDING:
            return None
        self.phase = Phase.STOPPED
        return News.STOPPED

    def status(self, status: str, read_up_to: float) -> News | None:
        """Why it stands still; `read_up_to`: what it had sent until then was read.

        The answer must be about this stop: who has gone on before it answered is running, whatever it does now.
        """
        if self.phase is not Phase.STOPPED:
            return None
        self._read_up_to = read_up_to
        if status == IN_COLO and self._in_colo:
            self.phase = Phase.PAUSED
            return News.PAUSED
        # A checkpoint, perhaps: it has gone on before it could answer, or nobody has heard that it is in COLO again.
        if status == IN_COLO or (status == IS_RUNNING and self._in_colo):
            self._in_colo, self._is_over = True, False
            self.phase = Phase.DOUBTFUL
            return News.PAUSED if status == IN_COLO else None
        self.phase = Phase.HALTED
        return News.GOES_ON

    def resumed(self, at: float) -> News | None:
        phase = self.phase
        if phase not in STANDING:
            return None
        self.went_on_at = at
        self.phase = Phase.ACTIVE if self._in_colo and phase is not Phase.STOPPED else Phase.RUNNING
        if phase is Phase.PAUSED and self._read_up_to < at:
            return News.RESUMED
        return News.SPOILED if phase in (Phase.PAUSED, Phase.DOUBTFUL) else News.GOES_ON

    def exited(self) -> News | None:
        """COLO has ended; the guest may run on by itself."""
        if self.phase is Phase.EXITED:
            return None
        self._is_over = True
        return self._end(Phase.EXITED)

    def lost(self) -> News | None:
        """Nobody can tell any more what it does."""
        return None if self.phase is Phase.OFFLINE else self._end(Phase.OFFLINE)

    def _end(self, phase: Phase) -> News:
        self.phase = phase
        self._in_colo = False
        return News.LOST
