"""Dialling again, and a barrier on several streams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.link.protocol.backoff import Backoff
from colo_bridge.link.protocol.barrier import BarrierGate


def test_delays_double_up_to_the_longest():
    backoff = Backoff(0.2, 5.0)
    assert [backoff.delay(0) for _ in range(7)] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_success_makes_it_quick_again_and_a_refusal_slow():
    backoff = Backoff(0.2, 5.0)
    backoff.refused()
    assert backoff.delay(0) == 5.0
    backoff.succeeded()
    assert backoff.delay(0) == 0.2


@given(st.floats(0, 1), st.integers(0, 20))
def test_jitter_takes_away_a_quarter_at_most(jitter, tries):
    one, other = Backoff(), Backoff()
    for _ in range(tries):
        one.delay(0), other.delay(0)
    plain, jittered = one.delay(0), other.delay(jitter)
    assert 0.75 * plain <= jittered <= plain


def test_a_barrier_has_passed_when_the_last_stream_brought_it():
    gate = BarrierGate(("control", "net0", "net1"), epoch=4)
    assert [gate.passed(stream, 5) for stream in ("net1", "control", "net0")] == [False, False, True]
    assert gate.epoch == 5


def test_a_stream_that_is_two_barriers_ahead_waits_for_the_others():
    gate = BarrierGate(("net0", "net1"), epoch=0)
    assert [gate.passed("net0", 1), gate.passed("net0", 2)] == [False, False]
    assert (gate.passed("net1", 1), gate.epoch) == (True, 1)
    assert (gate.passed("net1", 2), gate.epoch) == (True, 2)
