"""The primary's side: is there a secondary, and what may leave if there is none?

    state                  event                       next                     told
    ---------------------  --------------------------  -----------------------  --------------------
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
    any but YIELDED        solo                        SOLO (3)                 AskArbiter, Announce
    any but YIELDED        drain                       DRAINED (3), once a      RequestCheckpoint,
                                                       checkpoint is done (4)   and as for solo
    SOLO, DRAINED,         resume                      UNSYNCHRONISED,          RequestCheckpoint
    CLOSED, YIELDED                                    WAITING
    any but YIELDED        protect                     (same)                   RequestCheckpoint

(1) What an operator chose, SOLO or DRAINED, ends only by `protect` (and the comparison that follows) or `resume`; LIVE
    only by `protect`.
(2) SOLO only where the policy says so, and not where the other side has been live since the replicas were last
    protected: then an operator has to say that it is off, by `solo` with `fenced`.
(3) With an arbiter: once that is won.  Without one: once the secondary knows, which has to be connected.  Until then,
    and if that does not come, the state stays.  At once: `solo` with `fenced`, and where all passes already.
(4) Or is not done within `secondary_timeout`, or cannot be any more; at once where none can be from the beginning.

1. Packets are held for `secondary_timeout` at most, counted from when they began to be held.  Only PROTECTED, or a
   state in which all passes or nothing does, ends that: a link that comes and goes does not.
2. With an arbiter, nothing passes uncompared before it was won, unless an operator says that the other side is off.
   What was won is kept until the replicas are compared again: before, the secondary lacks what has left.
   Without an arbiter nothing passes of which the secondary does not know, unless after `secondary_timeout`, with which
   it reckons, or an operator says that it is off.
3. Once the other side has gone live, nothing leaves until an operator says `resume`.
"""

from __future__ import annotations

from colo_bridge.errors import OperatorError
from colo_bridge.membership.actions import Action, Announce, Claim, Entered, Refused, RequestCheckpoint, Traffic
from colo_bridge.membership.primary_state import (
    HELD,
    PASSING,
    RESUMABLE,
    STILL,
    PrimaryCounters,
    PrimaryPolicy,
    PrimaryState,
)
from colo_bridge.membership.question import Question
from colo_bridge.membership.wish import Stage, Wish, Wishes

_OPERATOR, _RESUMED = "an operator said so", "an operator resumed"


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
        self._is_there = self._is_connected = False
        self._guest_is_there = True
        self._peer_was_live = yielded
        self.is_synchronised = False
        """Whether the secondary has all that has left; it must be told whenever that changes."""
        self._is_chosen = live
        self._wishes = Wishes[PrimaryState]()
        self._announced = 1
        self._why = ""

    @property
    def traffic(self) -> Traffic:
        if self.state in PASSING:
            return Traffic.PASS
        blocked = self.state in (PrimaryState.CLOSED, PrimaryState.YIELDED)
        return Traffic.BLOCK if blocked else Traffic.COMPARE

    @property
    def yielded(self) -> bool:
        """To be remembered when the daemon ends: the other side may be live."""
        return self._peer_was_live

    @property
    def alone(self) -> int:
        """What the secondary must be told: a number while everything passes or is about to, 0 while it does not."""
        is_about_to = self._wishes.waiting_for(Stage.LEAVE) and not self._question.exists
        return self._announced if is_about_to or self.state in PASSING else 0

    @property
    def wish(self) -> Wish[PrimaryState] | None:
        """What an operator asked for last, and what has come of it."""
        return self._wishes.last

    @property
    def wants_checkpoint(self) -> bool:
        """Whether one that was asked for is to be tried until it is done: somebody waits for that."""
        if self.state in PASSING:
            return self._wishes.waiting_for(Stage.COMPARISON) is not None
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
        self._is_there = self._is_connected = True
        self.is_synchronised = False
        waits = self.state in (PrimaryState.WAITING, PrimaryState.LOST, PrimaryState.CLOSED)
        if waits and self._guest_is_there:
            return self._enter(PrimaryState.UNSYNCHRONISED, "the secondary is there, and not compared yet", now)
        return []

    def comparing(self, now: float) -> list[Action]:
        """What leaves from now on was sent by both: a checkpoint is committed, or nothing has to be copied."""
        self._is_there = True
        if self.state is PrimaryState.YIELDED or (self.state in PASSING and self._is_chosen):
            return []
        if self.state is PrimaryState.PROTECTED:
            return []
        self._peer_was_live = False
        self._guest_is_there = True
        return self._enter(PrimaryState.PROTECTED, "both replicas are compared", now)

    def secondary_lost(self, why: str, now: float, *, link_is_up: bool = False) -> list[Action]:
        """The link is down; or it is up, and the replicas are no longer in COLO, or the secondary's guest is gone."""
        self._is_there = False
        self._is_connected &= link_is_up
        lost = f"the secondary is lost: {why}"
        actions: list[Action] = []
        if self.state in (PrimaryState.UNSYNCHRONISED, PrimaryState.PROTECTED):
            actions += self._enter(PrimaryState.LOST, lost, now)
        if self._wishes.waiting_for(Stage.COMPARISON) or not (self._is_connected or self._question.exists):
            self._wishes.drop(lost)
        return actions + self._end_of_drain(now, f"no checkpoint, because {lost}")

    def secondary_knows(self, number: int, now: float) -> list[Action]:
        """What the secondary has heard last of `alone`."""
        wish = self._wishes.waiting_for(Stage.LEAVE)
        if wish is None or self._question.exists or number != self._announced:
            return []
        return self._pass(wish, _OPERATOR, now)

    def suspended(self, why: str, now: float) -> list[Action]:
        """The secondary is there, but what it sends cannot be compared until the next checkpoint."""
        if self.state is not PrimaryState.PROTECTED:
            return []
        return self._enter(PrimaryState.UNSYNCHRONISED, f"the replicas have to be synchronised: {why}", now)

    def peer_is_live(self, reason: str, now: float) -> list[Action]:
        """The other side says that it is the service."""
        self._peer_was_live = True
        self._wishes.drop("the other side has gone live")
        if self.state is PrimaryState.YIELDED:
            return []
        return self._enter(PrimaryState.YIELDED, f"the other side has gone live: {reason}", now)

    # This side's own guest.

    def guest_lost(self, why: str, now: float) -> list[Action]:
        """There is nothing that could go on alone; the secondary must be told, so that it does."""
        self._guest_is_there = False
        self._wishes.drop("the primary's guest is gone")
        if self.state is PrimaryState.YIELDED or (self.state in PASSING and self._is_chosen):
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
        if actions := self._waited_too_long(now):
            return actions
        if self.state in HELD and self.state is not PrimaryState.ASKING and now >= self._deadline:
            return self._held_too_long(now)
        if self.state is PrimaryState.CLOSED and self._goes_solo and self._question.is_due(now):
            return self._question.ask(self._why)
        return []

    def arbiter_answered(self, won: bool, now: float) -> list[Action]:
        self._question.answered(won, now)
        if self.state in PASSING:
            return []
        wish = self._wishes.waiting_for(Stage.LEAVE)
        waits_for_it = self.state in (PrimaryState.ASKING, PrimaryState.CLOSED) and self._goes_solo
        if wish is None and not waits_for_it:
            return self._give_back("nobody wants to go on alone any more")
        if won:
            return self._pass(wish, f"{_OPERATOR if wish else self._why}; the arbiter allows it", now)
        if wish is not None:
            wish.fail("the arbiter does not allow it")
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
            return self._pass(None, reason, now)
        return [*self._enter(PrimaryState.ASKING, reason, now), *self._question.ask(reason)]

    # The operator.

    def solo(self, now: float, *, fenced: bool = False) -> list[Action]:
        """Everything passes.  `fenced`: the operator says that the other side is off, and will stay so."""
        self._refuse_if_yielded()
        if self.state is PrimaryState.DRAINED:
            raise OperatorError("everything passes already: it is drained", "`resume` ends that")
        if not fenced:
            self._refuse_if_peer_was_live()
            self._refuse_if_nobody_knows()
            return self._go_alone(self._wishes.begin(PrimaryState.SOLO, Stage.LEAVE, now), now)
        self._peer_was_live = False
        wish = self._wishes.begin(PrimaryState.SOLO, Stage.LEAVE, now)
        before = self._pass(wish, "an operator says that the other side is off", now)
        # For the record: the other side must not win it later.
        return [*before, *self._question.ask(self.reason)]

    def drain(self, now: float) -> list[Action]:
        """Everything passes before the daemon is stopped: after one more checkpoint, if there can be one.

        It is not waited for longer than packets are held for.
        """
        self._refuse_if_yielded()
        self._refuse_if_peer_was_live()
        self._refuse_if_nobody_knows()
        wish = self._wishes.begin(PrimaryState.DRAINED, Stage.LEAVE, now)
        if self.state is PrimaryState.DRAINED:
            wish.reach()
            return []
        if not (self._is_there and self.policy.checkpoints) or self.state in PASSING:
            return self._go_alone(wish, now)
        wish.stage, wish.by = Stage.CHECKPOINT, now + self.policy.secondary_timeout
        return [RequestCheckpoint("drain")]

    def checkpoint_done(self, now: float) -> list[Action]:
        return self._end_of_drain(now)

    def resume(self, now: float) -> list[Action]:
        """Back to comparing, and to what is configured if that cannot be."""
        if self._wishes.waiting_for(Stage.CHECKPOINT, Stage.LEAVE):
            self._wishes.clear(_RESUMED)
            return []
        if self.state not in RESUMABLE:
            raise OperatorError(
                f"there is nothing to resume from: the state is {self.state.value}",
                "`protect` asks for the checkpoint with which comparison begins",
            )
        self._wishes.clear(_RESUMED)
        requests: list[Action] = [RequestCheckpoint("resume")] if self._is_there else []
        return self._begin(_RESUMED, now) + requests

    def protect(self, now: float) -> list[Action]:
        """Begin to compare, with the secondary that is there."""
        self._refuse_if_yielded()
        if not self._is_there:
            raise OperatorError(f"no secondary is there ({self.reason})", "start the other host's daemon and guest")
        self._is_chosen = False
        wish = self._wishes.begin(PrimaryState.PROTECTED, Stage.COMPARISON, now + self.policy.patience)
        if self.state is PrimaryState.PROTECTED:
            wish.reach()
            return []
        return [RequestCheckpoint("protect")]

    def _refuse_if_yielded(self) -> None:
        if self.state is PrimaryState.YIELDED:
            raise OperatorError(self.reason, "if it has been stopped since, `resume` first")

    def _refuse_if_peer_was_live(self) -> None:
        if self._peer_was_live:
            raise OperatorError(
                "the other side was live when last heard", "make sure that it is off, then `solo --fenced`"
            )

    def _refuse_if_nobody_knows(self) -> None:
        if not (self._is_connected or self._question.exists or self.state in PASSING):
            raise OperatorError(
                "the secondary is not connected, and no arbiter is configured that could keep it from going live",
                "make sure that it is off, then `solo --fenced`",
            )

    def _end_of_drain(self, now: float, shortfall: str = "") -> list[Action]:
        """Its checkpoint is done, or why there is none."""
        wish = self._wishes.waiting_for(Stage.CHECKPOINT)
        if wish is None:
            return []
        wish.shortfall = shortfall
        return self._go_alone(wish, now)

    def _go_alone(self, wish: Wish[PrimaryState], now: float) -> list[Action]:
        """Because an operator wants it: if the arbiter allows it, or without one once the secondary knows."""
        if self.state in PASSING:
            return self._pass(wish, _OPERATOR, now)
        wish.stage, wish.by = Stage.LEAVE, now + self.policy.secondary_timeout
        if self._question.exists:
            return self._question.ask(_OPERATOR)
        self._announced += 1
        return [Announce()]

    def _waited_too_long(self, now: float) -> list[Action]:
        wish = self.wish
        if wish is None or now < wish.by:
            return []
        if wish.stage is Stage.LEAVE and not self._question.exists:
            wish.fail(f"the secondary has not answered for {self.policy.secondary_timeout:g} s")
        if wish.stage is Stage.COMPARISON:
            wish.fail(f"the replicas are not compared after {self.policy.patience:g} s")
        return self._end_of_drain(now, f"no checkpoint within {self.policy.secondary_timeout:g} s")

    # States.

    def _begin(self, reason: str, now: float) -> list[Action]:
        return self._enter(PrimaryState.UNSYNCHRONISED if self._is_there else PrimaryState.WAITING, reason, now)

    def _pass(self, wish: Wish[PrimaryState] | None, reason: str, now: float) -> list[Action]:
        """Everything, as an operator wishes or by itself."""
        self._is_chosen = wish is not None
        if wish is None:
            return self._enter(PrimaryState.SOLO, reason, now)
        wish.reach()
        missed = f"; {wish.shortfall}, so that what was held leaves uncompared" if wish.shortfall else ""
        return self._enter(wish.goal, reason + missed, now)

    def _enter(self, state: PrimaryState, reason: str, now: float) -> list[Action]:
        before, self.state, self.reason = self.state, state, reason
        if before is not state:
            self.since = now
            self._entered[state] += 1
        if state in HELD and before not in HELD:
            self._deadline = now + self.policy.secondary_timeout
        entered: list[Action] = [Entered(state.value, reason)]
        if state is PrimaryState.PROTECTED:
            self.is_synchronised = True
            if wish := self._wishes.waiting_for(Stage.COMPARISON):
                wish.reach()
            return entered + self._give_back(reason)
        self.is_synchronised &= state in STILL
        return entered

    def _give_back(self, reason: str) -> list[Action]:
        # Until the secondary has all that has passed, it must not win.
        return self._question.give_back(reason) if self.is_synchronised else []
