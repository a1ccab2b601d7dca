"""Two hosts whose events, answers and packets arrive in any order: no packet meets those of another epoch, ever."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.checkpoint.two_hosts import Secondary, Violation, live

WORLDS = 40


@pytest.mark.parametrize("first", range(0, 5 * WORLDS, WORLDS))
def test_no_epoch_meets_another_and_comparison_always_comes_back(first: int) -> None:
    counts = Counter[str]()
    for seed in range(first, first + WORLDS):
        counts += live(seed).counts
    # It was no quiet life.
    for what in ("compared", "delivered", "stale", "discarded", "checkpoints", "failures", "restarts", "links"):
        assert counts[what] > WORLDS / 20, (what, counts)
    for side in ("primary", "secondary"):
        for what in ("resumed", "spoiled", "lost", "goes_on", "suspended"):
            assert counts[f"{side} {what}"] > 5, (side, what, counts)


def test_without_an_answer_of_the_secondarys_hypervisor_the_epochs_would_meet(monkeypatch) -> None:
    """The simulation finds what the fence is there for."""
    monkeypatch.setattr(Secondary, "fence", lambda host, epoch: host.perform(host.machine.fenced(epoch)))
    with pytest.raises(Violation, match=r"is (compared with|delivered in)"):
        for seed in range(600, 1_000):
            live(seed)
