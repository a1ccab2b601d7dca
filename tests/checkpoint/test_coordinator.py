"""The checkpoint state machine: every pair of its table, and random walks against a model."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from colo_bridge.checkpoint.coordinator import Coordinator, Kill, Outcome, Policy, Start, State
from colo_bridge.errors import InternalError

POLICY = Policy(timeout=30.0, retry_interval=1.0, pause_timeout=5.0)
STEPS = {
    State.IDLE: [],
    State.REQUESTED: ["request"],
    State.ASKED: ["request", "tick"],
    State.PAUSED: ["request", "tick", "pause"],
    State.STOPPING: ["request", "tick", "too long"],
    State.ENDING: ["request", "tick", "withdraw"],
    State.WAITING: ["request", "tick", "fail"],
}


def coordinator_in(state: State) -> Coordinator:
    """A coordinator that reached `state` at time 0 (STOPPING: at 30)."""
    coordinator = Coordinator(POLICY)
    actions = {
        "request": lambda: coordinator.request("content", 0.0, {"connection": "a"}),
        "tick": lambda: coordinator.tick(0.0),
        "pause": lambda: coordinator.paused(0.0),
        "too long": lambda: coordinator.tick(30.0),
        "fail": lambda: coordinator.finished(False, 0.0),
        "withdraw": coordinator.withdraw,
    }
    for step in STEPS[state]:
        actions[step]()
    assert coordinator.state is state
    return coordinator


def test_a_request_is_started_by_the_next_tick():
    coordinator = coordinator_in(State.IDLE)
    assert coordinator.request("content", 5.0, {"connection": "a"})
    assert coordinator.tick(5.0) == [Start("content", {"connection": "a"}, 1)]
    assert coordinator.tick(5.0) == []


@pytest.mark.parametrize("state", [State.REQUESTED, State.ASKED, State.PAUSED, State.STOPPING, State.WAITING])
def test_a_request_joins_the_one_under_way(state):
    coordinator = coordinator_in(state)
    assert not coordinator.request("timeout", 30.0)
    assert coordinator.state is state
    assert (coordinator.counters.requested, coordinator.counters.joined) == (1, 1)
    assert coordinator.counters.reasons == {"content": 1, "timeout": 1}


def test_success_counts_an_epoch_and_unlatches():
    coordinator = coordinator_in(State.ASKED)
    assert coordinator.finished(True, 1.0) is Outcome.DONE
    assert (coordinator.state, coordinator.epoch, coordinator.counters.done) == (State.IDLE, 1, 1)
    assert coordinator.request("content", 1.0)


def test_a_failure_is_tried_again_after_the_interval():
    coordinator = coordinator_in(State.ASKED)
    assert coordinator.finished(False, 10.0) is Outcome.FAILED
    assert coordinator.tick(10.999) == []
    assert coordinator.tick(11.0) == [Start("content", {"connection": "a"}, 2)]
    assert (coordinator.epoch, coordinator.counters.failed, coordinator.counters.requested) == (0, 1, 1)


def test_an_attempt_that_takes_too_long_is_killed_once():
    coordinator = coordinator_in(State.ASKED)
    assert coordinator.tick(29.999) == []
    assert coordinator.tick(30.0) == [Kill()]
    assert coordinator.tick(99.0) == []


@pytest.mark.parametrize("success", [True, False])
def test_whatever_a_killed_attempt_says_it_timed_out(success):
    coordinator = coordinator_in(State.STOPPING)
    assert coordinator.finished(success, 30.0) is Outcome.TIMED_OUT
    assert coordinator.state is State.WAITING
    assert (coordinator.counters.failed, coordinator.counters.timed_out, coordinator.epoch) == (1, 1, 0)


@pytest.mark.parametrize("state", [State.IDLE, State.REQUESTED, State.WAITING])
def test_an_end_without_a_start_is_a_bug(state):
    with pytest.raises(InternalError, match=state.value):
        coordinator_in(state).finished(True, 0.0)


@pytest.mark.parametrize("state", [State.IDLE, State.STOPPING, State.ENDING])
def test_nothing_is_ever_due_in(state):
    coordinator = coordinator_in(state)
    assert coordinator.due is None
    assert coordinator.tick(1e9) == []


@pytest.mark.parametrize(
    ("state", "due"), [(State.REQUESTED, 0.0), (State.ASKED, 30.0), (State.PAUSED, 5.0), (State.WAITING, 1.0)]
)
def test_due_says_when_to_tick(state, due):
    assert coordinator_in(state).due == due


def test_the_request_keeps_its_own_copy_of_the_detail():
    coordinator, detail = Coordinator(POLICY), {"connection": "a"}
    coordinator.request("content", 0.0, detail)
    detail.clear()
    assert coordinator.tick(0.0) == [Start("content", {"connection": "a"}, 1)]


# The pause.


def test_a_pause_that_was_asked_for_is_bounded_by_itself():
    coordinator = coordinator_in(State.ASKED)
    assert coordinator.paused(20.0) == []
    assert (coordinator.state, coordinator.due) == (State.PAUSED, 25.0)
    assert coordinator.tick(24.9) == []
    assert coordinator.tick(25.0) == [Kill()]
    assert coordinator.finished(False, 25.0) is Outcome.NOT_RESUMED
    assert (coordinator.counters.failed, coordinator.counters.not_resumed, coordinator.counters.timed_out) == (1, 1, 0)


@pytest.mark.parametrize("state", [State.IDLE, State.REQUESTED, State.WAITING])
def test_a_pause_that_nobody_asked_for_is_waited_for_too(state):
    coordinator = coordinator_in(state)
    (start,) = coordinator.paused(0.5)
    assert start.reason == ("hypervisor" if state is State.IDLE else "content")
    assert (coordinator.state, coordinator.due) == (State.PAUSED, 5.5)
    assert coordinator.finished(True, 1.0) is Outcome.DONE
    assert coordinator.counters.requested == 1


@pytest.mark.parametrize("state", [State.PAUSED, State.STOPPING])
def test_a_pause_within_another_changes_nothing_in(state):
    coordinator = coordinator_in(state)
    due = coordinator.due
    assert coordinator.paused(3.0) == []
    assert (coordinator.state, coordinator.due) == (state, due)


@pytest.mark.parametrize("state", list(State))
def test_a_checkpoint_that_is_done_answers_every_request(state):
    coordinator = coordinator_in(state)
    assert coordinator.resumed(40.0) is Outcome.DONE
    assert (coordinator.state, coordinator.epoch, coordinator.counters.done) == (State.IDLE, 1, 1)
    assert coordinator.tick(1e9) == []


def test_a_failure_in_the_pause_is_tried_again():
    coordinator = coordinator_in(State.PAUSED)
    assert coordinator.finished(False, 1.0) is Outcome.FAILED
    assert coordinator.tick(2.0) == [Start("content", {"connection": "a"}, 2)]


# Withdrawn.


@pytest.mark.parametrize("state", [State.REQUESTED, State.WAITING])
def test_what_has_not_begun_is_withdrawn_at_once(state):
    coordinator = coordinator_in(state)
    assert coordinator.withdraw() is Outcome.WITHDRAWN
    assert (coordinator.state, coordinator.counters.withdrawn) == (State.IDLE, 1)
    assert coordinator.tick(1e9) == []


@pytest.mark.parametrize("state", [State.ASKED, State.PAUSED])
@pytest.mark.parametrize("success", [True, False])
def test_an_attempt_that_is_withdrawn_is_killed_and_not_tried_again(state, success):
    coordinator = coordinator_in(state)
    assert coordinator.withdraw() == Kill()
    assert coordinator.withdraw() is None
    assert coordinator.finished(success, 1.0) is Outcome.WITHDRAWN
    assert (coordinator.state, coordinator.epoch, coordinator.counters.failed) == (State.IDLE, 0, 0)
    assert coordinator.tick(1e9) == []


def test_what_is_stopped_already_is_not_killed_twice():
    coordinator = coordinator_in(State.STOPPING)
    assert coordinator.withdraw() is None
    assert coordinator.finished(False, 31.0) is Outcome.WITHDRAWN
    assert (coordinator.state, coordinator.counters.timed_out) == (State.IDLE, 0)


def test_there_may_be_nothing_to_withdraw():
    coordinator = coordinator_in(State.IDLE)
    assert coordinator.withdraw() is None
    assert coordinator.counters.withdrawn == 0


@pytest.mark.parametrize("pauses", [True, False])
def test_what_is_wanted_again_before_the_attempt_has_ended_is_tried(pauses):
    coordinator = coordinator_in(State.ENDING)
    if pauses:
        assert coordinator.paused(1.0) == []
    else:
        assert coordinator.request("protect", 1.0)
    assert coordinator.state is State.STOPPING
    coordinator.finished(False, 2.0)
    assert coordinator.tick(3.0) == [Start("hypervisor" if pauses else "protect", {}, 1)]


def test_no_period_counts_after_a_withdrawal_until_it_is_told_so():
    coordinator = Coordinator(Policy(30.0, 1.0, period=10.0))
    coordinator.withdraw()
    assert coordinator.tick(1e9) == []
    coordinator.count_period(100.0)
    assert coordinator.due == 110.0
    coordinator.request("content", 101.0)
    coordinator.count_period(105.0)
    assert coordinator.due == 101.0


def test_a_request_behind_a_withdrawn_one_that_has_failed_waits_as_long_as_that():
    coordinator = coordinator_in(State.WAITING)
    coordinator.withdraw()
    coordinator.request("operator", 0.5)
    assert coordinator.tick(0.9) == []
    assert coordinator.tick(1.0) == [Start("operator", {}, 1)]


# Intervals.


def test_the_next_checkpoint_waits_for_the_least_interval():
    coordinator = Coordinator(Policy(30.0, 1.0, min_interval=2.0))
    coordinator.request("content", 0.0)
    assert len(coordinator.tick(0.0)) == 1
    coordinator.finished(True, 1.0)
    coordinator.request("timeout", 1.5)
    assert coordinator.tick(2.9) == []
    assert coordinator.tick(3.0) == [Start("timeout", {}, 1)]


def test_a_period_after_the_last_checkpoint_another_one_is_asked_for():
    coordinator = Coordinator(Policy(30.0, 1.0, period=10.0), now=100.0)
    assert coordinator.tick(109.9) == []
    assert coordinator.tick(110.0) == [Start("period", {}, 1)]
    coordinator.resumed(112.0)
    coordinator.resumed(115.0)
    assert coordinator.due == 125.0
    coordinator.request("content", 120.0)
    assert coordinator.tick(125.0) == [Start("content", {}, 1)]
    assert coordinator.counters.reasons == {"period": 1, "content": 1}


class Walk(RuleBasedStateMachine):
    """A provider, a clock and requests in any order; the model only counts."""

    def __init__(self):
        super().__init__()
        self.coordinator = Coordinator(POLICY)
        self.now = 0.0
        self.running = self.killed = False
        self.bound = POLICY.timeout
        self.started_at = self.free_at = 0.0
        self.wanted = False
        self.done = self.failed = self.unasked = self.abandoned = 0
        self.succeeded = self.withdrawn = self.ended = 0
        self.is_ending = False

    @rule(reason=st.sampled_from(["content", "control", "timeout"]))
    def request(self, reason):
        assert self.coordinator.request(reason, self.now) is not self.wanted
        self.wanted, self.is_ending = True, False

    @rule()
    def withdraw(self):
        told = self.coordinator.withdraw()
        if self.running:
            assert told == (None if self.killed else Kill())
            self.killed = self.is_ending = True
        else:
            assert told is (Outcome.WITHDRAWN if self.wanted else None)
        self.withdrawn += self.wanted
        self.wanted = False

    @rule(step=st.floats(0, 40))
    def wait(self, step):
        self.now += step

    @rule()
    def tick(self):
        for action in self.coordinator.tick(self.now):
            if isinstance(action, Start):
                assert self.wanted and not self.running and self.now >= self.free_at
                self.running, self.killed, self.started_at = True, False, self.now
                self.bound = POLICY.timeout
            else:
                assert self.running and not self.killed and self.now - self.started_at >= self.bound - 1e-6
                self.killed = True

    @rule()
    def pause(self):
        before = self.coordinator.state
        actions = self.coordinator.paused(self.now)
        assert bool(actions) == (not self.running)
        if before is State.ENDING:
            self.wanted, self.is_ending = True, False
        if before in (State.PAUSED, State.STOPPING, State.ENDING):
            return
        self.wanted = self.running = True
        self.killed, self.bound = False, POLICY.pause_timeout
        self.started_at = self.free_at = self.now

    @rule()
    def resume(self):
        assert self.coordinator.resumed(self.now) is Outcome.DONE
        self.abandoned += self.running
        self.unasked += not self.wanted
        self.done += 1
        self.wanted = self.running = self.killed = self.is_ending = False
        self.free_at = self.now

    @precondition(lambda self: self.running)
    @rule(success=st.booleans())
    def finish(self, success):
        outcome = self.coordinator.finished(success, self.now)
        self.running = False
        if success and not self.killed:
            assert outcome is Outcome.DONE
            self.done += 1
            self.succeeded += 1
            self.wanted = False
        elif self.is_ending:
            assert outcome is Outcome.WITHDRAWN
            self.ended += 1
            self.is_ending = False
            self.free_at = self.now
        else:
            too_long = Outcome.NOT_RESUMED if self.bound == POLICY.pause_timeout else Outcome.TIMED_OUT
            assert outcome is (too_long if self.killed else Outcome.FAILED)
            self.failed += 1
            self.free_at = self.now + POLICY.retry_interval

    @invariant()
    def nothing_is_forgotten(self):
        counters = self.coordinator.counters
        assert self.coordinator.epoch == counters.done == self.done
        assert counters.failed == self.failed
        assert counters.withdrawn == self.withdrawn
        assert counters.started == self.succeeded + self.abandoned + self.failed + self.ended + self.running
        assert counters.requested == self.done - self.unasked + self.wanted + self.withdrawn
        assert counters.reasons.total() == counters.requested + counters.joined
        # Whoever ticks when it is due gets every request started or stopped in the end.
        assert (self.coordinator.due is None) == (not self.wanted or (self.killed and self.running))


Walk.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestWalk = Walk.TestCase
