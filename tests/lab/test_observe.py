"""Observe mode and passthrough rules with real stacks: the client gets the primary's bytes, whatever else happens."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from colo_bridge.lab import daemon, workload
from tests.lab.helpers import lab

LENGTH = 20_000_000


@pytest.fixture(scope="class")
def observed() -> Iterator[None]:
    with lab("--set", "compare.mode=observe", "--set", "compare.timeout=1.0"):
        workload.start_service()
        yield


def _counters() -> dict[str, int]:
    return daemon.status()["counters"]


@pytest.mark.usefixtures("observed")
class TestObserve:
    def test_equal_replicas_are_found_equal(self) -> None:
        for operation in ("get", "put"):
            assert workload.client([operation, "--bytes", str(LENGTH), "--verify"])["correct"]
        assert workload.client(["turns", "--count", "200"])["correct"]
        status = daemon.status()
        print(json.dumps(status, indent=1))
