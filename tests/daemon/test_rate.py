"""The limit on log lines."""

from __future__ import annotations

from colo_bridge.daemon.rate import RateLimit


def test_some_lines_in_each_period_and_a_count_of_the_rest() -> None:
    limit = RateLimit(2, 60.0)
    assert [limit.allows(now) for now in (0.0, 1.0, 2.0, 59.0)] == [True, True, False, False]
    assert limit.allows(60.0)
    assert (limit.take_refused(), limit.take_refused()) == (2, 0)
