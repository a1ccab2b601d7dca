"""The secondary's side: is there a primary, and may this side become the service if there is none?

    state              event                       next                 told
    -----------------  --------------------------  -------------------  -----------------
    ALONE, ASKING      primary_joined              UNSYNCHRONISED       GiveBack (1)
    UNSYNCHRONISED     synchronised                STANDBY              GiveBack
    ALONE, ASKING      synchronised                STANDBY              GiveBack (1)
    STANDBY            synchronised(False)         UNSYNCHRONISED       -
    UNSYNCHRONISED,    primary_lost                ALONE                -
    STANDBY
    ALONE              tick, `primary_timeout`     ASKING (2)           AskArbiter
                       after the link's loss
    ALONE              failover                    ASKING               AskArbiter
    ASKING             arbiter_answered            LIVE, if won,        GoLive
                                                   or ALONE
    UNSYNCHRONISED,    guest_lost                  UNSYNCHRONISED       -
    STANDBY
    ALONE, ASKING      guest_lost                  ALONE                GiveBack (1)
    any but LIVE       guest_found                 (same)               -
    any but LIVE       failover with `fenced`      LIVE                 GoLive, AskArbiter (3)

(1) Of what is won after that.
(2) Where the policy says so, and clients would lose nothing.
(3) For the record: the other side must not win it later.

1. LIVE is final, and needs an arbiter that was won or an operator who says that the primary is off.
2. Clients may have seen what this side does not know of, and an operator must accept that, if the replicas were not
   synchronised, or the primary had said that it goes on alone, or it may have done so since.  Where there is an arbiter
   its answer tells the last of these, and `fenced` does not wait for it; else it may have from `secondary_timeout` on
   after it last heard this side.
3. While the primary is connected only an operator's `fenced` counts.
4. Without a guest that answers nothing goes live, whoever says so, and nobody is asked.  One that answers again may be
   another one, and so knows nothing until the replicas are synchronised anew.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from colo_bridge.errors import OperatorError
from colo_bridge.membership.actions import Action, Claim, Entered, GoLive, Refused
from colo_bridge.membership.question import Question


class SecondaryState(enum.Enum):
    ALONE = "alone"
    UNSYNCHRONISED = "unsynchronised"
    STANDBY = "standby"
    """Ready to take over."""
    ASKING = "asking"
    """The arbiter."""
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class SecondaryPolicy:
    primary_timeout: float
    """Seconds after the loss of the primary when the arbiter is asked, if that is `automatic`."""
    automatic: bool
    arbiter: bool
    """Somebody else decides between the two sides."""
    retry: float = 5.0
    """Seconds between an answer of the arbiter and the next question."""


@dataclass(frozen=True, slots=True)
class SecondaryCounters:
    primary_losses: int
    """Times that a primary was lost."""
    failovers_refused: int
    """To operators, for a reason that they were told."""
    arbiter_asked: int
    arbiter_refused: int
    """Answers that were no, or no answer in time."""


class SecondaryMembership:
    """See the table above."""

    def __init__(self, policy: SecondaryPolicy, now: float, *, live: bool = False, guest_is_there: bool = True) -> None:
        """`live`: as it was when the daemon ended; `guest_is_there`: else it has not been heard of yet."""
        self.policy = policy
        self.state = SecondaryState.LIVE if live else SecondaryState.ALONE
        self.since = now
        self.reason = "it had gone live before the daemon began" if live else "no primary has been heard yet"
        self._question = Question(Claim.FAILOVER, policy.arbiter, policy.retry)
        self._losses = self._failovers_refused = 0
        self._guest_is_there, self._guest_was_lost = guest_is_there, False
        self._is_connected = self._is_synchronised = False
        self.alone_heard = 0
        """By which number the primary has said that it goes on alone, or is about to; 0: it does not."""
        self._secondary_timeout = self._heard = 0.0
        self._lost_at: float | None = None
        self._loss = self._why = ""

    @property
    def counters(self) -> SecondaryCounters:
        return SecondaryCounters(self._losses, self._failovers_refused, self._question.asked, self._question.refused)

    def risks(self, now: float, *, fenced: bool = True) -> list[str]:
        """Why clients may have seen what this side does not know of; `fenced`: the arbiter is not asked."""
        risks = []
        if not self._is_synchronised:
            risks.append("the replicas were not synchronised")
        if self.alone_heard:
            risks.append("the primary had said that it goes on alone")
        if not fenced or not self._is_synchronised:
            return risks
        unheard = now - self._heard
        if self._question.exists:
            risks.append("only the arbiter, which is not waited for, knows whether the primary has gone on alone")
        elif unheard >= self._secondary_timeout:
            risks.append(
                f"the primary may have gone on alone: it holds packets for {self._secondary_timeout:g} s,"
                f" and heard this side {unheard:.1f} s ago"
            )
        return risks

    # The primary.

    def primary_joined(self, secondary_timeout: float, now: float) -> list[Action]:
        """The link is up; the primary announced for how long it holds packets once it is lost."""
        self._secondary_timeout = secondary_timeout
        self._heard = now
        self._is_connected = True
        self._is_synchronised = False
        self.alone_heard = 0
        if self.state is SecondaryState.LIVE:
            return []
        return self._enter(
            SecondaryState.UNSYNCHRONISED, "the primary is there, and the replicas are not synchronised yet", now
        )

    def primary_heard(self, at: float, *, guest_is_gone: bool = False) -> None:
        """What this side sent at `at`, by its own clock, the primary has heard, and says so while it is protected.

        From that time on, at the earliest, it holds packets for the secondary timeout.
        `guest_is_gone`: it says so itself, and does not go on alone as long as that is so.
        """
        if guest_is_gone or self.state is SecondaryState.STANDBY:
            self._heard = max(self._heard, at)

    def synchronised(self, is_so: bool, now: float) -> list[Action]:
        """Whether what leaves the primary is compared with what this side sends: by the primary's own word.

        Once it is lost, what counts is how it was then, until the replicas are synchronised anew.
        """
        if self.state is SecondaryState.LIVE:
            return []
        if is_so and self._guest_is_there and self.state is not SecondaryState.STANDBY:
            self._is_synchronised = True
            entered = self._enter(SecondaryState.STANDBY, "ready to take over", now)
            return [*entered, *self._question.give_back(self.reason)]
        if not is_so and self.state is SecondaryState.STANDBY:
            self._is_synchronised = False
            return self._enter(SecondaryState.UNSYNCHRONISED, "the replicas are no longer synchronised", now)
        return []

    def primary_is_solo(self, number: int) -> None:
        """What the primary says of itself; it waits to be told that this was heard."""
        self.alone_heard = number

    def primary_lost(self, why: str, now: float) -> list[Action]:
        """The link is down, or the primary's guest is gone."""
        if self._is_connected:
            self._is_connected = False
            self._lost_at = now
        if self.state not in (SecondaryState.UNSYNCHRONISED, SecondaryState.STANDBY):
            return []
        self._losses += 1
        self._loss = f"the primary is lost: {why}"
        return self._enter(SecondaryState.ALONE, self._loss, now)

    # This side's own guest.

    def guest_lost(self, why: str, now: float) -> list[Action]:
        """There is nothing that could go live."""
        self._guest_is_there = self._is_synchronised = False
        self._guest_was_lost = True
        if self.state is SecondaryState.LIVE:
            return []
        follows = self.state in (SecondaryState.UNSYNCHRONISED, SecondaryState.STANDBY)
        state = SecondaryState.UNSYNCHRONISED if follows else SecondaryState.ALONE
        return self._enter(state, f"this side's guest is gone: {why}", now)

    def guest_found(self, now: float) -> list[Action]:
        """It is there, or there again and perhaps another one."""
        is_back = self._guest_was_lost and not self._guest_is_there
        self._guest_is_there = True
        if not is_back or self.state is SecondaryState.LIVE:
            return []
        return self._enter(
            self.state, "this side's guest is there again, and the replicas are not synchronised yet", now
        )

    # Time, and the arbiter.

    def tick(self, now: float) -> list[Action]:
        """To be called several times a second."""
        waits = self.state is SecondaryState.ALONE and self._guest_is_there and not self._is_connected
        if not waits or not self.policy.automatic or self._lost_at is None:
            return []
        is_due = now >= self._lost_at + self.policy.primary_timeout and self._question.is_due(now)
        return self._ask(self._loss, now) if is_due and not self.risks(now, fenced=False) else []

    def arbiter_answered(self, won: bool, now: float) -> list[Action]:
        self._question.answered(won, now)
        if self.state is SecondaryState.LIVE:
            return []
        if self.state is not SecondaryState.ASKING:
            return self._question.give_back("nobody wants to go live any more")
        if won:
            return self._go_live(f"{self._why}; the arbiter allows it", now)
        refused = self._enter(SecondaryState.ALONE, f"{self._why}; the arbiter does not allow to go live", now)
        return [Refused(Claim.FAILOVER), *refused]

    def _ask(self, reason: str, now: float) -> list[Action]:
        self._why = reason
        return [*self._enter(SecondaryState.ASKING, reason, now), *self._question.ask(reason)]

    # The operator.

    def failover(self, *, fenced: bool, accept_loss: bool, now: float) -> list[Action]:
        """Go live; `fenced`: the operator says that the primary is off, and will stay so.  Raises OperatorError."""
        if self.state is SecondaryState.LIVE:
            return []
        try:
            self._refuse(fenced, accept_loss, now)
        except OperatorError:
            self._failovers_refused += 1
            raise
        if not fenced:
            return self._ask("an operator said so", now)
        return [*self._go_live("an operator says that the primary is off", now), *self._question.ask(self.reason)]

    def _refuse(self, fenced: bool, accept_loss: bool, now: float) -> None:
        if not self._guest_is_there:
            raise OperatorError(
                "this side's QEMU does not answer: there is no guest that could go live",
                "see that it runs, and that nobody else uses its socket; a guest that is started anew knows nothing",
            )
        if self._is_connected and not fenced:
            raise OperatorError(
                "the primary is connected", "if it is to be off all the same, see to that and then give --fenced"
            )
        if not fenced and not self._question.exists:
            raise OperatorError(
                "no arbiter is configured that could say whether the primary is off", "see to that, then give --fenced"
            )
        risks = self.risks(now, fenced=fenced)
        if risks and not accept_loss:
            raise OperatorError(
                f"clients may have seen what this side does not know of: {'; '.join(risks)}",
                "--accept-loss goes on all the same",
            )

    # States.

    def _go_live(self, reason: str, now: float) -> list[Action]:
        return [*self._enter(SecondaryState.LIVE, reason, now), GoLive(reason)]

    def _enter(self, state: SecondaryState, reason: str, now: float) -> list[Action]:
        if state is not self.state:
            self.since = now
        self.state, self.reason = state, reason
        return [Entered(state.value, reason)]
