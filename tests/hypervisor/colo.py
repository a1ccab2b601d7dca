"""QEMU's COLO with two guests, run by scripts/test-hypervisor; no part of the ordinary tests, which need no guests."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hypervisor.rig import Rig, wait_until

FILE = hashlib.sha256(b"q" * (8 << 20)).hexdigest()
CHECKPOINTS = 100


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("colo"))
    yield made
    made.end()


def test_a_daemon_asks_for_a_checkpoint_when_the_replicas_are_in_colo(rig: Rig) -> None:
    assert rig.status()["checkpoint"]["reasons"]["start"] == 1
    assert rig.replica("primary") == rig.replica("secondary") == "colo"


def test_the_same_answer_of_both_leaves_without_a_checkpoint(rig: Rig) -> None:
    before = rig.checkpoints()["done"]
    for _ in range(3):
        assert hashlib.sha256(rig.get("/file")).hexdigest() == FILE
    # One for each second whose change the guests saw at different times is fine: the answers carry the date.
    assert rig.checkpoints()["done"] - before <= 3


def test_answers_that_never_agree_cost_a_checkpoint_each(rig: Rig) -> None:
    before, seconds = rig.checkpoints(), []
    for _ in range(CHECKPOINTS):
        began = time.monotonic()
        assert rig.get("/cgi-bin/clock").startswith(b"now at ")
        seconds.append(time.monotonic() - began)
    after = rig.checkpoints()
    assert after["done"] - before["done"] >= CHECKPOINTS
    assert rig.state() == "protected"
    figures = {key: after[key] - before[key] for key in ("done", "failed", "spoiled")}
    print(f"\ncheckpoints: {figures}")
    print(f"a request: p50 {statistics.median(seconds) * 1e3:.0f} ms, at most {max(seconds) * 1e3:.0f} ms")


def test_a_checkpoint_can_be_had_by_hand_while_a_file_is_fetched(rig: Rig) -> None:
    for _ in range(10):
        rig.primary.execute("migrate-set-parameters", {"x-checkpoint-delay": 1_000_000})
        assert hashlib.sha256(rig.get("/file")).hexdigest() == FILE


def test_an_operators_stop_and_cont_is_no_checkpoint(rig: Rig) -> None:
    before = rig.checkpoints()["done"]
    rig.primary.execute("stop")
    wait_until(lambda: rig.replica("primary") == "halted", "the primary is halted")
    rig.primary.execute("cont")
    wait_until(lambda: rig.replica("primary") == "colo", "the primary goes on")
    assert rig.checkpoints()["done"] == before


def test_the_end_of_the_secondary_is_a_state(rig: Rig) -> None:
    rig.secondary.end()
    wait_until(lambda: rig.replica("secondary") == "offline", "the secondary is missed")
    rig.primary.execute("migrate-set-parameters", {"x-checkpoint-delay": 1_000_000})
    rig.primary.execute("x-colo-lost-heartbeat")
    # Where it goes on alone it is out of COLO, and running.
    wait_until(lambda: rig.replica("primary") in ("exited", "running"), "the primary leaves COLO")
    assert "the primary has left COLO" in (rig.directory / "daemon.log").read_text()
    assert rig.state() == "protected"
    assert Path(rig.directory / "daemon.log").read_text().count("Traceback") == 0
