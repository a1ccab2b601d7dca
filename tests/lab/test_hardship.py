"""Many transfers at once while every core is busy with something else, and while mirrored packets get lost.

The long version: `scripts/soak-lab`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from colo_bridge.lab import daemon, workload
from colo_bridge.lab.layout import GUEST_ADDRESS, GUEST_IPV6_ADDRESS
from colo_bridge.lab.shape import Shape
from tests.lab.disturbance import busy_cores, lossy_mirror
from tests.lab.helpers import lab

PROCESSES, LENGTH = 20, 1_000_000
LOST_ONE_OF = 256
TRANSFERS = [("get", GUEST_ADDRESS), ("put", GUEST_ADDRESS), ("get", GUEST_IPV6_ADDRESS), ("put", GUEST_IPV6_ADDRESS)]


@pytest.fixture(scope="module", autouse=True, params=Shape)
def _lab(request: pytest.FixtureRequest) -> Iterator[None]:
    with lab(shape=request.param):
        workload.start_service()
        yield


@contextmanager
def nothing_diverges() -> Iterator[None]:
    """No one waits for as long as the compare timeout, either."""
    before = daemon.status()["divergences"]
    yield
    after = daemon.status()
    assert after["divergences"] == before, after["last_divergence"]


def transfer(operation: str, address: str) -> None:
    arguments = [operation, "--host", address, "--bytes", str(LENGTH), "--verify", "--processes", str(PROCESSES)]
    report = workload.client(arguments)
    assert len(report["connections"]) == PROCESSES
    assert report["correct"], [entry for entry in report["connections"] if not entry["correct"]]


@pytest.mark.parametrize(("operation", "address"), TRANSFERS)
def test_busy_cores_make_no_one_wait_for_a_timeout(operation: str, address: str) -> None:
    with busy_cores(), nothing_diverges():
        transfer(operation, address)


@pytest.mark.parametrize(("operation", "address"), TRANSFERS)
def test_lost_mirrored_packets_make_no_one_wait_for_a_timeout(operation: str, address: str) -> None:
    with busy_cores(), nothing_diverges(), lossy_mirror(LOST_ONE_OF) as lost:
        while not lost():
            transfer(operation, address)
