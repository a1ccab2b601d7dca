"""One checkpoint at a time: the state machine between a divergence and the provider.

    state     event            next       what is told
    --------  ---------------  ---------  --------------------------------------
    IDLE      request          REQUESTED  -
    REQUESTED tick             RUNNING    Start
    RUNNING   finished(True)   IDLE       DONE, epoch + 1
    RUNNING   finished(False)  WAITING    FAILED
    RUNNING   tick, too long   STOPPING   Kill
    STOPPING  finished(any)    WAITING    TIMED_OUT
    WAITING   tick, in time    RUNNING    Start (the same request, next attempt)

A request in any state but IDLE joins the one that is under way: whatever the
flow, one completed checkpoint answers all of them.  Every other pair changes
nothing, except `finished` with nothing running, which is a bug of the caller.
Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from colo_bridge.errors import InternalError


class State(enum.Enum):
    IDLE = "idle"
    REQUESTED = "requested"
    RUNNING = "running"
    STOPPING = "stopping"
    WAITING = "waiting"


class Outcome(enum.Enum):
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Policy:
    """`timeout` bounds one attempt, `retry_interval` separates two; both in seconds."""

    timeout: float
    retry_interval: float


@dataclass(frozen=True, slots=True)
class Start:
    """Ask the provider now; `attempt` counts from 1 within one request."""

    reason: str
    detail: Mapping[str, str]
    attempt: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Stop the running attempt; `finished` is still due for it."""


Action = Start | Kill


@dataclass(slots=True)
class Counters:
    """`requested` counts requests that began a checkpoint, `joined` those that met one under way."""

    requested: int = 0
    joined: int = 0
    started: int = 0
    done: int = 0
    failed: int = 0
    timed_out: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class Coordinator:
    """The latched request of one guest; see the table above."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.state = State.IDLE
        self.epoch = 0
        self.counters = Counters()
        self._request = Start("", {}, 0)
        self._due = 0.0

    @property
    def due(self) -> float | None:
        """When the next `tick` has something to do; None: not before another event."""
        return None if self.state in (State.IDLE, State.STOPPING) else self._due

    def request(self, reason: str, now: float, detail: Mapping[str, str] | None = None) -> bool:
        """Ask for a checkpoint; False if it joined one that is under way."""
        self.counters.reasons[reason] += 1
        if self.state is not State.IDLE:
            self.counters.joined += 1
            return False
        self.counters.requested += 1
        self._request = Start(reason, dict(detail or {}), 0)
        self._enter(State.REQUESTED, now)
        return True

    def tick(self, now: float) -> list[Action]:
        """What to do at `now`; to be called after a request and whenever `due` has come."""
        if self.due is None or now < self._due:
            return []
        return [self._kill(now) if self.state is State.RUNNING else self._start(now)]

    def finished(self, success: bool, now: float) -> Outcome:
        """Tell how the started attempt ended; raises InternalError if none was started."""
        outcome = self._outcome(success)
        if outcome is Outcome.DONE:
            self._complete(now)
        else:
            self._count_failure(outcome)
            self._enter(State.WAITING, now + self.policy.retry_interval)
        return outcome

    def _enter(self, state: State, due: float) -> None:
        self.state = state
        self._due = due

    def _start(self, now: float) -> Start:
        self.counters.started += 1
        request = self._request
        self._request = Start(request.reason, request.detail, request.attempt + 1)
        self._enter(State.RUNNING, now + self.policy.timeout)
        return self._request

    def _kill(self, now: float) -> Kill:
        self._enter(State.STOPPING, now)
        return Kill()

    def _outcome(self, success: bool) -> Outcome:
        # A success that crosses with Kill came too late: what was killed may have done half of it.
        if self.state is State.STOPPING:
            return Outcome.TIMED_OUT
        if self.state is State.RUNNING:
            return Outcome.DONE if success else Outcome.FAILED
        raise InternalError(f"a checkpoint finished while {self.state.value}")

    def _complete(self, now: float) -> None:
        self.epoch += 1
        self.counters.done += 1
        self._enter(State.IDLE, now)

    def _count_failure(self, outcome: Outcome) -> None:
        self.counters.failed += 1
        self.counters.timed_out += outcome is Outcome.TIMED_OUT
