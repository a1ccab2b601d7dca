"""The primary's membership: every row of its table, and what an operator may say when."""

from dataclasses import replace

import pytest

from colo_bridge.errors import OperatorError
from colo_bridge.membership.actions import (
    Announce,
    AskArbiter,
    Claim,
    Entered,
    GiveBack,
    Refused,
    RequestCheckpoint,
    Traffic,
)
from colo_bridge.membership.primary import PrimaryMembership
from colo_bridge.membership.primary_state import PrimaryPolicy, PrimaryState

ALONE = PrimaryPolicy(secondary_timeout=5.0, solo=True, arbiter=False)
CLOSING = PrimaryPolicy(secondary_timeout=5.0, solo=False, arbiter=False)
ARBITRATED = PrimaryPolicy(secondary_timeout=5.0, solo=True, arbiter=True, retry=3.0)
CLOSING_ARBITRATED = PrimaryPolicy(secondary_timeout=5.0, solo=False, arbiter=True)

JOIN = ("secondary_joined",)
COMPARE = ("comparing",)
LOSE = ("secondary_lost", "silence")
WAIT = ("wait", 5.0)
WIN = ("arbiter_answered", True)
LOSE_ARBITER = ("arbiter_answered", False)
GUEST_LOST = ("guest_lost", "killed")
GUEST_FOUND = ("guest_found",)
LIVE = ("peer_is_live", "an operator")
COLO_ENDED = ("secondary_lost", "COLO has ended", {"link_is_up": True})
KNOW = ("knows",)
"""The secondary says that it has heard what it was told last."""
CHECKPOINT = ("checkpoint_done",)
DONE = (True, "")

WAYS = {
    PrimaryState.WAITING: [],
    PrimaryState.UNSYNCHRONISED: [JOIN],
    PrimaryState.PROTECTED: [JOIN, COMPARE],
    PrimaryState.LOST: [JOIN, COMPARE, LOSE],
    PrimaryState.ASKING: [JOIN, COMPARE, LOSE, WAIT],
    PrimaryState.SOLO: [JOIN, COMPARE, LOSE, WAIT, WIN],
    PrimaryState.LIVE: [],
    PrimaryState.CLOSED: [JOIN, COMPARE, LOSE, WAIT, LOSE_ARBITER],
    PrimaryState.DRAINED: [("drain",), WIN],
    PrimaryState.YIELDED: [JOIN, LIVE],
}


def all_but(*states: PrimaryState) -> list[PrimaryState]:
    return [state for state in PrimaryState if state not in states]


class Side:
    """A primary's membership with a clock of its own; keeps what the last event led to."""

    def __init__(self, policy=ALONE, *steps, **options):
        self.membership = PrimaryMembership(policy, 0.0, **options)
        self.now = 0.0
        self.actions = []
        self.do(*steps)

    def do(self, *steps):
        for name, *arguments in steps:
            if name == "wait":
                self.now += arguments[0]
                self.actions = self.membership.tick(self.now)
            elif name == "knows":
                self.actions = self.membership.secondary_knows(self.membership.alone, self.now)
            else:
                keywords = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
                self.actions = getattr(self.membership, name)(*arguments, self.now, **keywords)
        return self

    @property
    def state(self):
        return self.membership.state

    @property
    def outcome(self):
        """Whether what an operator asked for last is done, and why not; None: that is not decided yet."""
        wish = self.membership.wish
        if wish is None:
            return DONE
        return None if wish.is_open else (wish.is_done, wish.problem)

    @property
    def told(self):
        """Without what is for the log."""
        return [action for action in self.actions if not isinstance(action, Entered)]


def side_in(state: PrimaryState) -> Side:
    side = Side(ARBITRATED, *WAYS[state], live=state is PrimaryState.LIVE)
    assert side.state is state
    return side


# The secondary.


@pytest.mark.parametrize("state", [PrimaryState.WAITING, PrimaryState.LOST, PrimaryState.CLOSED])
def test_a_secondary_that_joins_is_not_compared_yet(state):
    side = side_in(state).do(JOIN)
    assert side.state is PrimaryState.UNSYNCHRONISED
    assert side.told == []


@pytest.mark.parametrize(
    "state",
    [
        PrimaryState.UNSYNCHRONISED,
        PrimaryState.PROTECTED,
        PrimaryState.ASKING,
        PrimaryState.SOLO,
        PrimaryState.DRAINED,
        PrimaryState.YIELDED,
    ],
)
def test_a_secondary_that_joins_does_not_end(state):
    assert side_in(state).do(JOIN).state is state


@pytest.mark.parametrize("state", all_but(PrimaryState.YIELDED, PrimaryState.DRAINED, PrimaryState.LIVE))
def test_comparison_protects_from(state):
    assert side_in(state).do(COMPARE).state is PrimaryState.PROTECTED


@pytest.mark.parametrize("state", [PrimaryState.DRAINED, PrimaryState.YIELDED, PrimaryState.LIVE])
def test_comparison_does_not_end(state):
    side = side_in(state).do(JOIN, COMPARE)
    assert (side.state, side.actions) == (state, [])


def test_a_live_guest_is_compared_once_an_operator_wants_it():
    side = side_in(PrimaryState.LIVE).do(JOIN, ("protect",))
    assert side.membership.traffic is Traffic.PASS
    assert side.told == [RequestCheckpoint("protect")]
    assert side.do(COMPARE, LOSE, WAIT, WIN).state is PrimaryState.SOLO


def test_what_is_lost_is_held_for():
    side = Side(ALONE, JOIN, COMPARE, ("wait", 10.0), LOSE)
    assert side.state is PrimaryState.LOST
    assert side.membership.reason == "the secondary is lost: silence"
    assert side.membership.since == 10.0
    assert side.do(("wait", 4.9)).state is PrimaryState.LOST
    assert side.membership.traffic is Traffic.COMPARE


@pytest.mark.parametrize("state", all_but(PrimaryState.UNSYNCHRONISED, PrimaryState.PROTECTED))
def test_a_loss_changes_nothing_in(state):
    assert side_in(state).do(LOSE).state is state


# Held for too long.


@pytest.mark.parametrize("ways", [[], [JOIN], [JOIN, LOSE]])
def test_what_was_held_too_long_since_the_start_passes(ways):
    side = Side(ALONE, ("wait", 3.0), *ways, ("wait", 1.9))
    assert side.membership.traffic is Traffic.COMPARE
    assert side.do(("wait", 0.1)).state is PrimaryState.SOLO
    assert side.membership.traffic is Traffic.PASS


def test_what_was_held_too_long_is_dropped_where_that_is_configured():
    side = Side(CLOSING, JOIN, COMPARE, LOSE, WAIT)
    assert side.state is PrimaryState.CLOSED
    assert side.membership.traffic is Traffic.BLOCK
    assert side.membership.reason == "the secondary is lost: silence; held for 5 s"


def test_a_link_that_comes_and_goes_does_not_hold_for_longer():
    side = Side(ALONE, JOIN, COMPARE, LOSE)
    for _ in range(4):
        side.do(("wait", 0.6), JOIN, ("wait", 0.6), LOSE)
        assert side.membership.traffic is Traffic.COMPARE
    assert side.do(("wait", 0.2)).state is PrimaryState.SOLO


def test_once_protected_again_it_holds_for_the_whole_time():
    side = Side(ALONE, JOIN, COMPARE, LOSE, ("wait", 4.0), JOIN, COMPARE, LOSE, ("wait", 4.9))
    assert side.state is PrimaryState.LOST


def test_the_reason_tells_that_no_checkpoint_made_the_replicas_equal():
    side = Side(CLOSING, JOIN, WAIT)
    assert "not in COLO" in side.membership.reason


@pytest.mark.parametrize("state", all_but(PrimaryState.WAITING, PrimaryState.CLOSED))
def test_nothing_is_due_too_early_in(state):
    side = side_in(state)
    before = side.state
    assert side.do(("wait", 0.0)).state is before
    assert side.actions == []


# The arbiter.


def test_the_arbiter_is_asked_before_anything_passes():
    side = Side(ARBITRATED, JOIN, COMPARE, LOSE, WAIT)
    assert side.state is PrimaryState.ASKING
    assert side.told == [AskArbiter(Claim.SOLO, "the secondary is lost: silence; held for 5 s")]
    assert side.membership.traffic is Traffic.COMPARE
    assert side.do(("wait", 60.0)).told == []
    assert side.do(WIN).membership.traffic is Traffic.PASS


def test_what_the_arbiter_refuses_stays_closed_and_is_asked_for_again():
    side = side_in(PrimaryState.ASKING).do(LOSE_ARBITER)
    assert side.state is PrimaryState.CLOSED
    assert side.told == [Refused(Claim.SOLO)]
    assert side.do(("wait", 2.9)).told == []
    (question,) = side.do(("wait", 0.1)).told
    assert isinstance(question, AskArbiter)
    assert side.do(("wait", 9.0)).told == []
    assert side.do(LOSE_ARBITER).state is PrimaryState.CLOSED
    assert side.do(("wait", 3.0), WIN).state is PrimaryState.SOLO


def test_a_side_that_is_to_be_closed_asks_nobody():
    side = Side(CLOSING_ARBITRATED, JOIN, COMPARE, LOSE, WAIT)
    assert (side.state, side.told) == (PrimaryState.CLOSED, [])
    assert side.do(("wait", 60.0)).told == []


def test_what_was_won_is_given_back_when_the_replicas_are_protected_again():
    (given,) = side_in(PrimaryState.SOLO).do(JOIN, COMPARE).told
    assert isinstance(given, GiveBack)


def test_a_new_daemon_gives_back_what_the_one_before_may_have_won():
    (given,) = Side(ARBITRATED, JOIN, COMPARE).told
    assert isinstance(given, GiveBack)


def test_without_an_arbiter_nothing_is_given_back():
    assert Side(ALONE, WAIT, JOIN, COMPARE).told == []


@pytest.mark.parametrize("answer", [WIN, LOSE_ARBITER])
def test_an_answer_that_comes_too_late_is_given_back(answer):
    side = side_in(PrimaryState.ASKING).do(JOIN, COMPARE)
    assert (side.state, side.told) == (PrimaryState.PROTECTED, [])
    (given,) = side.do(answer).told
    assert isinstance(given, GiveBack)
    assert side.state is PrimaryState.PROTECTED


def test_an_answer_that_is_still_due_serves_the_next_question():
    side = side_in(PrimaryState.ASKING).do(JOIN, COMPARE, LOSE, WAIT)
    assert (side.state, side.told) == (PrimaryState.ASKING, [])
    assert side.do(WIN).state is PrimaryState.SOLO
    assert side.told == []


# The other side is live.


@pytest.mark.parametrize("state", list(PrimaryState))
def test_nothing_leaves_once_the_other_side_is_live(state):
    side = side_in(state).do(LIVE)
    assert side.state is PrimaryState.YIELDED
    assert side.membership.traffic is Traffic.BLOCK
    assert side.membership.yielded
    for step in (JOIN, COMPARE, LOSE, WAIT, WIN, ("checkpoint_done",)):
        assert side.do(step).state is PrimaryState.YIELDED


def test_who_had_yielded_has_yielded_when_it_starts_again():
    side = Side(ALONE, yielded=True)
    assert side.do(WAIT, JOIN, COMPARE).membership.traffic is Traffic.BLOCK


@pytest.mark.parametrize("verb", ["solo", "drain", "protect"])
def test_who_has_yielded_must_be_resumed_first(verb):
    with pytest.raises(OperatorError, match="`resume` first"):
        side_in(PrimaryState.YIELDED).do((verb,))


@pytest.mark.parametrize("policy", [ALONE, ARBITRATED])
def test_who_had_yielded_never_goes_solo_by_itself(policy):
    side = Side(policy, JOIN, LIVE, LOSE, ("resume",))
    assert side.state is PrimaryState.WAITING
    assert side.do(WAIT).state is PrimaryState.CLOSED
    assert "live" in side.membership.reason
    assert side.do(("wait", 60.0)).told == []
    for verb in ("solo", "drain"):
        with pytest.raises(OperatorError, match="--fenced"):
            side.do((verb,))
    assert side.membership.yielded
    assert side.do(("solo", {"fenced": True})).state is PrimaryState.SOLO
    assert not side.membership.yielded


def test_once_compared_again_it_is_as_if_it_had_never_yielded():
    side = Side(ALONE, LIVE, ("resume",), JOIN, COMPARE)
    assert not side.membership.yielded
    assert side.do(LOSE, WAIT).state is PrimaryState.SOLO


# This side's own guest.


@pytest.mark.parametrize("state", all_but(PrimaryState.YIELDED, PrimaryState.DRAINED, PrimaryState.LIVE))
def test_without_a_guest_nothing_leaves_and_nobody_is_asked(state):
    side = side_in(state).do(GUEST_LOST)
    assert side.state is PrimaryState.CLOSED
    assert side.membership.reason == "the primary's guest is gone: killed"
    for _ in range(3):
        assert side.do(JOIN, LOSE, ("wait", 10.0)).told == []
    assert side.state is PrimaryState.CLOSED


def test_an_answer_for_a_guest_that_is_gone_is_given_back():
    (given,) = side_in(PrimaryState.ASKING).do(GUEST_LOST, WIN).told
    assert isinstance(given, GiveBack)


@pytest.mark.parametrize("ways", [("drain",), ("solo",)])
def test_what_an_operator_chose_outlasts_the_guest(ways):
    side = Side(ALONE, JOIN, COMPARE, ways, CHECKPOINT, KNOW, GUEST_LOST, GUEST_FOUND)
    assert side.membership.traffic is Traffic.PASS


def test_a_guest_that_is_found_again_begins_anew():
    side = Side(ALONE, JOIN, COMPARE, GUEST_LOST, ("wait", 60.0), GUEST_FOUND)
    assert side.state is PrimaryState.UNSYNCHRONISED
    assert side.do(("wait", 4.9)).state is PrimaryState.UNSYNCHRONISED
    assert side.do(("wait", 0.1)).state is PrimaryState.SOLO
    assert Side(ALONE, GUEST_LOST, GUEST_FOUND).state is PrimaryState.WAITING


def test_a_guest_that_was_never_gone_changes_nothing():
    for state in PrimaryState:
        assert side_in(state).do(GUEST_FOUND).state is state


@pytest.mark.parametrize(
    ("ways", "is_so"),
    [
        ([JOIN], False),
        ([JOIN, COMPARE], True),
        ([JOIN, COMPARE, LOSE], True),
        ([JOIN, COMPARE, LOSE, WAIT], True),
        ([JOIN, COMPARE, LOSE, WAIT, LOSE_ARBITER], True),
        ([JOIN, COMPARE, LOSE, WAIT, JOIN], False),
        ([JOIN, COMPARE, LOSE, WAIT, LOSE_ARBITER, JOIN], False),
        ([JOIN, COMPARE, GUEST_LOST], True),
        ([JOIN, COMPARE, GUEST_LOST, GUEST_FOUND], False),
        ([JOIN, COMPARE, LOSE, WAIT, WIN], False),
        ([JOIN, COMPARE, LOSE, WAIT, WIN, GUEST_LOST], False),
        ([JOIN, COMPARE, LOSE, JOIN, LOSE], False),
        ([JOIN, COMPARE, ("suspended", "spoiled")], False),
    ],
)
def test_the_secondary_has_all_that_has_left(ways, is_so):
    assert Side(ARBITRATED, *ways).membership.is_synchronised is is_so


# The operator.


@pytest.mark.parametrize("state", all_but(PrimaryState.YIELDED, PrimaryState.DRAINED))
def test_solo_of_an_operator_who_says_that_the_other_side_is_off_is_at_once(state):
    side = side_in(state).do(("solo", {"fenced": True}))
    assert side.membership.traffic is Traffic.PASS


@pytest.mark.parametrize("ways", [[JOIN], [JOIN, COMPARE], [JOIN, COMPARE, COLO_ENDED], [JOIN, WAIT]])
def test_solo_without_an_arbiter_waits_until_the_secondary_knows(ways):
    side = Side(CLOSING, *ways)
    before = side.state
    assert side.membership.alone == 0
    assert side.do(("solo",)).told == [Announce()]
    assert (side.state, side.membership.alone > 0, side.outcome) == (before, True, None)
    assert side.do(KNOW).state is PrimaryState.SOLO
    assert (side.membership.alone > 0, side.outcome) == (True, DONE)


def test_what_the_secondary_has_heard_before_is_not_enough():
    side = Side(CLOSING, JOIN, COMPARE, ("solo",))
    old = side.membership.alone
    assert side.do(("resume",)).membership.alone == 0
    assert side.do(("solo",), ("secondary_knows", old)).state is PrimaryState.PROTECTED
    assert side.do(KNOW).state is PrimaryState.SOLO


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (LOSE, "the secondary is lost: silence"),
        (WAIT, "the secondary has not answered for 5 s"),
        (GUEST_LOST, "the primary's guest is gone"),
    ],
)
def test_nothing_passes_of_which_the_secondary_does_not_know(step, problem):
    side = Side(CLOSING, JOIN, COMPARE, ("solo",), step)
    assert side.outcome == (False, problem)
    assert (side.membership.traffic is Traffic.PASS, side.membership.alone) == (False, 0)
    assert side.do(KNOW).actions == []


@pytest.mark.parametrize("ways", [[], [JOIN, LOSE], [JOIN, COMPARE, COLO_ENDED, LOSE], [WAIT]])
@pytest.mark.parametrize("verb", ["solo", "drain"])
def test_without_an_arbiter_nobody_goes_on_alone_while_the_secondary_is_not_connected(ways, verb):
    side = Side(CLOSING, *ways)
    with pytest.raises(OperatorError, match=r"not connected, and no arbiter.*make sure that it is off.*solo --fenced"):
        side.do((verb,))
    assert side.membership.traffic is not Traffic.PASS


@pytest.mark.parametrize(("verb", "state"), [("solo", PrimaryState.SOLO), ("drain", PrimaryState.DRAINED)])
def test_where_all_passes_already_nobody_has_to_know(verb, state):
    side = Side(ALONE, WAIT, (verb,))
    assert (side.state, side.outcome) == (state, DONE)


@pytest.mark.parametrize("ways", [[WAIT], [JOIN, WAIT]])
def test_the_secondary_is_told_of_a_solo_that_nobody_ordered(ways):
    assert Side(ALONE, *ways).membership.alone > 0


@pytest.mark.parametrize("state", [PrimaryState.WAITING, PrimaryState.PROTECTED, PrimaryState.LOST])
def test_solo_with_an_arbiter_is_asked_for(state):
    side = side_in(state).do(("solo",))
    assert side.told == [AskArbiter(Claim.SOLO, "an operator said so")]
    assert side.state is state
    assert side.outcome is None
    won = side_in(state).do(("solo",), WIN)
    assert (won.state, won.outcome) == (PrimaryState.SOLO, DONE)
    assert side.do(LOSE_ARBITER).state is state
    assert side.told == [Refused(Claim.SOLO)]
    assert side.outcome == (False, "the arbiter does not allow it")


def test_a_forced_solo_is_told_to_the_arbiter():
    side = Side(ARBITRATED, ("solo", {"fenced": True}))
    assert [type(action) for action in side.told] == [AskArbiter]
    assert side.do(LOSE_ARBITER).state is PrimaryState.SOLO


def test_solo_joins_the_question_under_way():
    side = side_in(PrimaryState.ASKING).do(("solo",))
    assert side.told == []
    assert side.do(WIN, JOIN, COMPARE).state is PrimaryState.SOLO


def test_what_an_operator_chose_ends_by_protect_and_a_comparison():
    side = Side(ALONE, JOIN, ("solo",), KNOW, COMPARE)
    assert side.state is PrimaryState.SOLO
    assert side.do(("protect",)).told == [RequestCheckpoint("protect")]
    assert side.state is PrimaryState.SOLO
    assert side.do(COMPARE).state is PrimaryState.PROTECTED


def test_what_an_operator_chose_lasts_while_nothing_is_compared():
    side = Side(ALONE, JOIN, COMPARE, ("solo",), KNOW, LOSE, ("wait", 60.0), JOIN, ("wait", 60.0), COMPARE)
    assert side.state is PrimaryState.SOLO


@pytest.mark.parametrize(("ways", "state"), [([LOSE], PrimaryState.WAITING), ([], PrimaryState.UNSYNCHRONISED)])
def test_resume_ends_what_an_operator_chose(ways, state):
    for verb in ("solo", "drain"):
        side = Side(ALONE, JOIN, COMPARE, (verb,), CHECKPOINT, KNOW, *ways, ("wait", 60.0), ("resume",))
        assert side.state is state
        assert side.told == ([] if ways else [RequestCheckpoint("resume")])
        assert side.do(("wait", 4.9)).state is state
        assert side.do(("wait", 0.1)).state is PrimaryState.SOLO


@pytest.mark.parametrize(
    ("ways", "state"), [([], PrimaryState.WAITING), ([JOIN, COMPARE, LOSE], PrimaryState.WAITING), ([JOIN], None)]
)
def test_resume_holds_again_after_a_solo_that_nobody_ordered(ways, state):
    side = Side(ALONE, *ways, WAIT)
    assert side.state is PrimaryState.SOLO
    side.do(("resume",), ("wait", 4.9))
    assert side.state is (state or PrimaryState.UNSYNCHRONISED)
    assert side.membership.traffic is Traffic.COMPARE
    assert side.do(("wait", 0.1)).state is PrimaryState.SOLO


def test_resume_opens_what_was_closed_for_a_while():
    side = Side(CLOSING, WAIT, ("wait", 60.0), ("resume",), ("wait", 4.9))
    assert side.state is PrimaryState.WAITING
    assert side.do(("wait", 0.1)).state is PrimaryState.CLOSED


@pytest.mark.parametrize("last", [("resume",), LIVE])
def test_what_has_passed_keeps_the_other_side_from_winning_until_it_is_compared_again(last):
    side = side_in(PrimaryState.LOST).do(("solo", {"fenced": True}), last)
    assert side.told == []
    assert side.do(WIN).told == []
    side.do(("resume",)) if side.state is PrimaryState.YIELDED else None
    assert [type(action) for action in side.do(JOIN, COMPARE).told] == [GiveBack]


@pytest.mark.parametrize(
    "state",
    [
        PrimaryState.WAITING,
        PrimaryState.UNSYNCHRONISED,
        PrimaryState.PROTECTED,
        PrimaryState.LOST,
        PrimaryState.ASKING,
        PrimaryState.LIVE,
    ],
)
def test_there_is_nothing_to_resume_from(state):
    with pytest.raises(OperatorError, match=f"the state is {state.value}.*protect"):
        side_in(state).do(("resume",))


def test_resume_takes_back_what_was_not_decided_yet():
    side = side_in(PrimaryState.PROTECTED).do(("solo",))
    solo = side.membership.wish
    assert side.do(("resume",)).outcome == DONE
    assert (solo.is_done, solo.problem) == (False, "an operator resumed")
    (given,) = side.do(WIN).told
    assert isinstance(given, GiveBack)
    assert side.state is PrimaryState.PROTECTED
    side.do(("drain",), ("resume",), ("wait", 60.0))
    assert side.state is PrimaryState.PROTECTED


def test_protect_needs_a_secondary():
    for state in (PrimaryState.WAITING, PrimaryState.LOST, PrimaryState.SOLO):
        with pytest.raises(OperatorError, match=r"no secondary is there.*start the other host"):
            side_in(state).do(("protect",))


@pytest.mark.parametrize("state", [PrimaryState.UNSYNCHRONISED, PrimaryState.SOLO, PrimaryState.DRAINED])
def test_protect_asks_for_a_checkpoint(state):
    assert side_in(state).do(JOIN, ("protect",)).told == [RequestCheckpoint("protect")]


def test_what_is_protected_needs_no_protect():
    side = side_in(PrimaryState.PROTECTED).do(("protect",))
    assert (side.actions, side.outcome) == ([], DONE)


# What comes of an order.


@pytest.mark.parametrize(
    ("ways", "outcome"),
    [
        ([COMPARE], DONE),
        ([("wait", 39.9)], None),
        ([("wait", 39.9), COMPARE], DONE),
        ([("wait", 40.0)], (False, "the replicas are not compared after 40 s")),
        ([LOSE], (False, "the secondary is lost: silence")),
        ([GUEST_LOST], (False, "the primary's guest is gone")),
        ([LIVE], (False, "the other side has gone live")),
        ([("solo",)], None),
    ],
)
def test_protect_is_done_once_the_replicas_are_compared(ways, outcome):
    side = side_in(PrimaryState.UNSYNCHRONISED).do(("protect",))
    protect = side.membership.wish
    side.do(*ways)
    assert side.outcome == outcome
    assert protect.is_done is (outcome == DONE)


def test_who_has_asked_hears_what_became_of_it_whatever_comes_after():
    side = side_in(PrimaryState.PROTECTED).do(("solo",))
    solo = side.membership.wish
    side.do(("protect",))
    assert (solo.is_done, solo.problem) == (False, "another order has taken its place")
    assert side.outcome == DONE


def test_what_was_won_too_late_for_an_order_is_given_back():
    (given,) = side_in(PrimaryState.PROTECTED).do(("solo",), ("protect",), WIN).told
    assert isinstance(given, GiveBack)


# Drain.


@pytest.mark.parametrize(
    ("last", "missed"),
    [
        (("checkpoint_done",), ""),
        (WAIT, "; no checkpoint within 5 s, so that what was held leaves uncompared"),
        (
            COLO_ENDED,
            "; no checkpoint, because the secondary is lost: COLO has ended, so that what was held leaves uncompared",
        ),
    ],
)
def test_a_drain_waits_for_a_checkpoint(last, missed):
    side = Side(ALONE, JOIN, COMPARE, ("drain",))
    assert side.told == [RequestCheckpoint("drain")]
    assert side.do(("wait", 4.9)).state is PrimaryState.PROTECTED
    assert side.outcome is None
    assert side.do(last).told == [Announce()]
    assert side.do(KNOW).state is PrimaryState.DRAINED
    assert side.membership.reason == f"an operator said so{missed}"
    assert side.outcome == (not missed, "")
    assert side.membership.traffic is Traffic.PASS
    assert side.do(("wait", 60.0), LOSE, JOIN, ("wait", 60.0)).state is PrimaryState.DRAINED


def test_without_a_secondary_a_drain_waits_for_nothing():
    side = Side(ARBITRATED, ("drain",), WIN)
    assert (side.state, side.outcome) == (PrimaryState.DRAINED, DONE)


def test_a_secondary_that_is_lost_before_it_knows_ends_a_drain():
    side = Side(ALONE, JOIN, COMPARE, ("drain",), LOSE)
    assert (side.state, side.outcome) == (PrimaryState.LOST, (False, "the secondary is lost: silence"))


def test_where_nobody_makes_checkpoints_a_drain_waits_for_none():
    side = Side(replace(ALONE, checkpoints=False), JOIN, COMPARE, ("drain",))
    assert side.told == [Announce()]
    assert (side.do(KNOW).state, side.outcome) == (PrimaryState.DRAINED, DONE)


@pytest.mark.parametrize(("answer", "state"), [(WIN, PrimaryState.DRAINED), (LOSE_ARBITER, PrimaryState.PROTECTED)])
def test_a_drain_asks_the_arbiter_after_the_checkpoint(answer, state):
    side = side_in(PrimaryState.PROTECTED).do(("drain",), ("checkpoint_done",))
    assert side.told == [AskArbiter(Claim.SOLO, "an operator said so")]
    assert side.state is PrimaryState.PROTECTED
    assert side.do(answer).state is state


def test_a_drain_in_solo_is_at_once():
    side = side_in(PrimaryState.SOLO).do(("drain",))
    assert (side.state, side.told) == (PrimaryState.DRAINED, [])
    assert side.do(("drain",)).actions == []
    with pytest.raises(OperatorError, match="drained"):
        side.do(("solo",))


@pytest.mark.parametrize(
    ("state", "ways", "is_wanted"),
    [
        *(
            (state, WAYS[state], True)
            for state in (PrimaryState.UNSYNCHRONISED, PrimaryState.LOST, PrimaryState.ASKING)
        ),
        *((state, WAYS[state], False) for state in (PrimaryState.SOLO, PrimaryState.DRAINED, PrimaryState.YIELDED)),
        (PrimaryState.SOLO, [*WAYS[PrimaryState.SOLO], JOIN, ("protect",)], True),
        (PrimaryState.SOLO, [*WAYS[PrimaryState.SOLO], JOIN, ("protect",), LOSE], False),
        (PrimaryState.SOLO, [*WAYS[PrimaryState.SOLO], JOIN, ("protect",), ("solo",)], False),
        (PrimaryState.CLOSED, WAYS[PrimaryState.CLOSED], False),
        (PrimaryState.CLOSED, [JOIN, WAIT, LOSE_ARBITER], True),
    ],
)
def test_a_checkpoint_is_tried_while_somebody_waits_for_it(state, ways, is_wanted):
    side = Side(ARBITRATED, *ways)
    assert side.membership.state is state
    assert side.membership.wants_checkpoint is is_wanted


def test_a_checkpoint_means_nothing_without_a_drain():
    assert side_in(PrimaryState.PROTECTED).do(("checkpoint_done",)).actions == []


def test_what_happened_is_counted():
    side = Side(ARBITRATED, JOIN, COMPARE, LOSE, WAIT, LOSE_ARBITER, ("wait", 3.0), WIN, LIVE)
    counters = side.membership.counters
    assert (counters.secondary_losses, counters.solo, counters.closed, counters.yielded) == (1, 1, 1, 1)
    assert (counters.arbiter_asked, counters.arbiter_refused) == (2, 1)
