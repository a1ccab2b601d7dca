"""The primary's host dies in mid-transfer: the client's connection goes on, and what it saw is measured honestly."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from colo_bridge.lab import files, workload
from colo_bridge.lab.failover import judge
from colo_bridge.lab.layout import UPLINK_PORT, Role
from colo_bridge.lab.pulse import Move
from colo_bridge.lab.shape import Shape
from colo_bridge.lab.transfer import Content, Ended, Operation, Transfer
from tests.lab.helpers import lab

LENGTH, RATE, SEED = 60_000_000, 60_000_000, 11
CUT = 0.3


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
        transfer = Transfer(operation, content, RATE)
        try:
            time.sleep(0.3)
            cut = time.monotonic()
            _uplink("down")
            time.sleep(CUT)
            _uplink("up")
            mended = time.monotonic()
            ended = transfer.end()
        finally:
            transfer.close()
        outcome = judge(operation, content, ended, cut, mended)
        assert outcome.ok, outcome
        assert outcome.usual_pause_ms < 1000 * CUT < outcome.pause_ms
        assert outcome.after_command_ms < outcome.pause_ms - 900 * CUT
        assert 0 < outcome.bytes_before < LENGTH


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


def _uplink(state: str) -> None:
    subprocess.run(["ip", "-netns", Role.HOST_A.namespace, "link", "set", UPLINK_PORT, state], check=True)
