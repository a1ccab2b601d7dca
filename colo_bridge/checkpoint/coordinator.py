"""One checkpoint at a time: the state machine between a divergence and the provider.

    state               event            next       what is told
    ------------------  ---------------  ---------  -------------------------------------
    IDLE                request          REQUESTED  -
    IDLE                tick, period     REQUESTED  -
    REQUESTED, WAITING  tick, in time    ASKED      Start (WAITING: the next attempt)
    ASKED               paused           PAUSED     -
    IDLE, REQUESTED,    paused           PAUSED     Start (nobody asked: the hypervisor's
    WAITING                                         own checkpoint is one as well)
    ASKED, PAUSED       finished(True)   IDLE       DONE, epoch + 1
    ASKED, PAUSED       finished(False)  WAITING    FAILED
    ASKED, PAUSED       tick, too long   STOPPING   Kill
    STOPPING            finished(any)    WAITING    TIMED_OUT, or NOT_RESUMED after a pause
    any                 resumed          IDLE       DONE, epoch + 1
    REQUESTED, WAITING  withdraw         IDLE       WITHDRAWN
    ASKED, PAUSED       withdraw         ENDING     Kill
    STOPPING            withdraw         ENDING     -
    ENDING              finished(any)    IDLE       WITHDRAWN
    ENDING              request, paused  STOPPING   - (it is wanted again)
    IDLE                withdraw         IDLE       - (and no period counts)

A request in any state but IDLE joins the one that is under way: whatever the
flow, one completed checkpoint answers all of them.  Every other pair changes
nothing, except `finished` with nothing running, which is a bug of the caller;
after `resumed` the attempt counts as finished.
After `withdraw` no period counts until the next checkpoint, or `count_period`.
Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from colo_bridge.errors import InternalError

PERIOD = "period"
"""The reason of a checkpoint that is due because the last one was so long ago."""
HYPERVISOR = "hypervisor"
"""The reason of a checkpoint that nobody here asked for."""


class State(enum.Enum):
    IDLE = "idle"
    REQUESTED = "requested"
    ASKED = "asked"
    PAUSED = "paused"
    STOPPING = "stopping"
    ENDING = "ending"
    WAITING = "waiting"


class Outcome(enum.Enum):
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    NOT_RESUMED = "not resumed"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Policy:
    """All in seconds.  `timeout` bounds an attempt up to the pause, or as a whole if no pause is told of;
    `retry_interval` separates two attempts.
    """

    timeout: float
    retry_interval: float
    pause_timeout: float = 10.0
    """Bounds the pause."""
    min_interval: float = 0.0
    """Between the end of a checkpoint and the beginning of the next one."""
    period: float = 0.0
    """Between the end of a checkpoint and the next one that is asked for without any other reason; 0: never."""


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
    not_resumed: int = 0
    withdrawn: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class Coordinator:
    """The latched request of one guest; see the table above."""

    def __init__(self, policy: Policy, now: float = 0.0) -> None:
        """`now`: from when on the first period counts."""
        self.policy = policy
        self.state = State.IDLE
        self.epoch = 0
        self.counters = Counters()
        self._request = Start("", {}, 0)
        self.due: float | None = None
        """When the next `tick` has something to do; None: not before another event."""
        self._not_before = now
        self._too_long = Outcome.TIMED_OUT
        self.count_period(now)

    def count_period(self, now: float) -> None:
        """Where nothing is under way: the next checkpoint is due a period after `now`."""
        if self.state is State.IDLE:
            self.due = now + self.policy.period if self.policy.period else None

    def request(self, reason: str, now: float, detail: Mapping[str, str] | None = None) -> bool:
        """Ask for a checkpoint; False if it joined one that is under way."""
        self.counters.reasons[reason] += 1
        if self.state not in (State.IDLE, State.ENDING):
            self.counters.joined += 1
            return False
        self.counters.requested += 1
        self._request = Start(reason, dict(detail or {}), 0)
        if self.state is State.ENDING:
            self._enter(State.STOPPING)
        else:
            self._enter(State.REQUESTED, max(now, self._not_before))
        return True

    def withdraw(self) -> Kill | Outcome | None:
        """Nobody waits for a checkpoint any more; what to do, or what there is to tell."""
        self.counters.withdrawn += self.state not in (State.IDLE, State.ENDING)
        match self.state:
            case State.REQUESTED | State.WAITING:
                self._enter(State.IDLE)
                return Outcome.WITHDRAWN
            case State.ASKED | State.PAUSED:
                return self._kill(State.ENDING)
            case State.STOPPING:
                self._enter(State.ENDING)
            case State.IDLE:
                self._enter(State.IDLE)
        return None

    def tick(self, now: float) -> list[Action]:
        """What to do at `now`; to be called after a request and whenever `due` has come."""
        if self.due is None or now < self.due:
            return []
        if self.state is State.IDLE:
            self.request(PERIOD, now)
            return self.tick(now)
        if self.state in (State.ASKED, State.PAUSED):
            return [self._kill(State.STOPPING)]
        return [self._start(State.ASKED, now + self.policy.timeout)]

    def paused(self, now: float) -> list[Action]:
        """The replicas stand still for a checkpoint, whoever asked for it; what to do."""
        if self.state is State.ENDING:
            self.request(HYPERVISOR, now)
        if self.state in (State.PAUSED, State.STOPPING):
            return []
        end = now + self.policy.pause_timeout
        if self.state is State.ASKED:
            self._enter(State.PAUSED, end)
            return []
        if self.state is State.IDLE:
            self.request(HYPERVISOR, now)
        return [self._start(State.PAUSED, end)]

    def resumed(self, now: float) -> Outcome:
        """A checkpoint is done, whoever asked for it; no `finished` is due any more."""
        self.epoch += 1
        self.counters.done += 1
        self._not_before = now + self.policy.min_interval
        self._enter(State.IDLE)
        self.count_period(now)
        return Outcome.DONE

    def finished(self, success: bool, now: float) -> Outcome:
        """Tell how the started attempt ended; raises InternalError if none was started."""
        outcome = self._outcome(success)
        if outcome is Outcome.DONE:
            return self.resumed(now)
        if outcome is Outcome.WITHDRAWN:
            self._enter(State.IDLE)
        else:
            self._count_failure(outcome)
            self._not_before = now + self.policy.retry_interval
            self._enter(State.WAITING, self._not_before)
        return outcome

    def _enter(self, state: State, due: float | None = None) -> None:
        self.state = state
        self.due = due

    def _start(self, state: State, due: float) -> Start:
        self.counters.started += 1
        request = self._request
        self._request = Start(request.reason, request.detail, request.attempt + 1)
        self._enter(state, due)
        return self._request

    def _kill(self, state: State) -> Kill:
        self._too_long = Outcome.NOT_RESUMED if self.state is State.PAUSED else Outcome.TIMED_OUT
        self._enter(state)
        return Kill()

    def _outcome(self, success: bool) -> Outcome:
        # A success that crosses with Kill came too late: what was killed may have done half of it.
        if self.state is State.STOPPING:
            return self._too_long
        if self.state is State.ENDING:
            return Outcome.WITHDRAWN
        if self.state in (State.ASKED, State.PAUSED):
            return Outcome.DONE if success else Outcome.FAILED
        raise InternalError(f"a checkpoint finished while {self.state.value}")

    def _count_failure(self, outcome: Outcome) -> None:
        self.counters.failed += 1
        self.counters.timed_out += outcome is Outcome.TIMED_OUT
        self.counters.not_resumed += outcome is Outcome.NOT_RESUMED
