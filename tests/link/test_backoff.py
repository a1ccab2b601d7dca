"""Dialling again: soon at first, ever later, never all at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.link.protocol.backoff import Backoff


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
