"""Two healthy stacks never wait for each other: a slice of what `scripts/soak-simulation` plays."""

from __future__ import annotations

import pytest

from tests.simulation import run
from tests.simulation.run import NO_CURES
from tests.simulation.scenario import make
from tests.simulation.verify import Verdict, verify

_MANY, _FEW = range(300), range(150)


def wrong(seeds: range, loss: float = 0.0, checkpoints: str = "none") -> list[int]:
    return [seed for seed in seeds if verify(seed, loss, checkpoints) in (Verdict.STALLED, Verdict.LATE)]


def test_the_model_itself_never_stalls() -> None:
    assert [seed for seed in _MANY if run.native(make(seed)).stalled] == []
    assert [seed for seed in _MANY if run.native(make(seed, 0.01)).stalled] == []


def test_without_the_cures_many_connections_stall() -> None:
    """What the other tests show would show nothing otherwise."""
    stalled = sum(run.protected(make(seed), NO_CURES).stalled for seed in _FEW)
    assert len(_FEW) // 20 < stalled < len(_FEW) // 4


def test_where_nothing_is_lost_nothing_waits_for_a_time_out() -> None:
    assert wrong(_MANY) == []


def test_what_is_lost_on_the_paths_inside_is_sent_again() -> None:
    assert wrong(_MANY, 0.01) == []


def test_much_may_be_lost() -> None:
    assert wrong(_FEW, 0.03) == []


@pytest.mark.parametrize("loss", [0.0, 0.01])
@pytest.mark.parametrize("checkpoints", ["synchronising", "command"])
def test_checkpoints_in_mid_transfer_stall_nothing(checkpoints: str, loss: float) -> None:
    assert wrong(_FEW, loss, checkpoints) == []
