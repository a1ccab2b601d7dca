"""QEMU's COLO with both guests on one host, run by scripts/test-hypervisor and no part of the ordinary tests."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import pytest

from colo_bridge.lab import daemon
from colo_bridge.lab.layout import DAEMON_LOG, Role
from tests.hypervisor.guests import FILE, ask_for_a_checkpoint, execute, get, kill, sha256
from tests.lab.helpers import lab, wait_until

CHECKPOINTS = 100
SECONDS = 30.0


@pytest.fixture(scope="module", autouse=True)
def _lab() -> Iterator[None]:
    with lab("--guests", "qemu"):
        wait_until(lambda: checkpoints()["done"] >= 1, SECONDS, "the first checkpoint")
        yield


def checkpoints() -> dict[str, int]:
    return daemon.status()["checkpoints"]


def replica(name: str) -> str:
    return daemon.status()["checkpoint"]["replicas"][name]


def test_a_daemon_asks_for_a_checkpoint_when_the_replicas_are_in_colo() -> None:
    assert daemon.status()["checkpoint"]["reasons"]["start"] == 1
    assert replica("primary") == "colo"
    wait_until(lambda: replica("secondary") == "colo", SECONDS, "the secondary's QEMU is found")


def test_the_same_answer_of_both_leaves_without_a_checkpoint() -> None:
    before = checkpoints()["done"]
    for _ in range(3):
        assert sha256(get("/file")) == FILE
    # One for each second whose change the guests saw at different times is fine: the answers carry the date.
    assert checkpoints()["done"] - before <= 3


def test_answers_that_never_agree_cost_a_checkpoint_each() -> None:
    before, seconds = checkpoints(), []
    for _ in range(CHECKPOINTS):
        began = time.monotonic()
        assert get("/cgi-bin/clock").startswith(b"now at ")
        seconds.append(time.monotonic() - began)
    after = checkpoints()
    assert after["done"] - before["done"] >= CHECKPOINTS
    assert daemon.state_of() == "protected"
    figures = {key: after[key] - before[key] for key in ("done", "failed", "spoiled")}
    print(f"\ncheckpoints: {figures}")
    print(f"a request: p50 {statistics.median(seconds) * 1e3:.0f} ms, at most {max(seconds) * 1e3:.0f} ms")


def test_a_checkpoint_can_be_had_by_hand_while_a_file_is_fetched() -> None:
    for _ in range(10):
        ask_for_a_checkpoint()
        assert sha256(get("/file")) == FILE


def test_an_operators_stop_and_cont_is_no_checkpoint() -> None:
    before = checkpoints()["done"]
    execute(Role.PRIMARY, "stop")
    wait_until(lambda: replica("primary") == "halted", SECONDS, "the primary is halted")
    execute(Role.PRIMARY, "cont")
    wait_until(lambda: replica("primary") == "colo", SECONDS, "the primary goes on")
    assert checkpoints()["done"] == before


def test_the_end_of_the_secondary_is_a_state() -> None:
    kill(Role.SECONDARY)
    wait_until(lambda: replica("secondary") == "offline", SECONDS, "the secondary is missed")
    ask_for_a_checkpoint()
    execute(Role.PRIMARY, "x-colo-lost-heartbeat")
    # Where it goes on alone it is out of COLO, and running.
    wait_until(lambda: replica("primary") in ("exited", "running"), SECONDS, "the primary leaves COLO")
    assert "the primary has left COLO" in DAEMON_LOG.read_text()
    assert daemon.state_of() == "protected"
    assert DAEMON_LOG.read_text().count("Traceback") == 0
