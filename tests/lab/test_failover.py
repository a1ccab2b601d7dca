"""The primary's host dies in mid-transfer: the client's connection goes on, and what it saw is measured honestly."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from colo_bridge.lab import daemon, failover, files, workload
from colo_bridge.lab.failover import judge
from colo_bridge.lab.layout import LINK_PORT, UPLINK_PORT, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.pulse import Move
from colo_bridge.lab.shape import Host, Shape
from colo_bridge.lab.transfer import Content, Ended, Operation, Transfer
from tests.lab.helpers import colo, lab, on_host, wait_until

LENGTH, RATE, SEED = 60_000_000, 60_000_000, 11
PLAN = failover.Plan(LENGTH, RATE)
CUT = 0.3
SHORT = ("get", "--bytes", "1000000", "--verify")


@pytest.fixture(scope="module")
def content() -> Iterator[Content]:
    file = files.directory(LENGTH) / "content.bin"
    try:
        yield Content(file, LENGTH, SEED, files.make(file, LENGTH, SEED))
    finally:
        files.remove()


@pytest.fixture(scope="class")
def native() -> Iterator[None]:
    with lab("--native", shape=Shape.TWO_HOSTS):
        workload.start_http_service()
        yield


@pytest.mark.usefixtures("native")
class TestMeasuring:
    """In a lab without daemons, where the network is gone for a known time."""

    @pytest.mark.parametrize("operation", list(Operation))
    def test_a_pause_is_as_long_as_it_is(self, operation: Operation, content: Content) -> None:
        with closing(Transfer(operation, content, RATE)) as transfer:
            time.sleep(0.3)
            cut = time.monotonic()
            _uplink("down")
            time.sleep(CUT)
            _uplink("up")
            mended = time.monotonic()
            ended = transfer.end()
        outcome = judge(operation, content, ended, cut, mended)
        assert outcome.ok, outcome
        assert outcome.usual_pause_ms < 1000 * CUT < outcome.pause_ms
        assert outcome.after_command_ms < outcome.pause_ms - 900 * CUT
        assert 0 < outcome.bytes_before < LENGTH

    def test_a_failover_that_nobody_does_is_a_failure(self, content: Content) -> None:
        outcome = failover.survive(Operation.DOWNLOAD, content, PLAN)
        assert not outcome.ok
        assert "no daemon listens" in outcome.problem
        assert "WRONG" in str(outcome)


GOOD = Ended("sum", [Move(1.0, 0), Move(2.0, 50), Move(3.0, 100)], {"num_connects": 1}, same_connection=True)


@pytest.mark.parametrize(
    ("ended", "died", "problem"),
    [
        (GOOD, 2.1, ""),
        (replace(GOOD, sha256="other"), 2.1, "SHA-256 is other"),
        (replace(GOOD, sha256=""), 2.1, "SHA-256 is missing"),
        (replace(GOOD, same_connection=False), 2.1, "not one connection"),
        (replace(GOOD, report={"errormsg": "reset by peer"}), 2.1, "reset by peer"),
        (GOOD, 3.5, "over before the host died"),
        (replace(GOOD, moves=GOOD.moves[:2]), 2.1, "nothing moved after"),
    ],
)
def test_every_kind_of_failure_shows(ended: Ended, died: float, problem: str) -> None:
    outcome = judge(Operation.UPLOAD, Content(Path("/x"), 100, 0, "sum"), ended, died, died + 0.1)
    assert outcome.ok is not bool(problem)
    assert problem in outcome.problem


@pytest.mark.parametrize("number", [1, 2])
def test_a_host_dies_and_its_client_notices_nothing(number: int, content: Content) -> None:
    """At another moment each time; the long series is `scripts/soak-failover`."""
    outcomes = list(failover.both(content, PLAN, Options(), print))
    assert all(outcome.ok for outcome in outcomes), outcomes


def test_of_two_sides_that_are_told_to_go_on_alone_one_does() -> None:
    first, second = Shape.TWO_HOSTS.hosts
    with lab("--arbiter", "--set", "link.secondary_timeout=60", shape=Shape.TWO_HOSTS):
        workload.start_service()
        assert workload.client(SHORT)["correct"]
        on_host("ip", "link", "set", LINK_PORT, "down", host=first.role)
        wait_until(lambda: daemon.state_of(first) == "lost", 10, "the primary misses its secondary")
        wait_until(lambda: daemon.state_of(second) == "alone", 10, "the secondary misses its primary")
        with ThreadPoolExecutor(2) as pool:
            told = [
                pool.submit(colo, verb, str(host.config_file)) for verb, host in (("solo", first), ("failover", second))
            ]
        wait_until(lambda: _alone(first, second) == 1, 10, "one of them has won")
        assert sorted(command.result().returncode for command in told) == [0, 1]
        assert workload.client(SHORT)["correct"]
        on_host("ip", "link", "set", LINK_PORT, "up", host=first.role)
        wait_until(lambda: daemon.state_of(second) in ("live", "unsynchronised"), 10, "they see each other again")
        assert _alone(first, second) == 1
        assert workload.client(SHORT)["correct"]


def _alone(first: Host, second: Host) -> int:
    """How many speak to the clients."""
    return [daemon.state_of(first) == "solo", daemon.state_of(second) == "live"].count(True)


def _uplink(state: str) -> None:
    subprocess.run(["ip", "-netns", Role.HOST_A.namespace, "link", "set", UPLINK_PORT, state], check=True)
