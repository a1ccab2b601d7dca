"""The primary's side: is there a secondary, and what may leave if there is none?

    state                  event                       next                     told
    ---------------------  --------------------------  -----------------------  -----------------
    WAITING, LOST, CLOSED  secondary_joined            UNSYNCHRONISED           -
    any but YIELDED        comparing                   PROTECTED (1)            GiveBack
    UNSYNCHRONISED,        secondary_lost              LOST                     -
    PROTECTED
    PROTECTED              suspended                   UNSYNCHRONISED           -
    WAITING, LOST,         tick, held for too long     SOLO, or ASKING, if      AskArbiter
    UNSYNCHRONISED                                     there is an arbiter,
                                                       or CLOSED (2)
    ASKING                 arbiter_answered            SOLO, if won, or CLOSED  -
    CLOSED                 tick, `retry` later         CLOSED (2)               AskArbiter
    CLOSED                 arbiter_answered, won       SOLO (2)                 -
    any but YIELDED        guest_lost                  CLOSED (1)               -
    CLOSED, by that        guest_found                 UNSYNCHRONISED, WAITING  -
    any                    peer_is_live                YIELDED                  -
    any but YIELDED        solo                        SOLO (3)                 -
    any but YIELDED        drain                       DRAINED (3), once a      RequestCheckpoint
                                                       checkpoint is done
    SOLO, DRAINED (1),     resume                      UNSYNCHRONISED,          RequestCheckpoint
    CLOSED, YIELDED                                    WAITING
    any but YIELDED        protect                     (same)                   RequestCheckpoint

(1) What an operator chose, SOLO or DRAINED, ends only by `protect` (and the comparison that follows) or `resume`; LIVE
    only by `protect`.
(2) SOLO only where the policy says so, and not where the other side has been live since the replicas were last
    protected: then an operator has to say that it is off, by `solo` with `fenced`.
(3) With an arbiter: once that is won, but for `solo` with `fenced`.  Until then, and if it is refused, the state stays.

1. Packets are held for `secondary_timeout` at most, counted from when they began to be held.  Only PROTECTED, or a
   state in which all passes or nothing does, ends that: a link that comes and goes does not.
2. With an arbiter, nothing passes uncompared before it was won, unless an operator says that the other side is off.
   What was won is kept until the replicas are compared again: before, the secondary lacks what has left.
3. Once the other side has gone live, nothing leaves until an operator says `resume`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from colo_bridge.errors import OperatorError
from colo_bridge.membership.actions import Action, Claim, Entered, Refused, RequestCheckpoint, Traffic
from colo_bridge.membership.question import Question


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


_HELD = frozenset((PrimaryState.WAITING, PrimaryState.UNSYNCHRONISED, PrimaryState.LOST, PrimaryState.ASKING))
"""Nothing new leaves, but it is kept."""
_STILL = frozenset((PrimaryState.LOST, PrimaryState.ASKING, PrimaryState.CLOSED, PrimaryState.YIELDED))
"""Nothing new has left since the state before."""
_OPERATOR = "an operator said so"
_PASSING = frozenset((PrimaryState.SOLO, PrimaryState.LIVE, PrimaryState.DRAINED))


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


class PrimaryMembership:
    """See the table above."""

    def __init__(self, policy: PrimaryPolicy, now: float, *, yielded: bool = False, live: bool = False) -> None:
        """`yielded`: as it was when the daemon ended; `live`: begin as a secondary that has gone live."""
        self.policy = policy
        begin = PrimaryState.LIVE if live else PrimaryState.WAITING
        self.state = PrimaryState.YIELDED if yielded else begin
        self.since = now
        self.reason = "no secondary has come yet"
        if yielded:
            self.reason = "the other side had gone live before the daemon began"
        elif live:
            self.reason = "the guest has gone live"
        self._entered = dict.fromkeys(PrimaryState, 0)
        self._question = Question(Claim.SOLO, policy.arbiter, policy.retry)
        self._deadline = now + policy.secondary_timeout
        self._is_there = False
        self._guest_is_there = True
        self._peer_was_live = yielded
        self.is_synchronised = False
        """Whether the secondary has all that has left; it must be told whenever that changes."""
        self._is_chosen = live
        self._is_protecting = False
        """Whether an operator waits for the checkpoint with which everything stops passing."""
        self._wish: PrimaryState | None = None
        self._why = ""
        self._drain_by: float | None = None

    @property
    def traffic(self) -> Traffic:
        if self.state in _PASSING:
            return Traffic.PASS
        blocked = self.state in (PrimaryState.CLOSED, PrimaryState.YIELDED)
        return Traffic.BLOCK if blocked else Traffic.COMPARE

    @property
    def yielded(self) -> bool:
        """To be remembered when the daemon ends: the other side may be live."""
        return self._peer_was_live

    @property
    def is_deciding(self) -> bool:
        """Whether what an operator asked for is still to come: the checkpoint of a drain, the arbiter's answer."""
        return self._wish is not None or self._drain_by is not None

    @property
    def wants_checkpoint(self) -> bool:
        """Whether one that was asked for is to be tried until it is done: somebody waits for that."""
        if self.state in _PASSING:
            return self._is_protecting
        return self._is_there if self.state is PrimaryState.CLOSED else self.state is not PrimaryState.YIELDED

    @property
    def counters(self) -> PrimaryCounters:
        return PrimaryCounters(
            secondary_losses=self._entered[PrimaryState.LOST],
            solo=self._entered[PrimaryState.SOLO],
            closed=self._entered[PrimaryState.CLOSED],
            yielded=self._entered[PrimaryState.YIELDED],
            arbiter_asked=self._question.asked,
            arbiter_refused=self._question.refused,
        )

    # The secondary.

    def secondary_joined(self, now: float) -> list[Action]:
        """The link is up; what is there may be another secondary, which has nothing."""
        self._is_there = True
        self.is_synchronised = False
        waits = self.state in (PrimaryState.WAITING, PrimaryState.LOST, PrimaryState.CLOSED)
        if waits and self._guest_is_there:
            return self._enter(PrimaryState.UNSYNCHRONISED, "the secondary is there, and not compared yet", now)
        return []

    def comparing(self, now: float) -> list[Action]:
        """What leaves from now on was sent by both: a checkpoint is committed, or nothing has to be copied."""
        self._is_there = True
        if self.state is PrimaryState.YIELDED or (self.state in _PASSING and self._is_chosen):
            return []
        if self.state is PrimaryState.PROTECTED:
            return []
        self._peer_was_live = False
        self._guest_is_there = True
        return self._enter(PrimaryState.PROTECTED, "both replicas are compared", now)

    def secondary_lost(self, why: str, now: float) -> list[Action]:
        """The link is down, or the replicas are no longer in COLO, or the secondary's guest is gone."""
        self._is_there = self._is_protecting = False
        actions: list[Action] = []
        if self.state in (PrimaryState.UNSYNCHRONISED, PrimaryState.PROTECTED):
            actions += self._enter(PrimaryState.LOST, f"the secondary is lost: {why}", now)
        return actions + (self._drained(now) if self._drain_by is not None else [])

    def suspended(self, why: str, now: float) -> list[Action]:
        """The secondary is there, but what it sends cannot be compared until the next checkpoint."""
        if self.state is not PrimaryState.PROTECTED:
            return []
        return self._enter(PrimaryState.UNSYNCHRONISED, f"the replicas have to be synchronised: {why}", now)

    def peer_is_live(self, reason: str, now: float) -> list[Action]:
        """The other side says that it is the service."""
        self._peer_was_live = True
        self._wish = self._drain_by = None
        if self.state is PrimaryState.YIELDED:
            return []
        return self._enter(PrimaryState.YIELDED, f"the other side has gone live: {reason}", now)

    # This side's own guest.

    def guest_lost(self, why: str, now: float) -> list[Action]:
        """There is nothing that could go on alone; the secondary must be told, so that it does."""
        self._guest_is_there = False
        self._wish = self._drain_by = None
        if self.state is PrimaryState.YIELDED or (self.state in _PASSING and self._is_chosen):
            return []
        return self._enter(PrimaryState.CLOSED, f"the primary's guest is gone: {why}", now)

    def guest_found(self, now: float) -> list[Action]:
        """It is there again, perhaps another one."""
        was_there, self._guest_is_there = self._guest_is_there, True
        if was_there or self.state is not PrimaryState.CLOSED:
            return []
        return self._begin("the primary's guest is there again", now)

    # Time, and the arbiter.

    def tick(self, now: float) -> list[Action]:
        """To be called several times a second."""
        if self._drain_by is not None and now >= self._drain_by:
            return self._drained(now)
        if self.state in _HELD and self.state is not PrimaryState.ASKING and now >= self._deadline:
            return self._held_too_long(now)
        if self.state is PrimaryState.CLOSED and self._goes_solo and self._question.is_due(now):
            return self._question.ask(self._why)
        return []

    def arbiter_answered(self, won: bool, now: float) -> list[Action]:
        self._question.answered(won, now)
        if self.state in _PASSING:
            return []
        wish, self._wish = self._wish, None
        waits_for_it = self.state in (PrimaryState.ASKING, PrimaryState.CLOSED) and self._goes_solo
        if wish is None and not waits_for_it:
            return self._give_back("nobody wants to go on alone any more")
        if won:
            reason = _OPERATOR if wish else self._why
            return self._pass(wish or PrimaryState.SOLO, f"{reason}; the arbiter allows it", now, wish is not None)
        refused: list[Action] = [Refused(Claim.SOLO)]
        if self.state is PrimaryState.ASKING:
            refused += self._enter(PrimaryState.CLOSED, f"{self._why}; the arbiter does not allow to go on alone", now)
        return refused

    @property
    def _goes_solo(self) -> bool:
        """By itself."""
        return self.policy.solo and self._guest_is_there and not self._peer_was_live

    def _held_too_long(self, now: float) -> list[Action]:
        reason = f"{self.reason}; held for {self.policy.secondary_timeout:g} s"
        if self.state is PrimaryState.UNSYNCHRONISED:
            reason += ": the replicas are not in COLO, or no checkpoint succeeds"
        if self._peer_was_live:
            reason += "; the other side was live when last heard"
        self._why = reason
        if not self._goes_solo:
            return self._enter(PrimaryState.CLOSED, reason, now)
        if not self._question.exists:
            return self._pass(PrimaryState.SOLO, reason, now, chosen=False)
        return [*self._enter(PrimaryState.ASKING, reason, now), *self._question.ask(reason)]

    # The operator.

    def solo(self, now: float, *, fenced: bool = False) -> list[Action]:
        """Everything passes.  `fenced`: the operator says that the other side is off, and will stay so."""
        self._refuse_if_yielded()
        if self.state is PrimaryState.DRAINED:
            raise OperatorError("everything passes already: it is drained", "`resume` ends that")
        self._drain_by = None
        if fenced:
            self._peer_was_live = False
            before = self._pass(PrimaryState.SOLO, "an operator says that the other side is off", now, chosen=True)
            # For the record: the other side must not win it later.
            return [*before, *self._question.ask(self.reason)]
        self._refuse_if_peer_was_live()
        return self._go_alone(PrimaryState.SOLO, now)

    def drain(self, now: float) -> list[Action]:
        """Everything passes before the daemon is stopped, and if there is a secondary, after one more checkpoint."""
        self._refuse_if_yielded()
        self._refuse_if_peer_was_live()
        if self.state is PrimaryState.DRAINED:
            return []
        if not self._is_there or self.state in (PrimaryState.SOLO, PrimaryState.LIVE):
            return self._go_alone(PrimaryState.DRAINED, now)
        self._drain_by = now + self.policy.secondary_timeout
        return [RequestCheckpoint("drain")]

    def checkpoint_done(self, now: float) -> list[Action]:
        return self._drained(now) if self._drain_by is not None else []

    def resume(self, now: float) -> list[Action]:
        """Back to comparing, and to what is configured if that cannot be."""
        if self.is_deciding:
            self._wish = self._drain_by = None
            return []
        ends = self.state in (PrimaryState.CLOSED, PrimaryState.YIELDED, PrimaryState.DRAINED) or (
            self.state is PrimaryState.SOLO and self._is_chosen
        )
        if not ends:
            raise OperatorError(
                f"there is nothing to resume from: the state is {self.state.value}",
                "`protect` asks for the checkpoint with which comparison begins",
            )
        requests: list[Action] = [RequestCheckpoint("resume")] if self._is_there else []
        return self._begin("an operator resumed", now) + requests

    def protect(self, _now: float) -> list[Action]:
        """Begin to compare, with the secondary that is there."""
        self._refuse_if_yielded()
        if not self._is_there:
            raise OperatorError(f"no secondary is there ({self.reason})", "start the other host's daemon and guest")
        self._is_chosen = False
        self._wish = self._drain_by = None
        self._is_protecting = True
        return [] if self.state is PrimaryState.PROTECTED else [RequestCheckpoint("protect")]

    def _refuse_if_yielded(self) -> None:
        if self.state is PrimaryState.YIELDED:
            raise OperatorError(self.reason, "if it has been stopped since, `resume` first")

    def _refuse_if_peer_was_live(self) -> None:
        if self._peer_was_live:
            raise OperatorError(
                "the other side was live when last heard", "make sure that it is off, then `solo --fenced`"
            )

    def _drained(self, now: float) -> list[Action]:
        self._drain_by = None
        return self._go_alone(PrimaryState.DRAINED, now)

    def _go_alone(self, state: PrimaryState, now: float) -> list[Action]:
        """Because an operator wants it, if the arbiter allows it."""
        if self.state in _PASSING or not self._question.exists:
            return self._pass(state, _OPERATOR, now, chosen=True)
        self._wish = state
        return self._question.ask(_OPERATOR)

    # States.

    def _begin(self, reason: str, now: float) -> list[Action]:
        return self._enter(PrimaryState.UNSYNCHRONISED if self._is_there else PrimaryState.WAITING, reason, now)

    def _pass(self, state: PrimaryState, reason: str, now: float, chosen: bool) -> list[Action]:
        self._is_chosen = chosen
        self._wish = None
        return self._enter(state, reason, now)

    def _enter(self, state: PrimaryState, reason: str, now: float) -> list[Action]:
        before, self.state, self.reason = self.state, state, reason
        self._is_protecting = False
        if before is not state:
            self.since = now
            self._entered[state] += 1
        if state in _HELD and before not in _HELD:
            self._deadline = now + self.policy.secondary_timeout
        entered: list[Action] = [Entered(state.value, reason)]
        if state is PrimaryState.PROTECTED:
            self.is_synchronised = True
            return entered + self._give_back(reason)
        self.is_synchronised &= state in _STILL
        return entered

    def _give_back(self, reason: str) -> list[Action]:
        # Until the secondary has all that has passed, it must not win.
        return self._question.give_back(reason) if self.is_synchronised else []
