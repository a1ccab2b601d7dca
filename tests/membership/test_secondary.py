"""The secondary's membership: every row of its table, and when it may become the service."""

import pytest

from colo_bridge.errors import OperatorError
from colo_bridge.membership.actions import AskArbiter, Claim, Entered, GiveBack, GoLive, Refused
from colo_bridge.membership.secondary import SecondaryMembership, SecondaryPolicy, SecondaryState

MANUAL = SecondaryPolicy(primary_timeout=4.0, automatic=False, arbiter=False)
ARBITRATED = SecondaryPolicy(primary_timeout=4.0, automatic=False, arbiter=True, retry=3.0)
AUTOMATIC = SecondaryPolicy(primary_timeout=4.0, automatic=True, arbiter=True, retry=3.0)

JOIN = ("primary_joined", 5.0)
SYNCHRONISE = ("synchronised", True)
LOSE = ("primary_lost", "silence")
FAILOVER = ("failover", {"fenced": False, "accept_loss": False})
FENCED = ("failover", {"fenced": True, "accept_loss": False})
ACCEPTED = ("failover", {"fenced": False, "accept_loss": True})
FENCED_ACCEPTED = ("failover", {"fenced": True, "accept_loss": True})
WIN = ("arbiter_answered", True)
LOSE_ARBITER = ("arbiter_answered", False)
GUEST_LOST = ("guest_lost", "killed")
GUEST_FOUND = ("guest_found",)
SOLO = ("solo", 1)
STANDBY = [JOIN, SYNCHRONISE]

WAYS = {
    SecondaryState.ALONE: [*STANDBY, LOSE],
    SecondaryState.UNSYNCHRONISED: [JOIN],
    SecondaryState.STANDBY: STANDBY,
    SecondaryState.ASKING: [*STANDBY, LOSE, FAILOVER],
    SecondaryState.LIVE: [*STANDBY, LOSE, FAILOVER, WIN],
}


class Side:
    """A secondary's membership with a clock of its own; keeps what the last event led to."""

    def __init__(self, policy=MANUAL, *steps, **options):
        self.membership = SecondaryMembership(policy, 0.0, **options)
        self.now = 0.0
        self.actions = []
        self.do(*steps)

    def do(self, *steps):
        for name, *arguments in steps:
            if name == "wait":
                self.now += arguments[0]
                self.actions = self.membership.tick(self.now)
            elif name == "heard":
                self.membership.primary_heard(self.now)
            elif name == "solo":
                self.actions = []
                self.membership.primary_is_solo(*arguments)
            elif name == "failover":
                self.actions = self.membership.failover(now=self.now, **arguments[0])
            else:
                self.actions = getattr(self.membership, name)(*arguments, self.now)
        return self

    @property
    def state(self):
        return self.membership.state

    @property
    def told(self):
        """Without what is for the log."""
        return [action for action in self.actions if not isinstance(action, Entered)]


def side_in(state: SecondaryState) -> Side:
    side = Side(ARBITRATED, *WAYS[state])
    assert side.state is state
    return side


# The primary.


@pytest.mark.parametrize("state", [state for state in SecondaryState if state is not SecondaryState.LIVE])
def test_a_primary_that_joins_is_not_followed_yet(state):
    assert side_in(state).do(JOIN).state is SecondaryState.UNSYNCHRONISED


def test_a_commit_makes_it_ready():
    side = Side(MANUAL, JOIN, ("wait", 1.0), SYNCHRONISE)
    assert (side.state, side.membership.since) == (SecondaryState.STANDBY, 1.0)
    assert side.do(SYNCHRONISE).actions == []
    assert side.do(("synchronised", False)).state is SecondaryState.UNSYNCHRONISED


def test_a_primary_without_its_guest_is_heard_to_hold_what_it_has():
    side = Side(MANUAL, *STANDBY, LOSE, ("wait", 60.0))
    assert side.membership.risks(side.now)
    side.membership.primary_heard(side.now, guest_is_gone=True)
    assert side.membership.risks(side.now) == []


@pytest.mark.parametrize("state", [SecondaryState.UNSYNCHRONISED, SecondaryState.STANDBY])
def test_a_lost_primary_is_reported_and_waited_for(state):
    side = Side(MANUAL, *WAYS[state], LOSE)
    assert (side.state, side.membership.reason) == (SecondaryState.ALONE, "the primary is lost: silence")
    assert side.do(("wait", 1e6)).actions == []


def test_what_is_lost_is_lost_once():
    side = side_in(SecondaryState.ALONE)
    assert side.do(LOSE).actions == []
    assert side.membership.counters.primary_losses == 1


@pytest.mark.parametrize("step", [JOIN, SYNCHRONISE, SOLO, LOSE, ("wait", 60.0), FAILOVER, LOSE_ARBITER])
def test_live_is_final(step):
    side = side_in(SecondaryState.LIVE).do(step)
    assert (side.state, side.told) == (SecondaryState.LIVE, [])


def test_who_was_live_is_live_when_it_starts_again():
    assert Side(MANUAL, JOIN, SYNCHRONISE, LOSE, live=True).state is SecondaryState.LIVE


def test_a_new_commit_makes_it_ready_without_a_new_link():
    side = Side(MANUAL, *STANDBY, ("primary_lost", "its guest is gone"))
    assert side.state is SecondaryState.ALONE
    assert side.do(SYNCHRONISE).state is SecondaryState.STANDBY
    assert side.do(LOSE, FENCED).state is SecondaryState.LIVE


def test_what_counts_is_how_it_was_when_the_primary_was_lost():
    assert Side(MANUAL, *STANDBY, LOSE, ("synchronised", False), FENCED).state is SecondaryState.LIVE


# The arbiter.


def test_the_arbiter_lets_it_go_live():
    side = side_in(SecondaryState.ALONE).do(FAILOVER)
    assert side.state is SecondaryState.ASKING
    assert side.told == [AskArbiter(Claim.FAILOVER, "an operator said so")]
    assert side.do(("wait", 60.0), FAILOVER).told == []
    (live,) = side.do(WIN).told
    assert isinstance(live, GoLive)


def test_the_arbiter_refuses():
    side = side_in(SecondaryState.ASKING).do(LOSE_ARBITER)
    assert (side.state, side.told) == (SecondaryState.ALONE, [Refused(Claim.FAILOVER)])
    assert side.membership.reason == "an operator said so; the arbiter does not allow to go live"
    assert side.do(("wait", 60.0)).told == []
    assert side.do(FAILOVER, WIN).state is SecondaryState.LIVE


def test_a_primary_that_comes_back_meanwhile_is_followed_again():
    side = side_in(SecondaryState.ASKING).do(JOIN)
    assert (side.state, side.told) == (SecondaryState.UNSYNCHRONISED, [])
    (given,) = side.do(WIN).told
    assert isinstance(given, GiveBack)
    assert side.state is SecondaryState.UNSYNCHRONISED


def test_an_answer_that_is_still_due_serves_the_next_failover():
    side = side_in(SecondaryState.ASKING).do(*STANDBY, LOSE, FAILOVER)
    assert side.told == []
    assert side.do(WIN).state is SecondaryState.LIVE


def test_who_follows_a_primary_gives_back_what_it_may_have_won():
    assert [type(action) for action in Side(ARBITRATED, *STANDBY).told] == [GiveBack]
    assert Side(MANUAL, *STANDBY).told == []


# This side's own guest.


@pytest.mark.parametrize("ways", [FENCED, FENCED_ACCEPTED, FAILOVER, ACCEPTED])
@pytest.mark.parametrize("guest", [[], [GUEST_FOUND, GUEST_LOST]], ids=["never heard of", "gone"])
def test_without_a_guest_nothing_goes_live_whoever_says_so(ways, guest):
    side = Side(ARBITRATED, *guest, JOIN, LOSE, guest_is_there=False)
    with pytest.raises(OperatorError, match=r"this side's QEMU does not answer: .*see that it runs"):
        side.do(ways)
    assert side.state is SecondaryState.ALONE
    assert side.membership.counters.failovers_refused == 1


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (SecondaryState.UNSYNCHRONISED, SecondaryState.UNSYNCHRONISED),
        (SecondaryState.STANDBY, SecondaryState.UNSYNCHRONISED),
        (SecondaryState.ALONE, SecondaryState.ALONE),
        (SecondaryState.ASKING, SecondaryState.ALONE),
        (SecondaryState.LIVE, SecondaryState.LIVE),
    ],
)
def test_a_guest_that_is_gone_is_no_standby(state, after):
    side = side_in(state).do(GUEST_LOST)
    assert (side.state, side.told) == (after, [])
    assert state is SecondaryState.LIVE or side.membership.reason == "this side's guest is gone: killed"
    assert side.do(GUEST_FOUND).state is after


def test_without_a_guest_nobody_is_asked():
    assert Side(AUTOMATIC, *STANDBY, GUEST_LOST, LOSE, ("wait", 60.0)).state is SecondaryState.ALONE
    assert Side(AUTOMATIC, *STANDBY, LOSE, GUEST_LOST, ("wait", 60.0)).state is SecondaryState.ALONE


def test_what_is_won_for_a_guest_that_is_gone_is_given_back():
    (given,) = side_in(SecondaryState.ASKING).do(GUEST_LOST, WIN).told
    assert isinstance(given, GiveBack)


def test_a_guest_that_is_there_again_may_be_another_one():
    side = Side(MANUAL, *STANDBY, GUEST_LOST, SYNCHRONISE)
    assert side.state is SecondaryState.UNSYNCHRONISED
    side.do(GUEST_FOUND)
    assert side.membership.reason == "this side's guest is there again, and the replicas are not synchronised yet"
    with pytest.raises(OperatorError, match="the replicas were not synchronised"):
        side.do(LOSE, FENCED)
    assert side.do(FENCED_ACCEPTED).state is SecondaryState.LIVE


def test_once_synchronised_again_it_is_as_if_the_guest_had_never_been_gone():
    assert Side(MANUAL, *STANDBY, GUEST_LOST, GUEST_FOUND, SYNCHRONISE, LOSE, FENCED).state is SecondaryState.LIVE


def test_a_guest_that_is_heard_of_for_the_first_time_is_no_news():
    side = Side(MANUAL, JOIN, GUEST_FOUND, guest_is_there=False)
    assert (side.actions, side.state) == ([], SecondaryState.UNSYNCHRONISED)
    assert side.do(GUEST_FOUND).actions == []


# By itself.


def test_the_arbiter_is_asked_some_time_after_the_loss():
    side = Side(AUTOMATIC, *STANDBY, ("wait", 100.0), LOSE, ("wait", 3.9))
    assert side.state is SecondaryState.ALONE
    assert side.do(("wait", 0.1)).told == [AskArbiter(Claim.FAILOVER, "the primary is lost: silence")]
    assert side.do(LOSE_ARBITER, ("wait", 2.9)).state is SecondaryState.ALONE
    assert side.do(("wait", 0.1)).state is SecondaryState.ASKING


def test_a_primary_that_never_came_is_not_lost():
    assert Side(AUTOMATIC, ("wait", 60.0)).state is SecondaryState.ALONE


@pytest.mark.parametrize("ways", [[JOIN], [*STANDBY, SOLO], [*STANDBY, ("synchronised", False)]])
def test_nothing_is_lost_by_itself(ways):
    side = Side(AUTOMATIC, *ways, LOSE, ("wait", 60.0))
    assert side.state is SecondaryState.ALONE
    assert len(side.membership.risks(side.now, fenced=False)) == 1


def test_nothing_is_asked_while_the_link_is_up():
    side = Side(AUTOMATIC, *STANDBY, ("wait", 60.0))
    assert side.state is SecondaryState.STANDBY
    with pytest.raises(OperatorError, match="the primary is connected"):
        side.do(ACCEPTED)
    assert side.do(LOSE, ("wait", 3.9)).state is SecondaryState.ALONE
    assert side.do(("wait", 0.1)).state is SecondaryState.ASKING


# The operator.


def test_without_an_arbiter_the_primary_must_be_off():
    side = Side(MANUAL, *STANDBY, LOSE)
    with pytest.raises(OperatorError, match=r"no arbiter.*--fenced"):
        side.do(FAILOVER)
    with pytest.raises(OperatorError, match=r"no arbiter.*--fenced"):
        side.do(ACCEPTED)
    (live,) = side.do(FENCED).told
    assert isinstance(live, GoLive)
    assert side.state is SecondaryState.LIVE


@pytest.mark.parametrize("state", [SecondaryState.UNSYNCHRONISED, SecondaryState.STANDBY])
def test_while_the_primary_is_connected_only_the_operators_word_counts(state):
    side = side_in(state)
    with pytest.raises(OperatorError, match="the primary is connected"):
        side.do(ACCEPTED)
    assert side.state is state
    assert side.do(FENCED_ACCEPTED).state is SecondaryState.LIVE


def test_a_fenced_failover_is_told_to_the_arbiter():
    side = side_in(SecondaryState.ALONE).do(FENCED_ACCEPTED)
    assert [type(action) for action in side.told] == [GoLive, AskArbiter]
    assert side.do(LOSE_ARBITER).state is SecondaryState.LIVE


@pytest.mark.parametrize(
    ("ways", "risk"),
    [
        ([], "not synchronised"),
        ([JOIN, LOSE], "not synchronised"),
        ([*STANDBY, ("synchronised", False), LOSE], "not synchronised"),
        ([*STANDBY, LOSE, JOIN, LOSE], "not synchronised"),
        ([*STANDBY, SOLO, LOSE], "had said that it goes on alone"),
        ([*STANDBY, LOSE, ("wait", 5.0)], "may have gone on alone.*5 s.*5.0 s ago"),
        ([*STANDBY, ("wait", 5.0)], "may have gone on alone"),
        ([*STANDBY, LOSE, ("wait", 4.0), ("heard",), ("wait", 1.0)], "may have gone on alone"),
    ],
)
def test_a_loss_must_be_accepted(ways, risk):
    side = Side(MANUAL, *ways)
    with pytest.raises(OperatorError, match=f"{risk}.*--accept-loss"):
        side.do(FENCED)
    assert side.membership.counters.failovers_refused == 1
    assert side.do(FENCED_ACCEPTED).state is SecondaryState.LIVE


@pytest.mark.parametrize(
    "ways",
    [
        [*STANDBY, LOSE, ("wait", 4.9)],
        [*STANDBY, ("wait", 4.0), ("heard",), LOSE, ("wait", 4.9)],
        [*STANDBY, SOLO, ("solo", 0), LOSE],
        [JOIN, SOLO, LOSE, *STANDBY, LOSE],
    ],
)
def test_nothing_can_be_lost(ways):
    assert Side(MANUAL, *ways, FENCED).state is SecondaryState.LIVE


def test_only_the_arbiter_knows_whether_the_primary_has_gone_solo():
    side = side_in(SecondaryState.ALONE)
    with pytest.raises(OperatorError, match=r"only the arbiter, which is not waited for.*--accept-loss"):
        side.do(FENCED)
    assert side.do(("wait", 60.0), FAILOVER).state is SecondaryState.ASKING


def test_what_happened_is_counted():
    side = Side(ARBITRATED, *STANDBY, LOSE, FAILOVER, LOSE_ARBITER)
    counters = side.membership.counters
    assert (counters.primary_losses, counters.arbiter_asked, counters.arbiter_refused) == (1, 1, 1)
