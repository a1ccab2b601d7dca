"""A side that was lost comes back as the secondary, in mid-download: of the primary, or of the one that took over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from colo_bridge.lab import daemon, failback, failover, files, lifecycle, process, records, workload
from colo_bridge.lab.layout import GUEST_ADDRESS, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.shape import FIRST_HOST_AS_SECONDARY, Host, Shape
from colo_bridge.lab.transfer import Content, Ended, Operation, Transfer
from tests.lab.helpers import inside, wait_until

A, B = Shape.TWO_HOSTS.hosts
LENGTH, RATE, SEED = 240_000_000, 12_000_000, 11
OPTIONS = Options(shape=Shape.TWO_HOSTS, settings=("link.heartbeat_timeout=0.8",))
SECONDS = 30.0


@pytest.fixture(scope="module")
def content() -> Iterator[Content]:
    file = files.directory(LENGTH) / "content.bin"
    try:
        yield Content(file, LENGTH, SEED, files.make(file, LENGTH, SEED))
    finally:
        files.remove()


@pytest.fixture
def download(content: Content) -> Iterator[Transfer]:
    """One that is under way in a lab that protects it."""
    with lifecycle.running(OPTIONS):
        workload.start_http_service()
        with closing(Transfer(Operation.DOWNLOAD, content, RATE)) as transfer:
            yield transfer


def enters(host: Host, state: str) -> None:
    wait_until(lambda: daemon.state_of(host) == state, SECONDS, f"{host.role} is {state}")


def begin_to_protect(primary: Host, secondary: Host) -> None:
    enters(secondary, "unsynchronised")
    failback.protect(primary)
    enters(primary, "protected")
    enters(secondary, "standby")


def a_new_connection_is_compared(host: Host) -> None:
    before = daemon.status(host)
    inside(Role.CLIENT, "curl", "-sf", "-o", "/dev/null", f"http://{GUEST_ADDRESS}/1000000/{SEED}/0")
    after = daemon.status(host)
    assert after["counters"]["secondary_bytes"] > before["counters"]["secondary_bytes"] + 1_000_000
    assert after["divergences"] == before["divergences"]


def is_right(ended: Ended, content: Content) -> bool:
    return ended.same_connection and not ended.problem and ended.sha256 == content.sha256


def test_a_secondary_that_was_lost_comes_back(download: Transfer, content: Content) -> None:
    lost = daemon.find(B)
    assert lost
    process.kill(lost)
    for record in records.processes():
        if record.role is Role.SECONDARY:
            process.kill(record.process)
    enters(A, "solo")
    daemon.start(B)
    workload.serve_in_guests({Role.SECONDARY: [*workload.SERVICE, "http"]}, workload.HTTP_PORT)
    begin_to_protect(A, B)
    assert download.is_running()
    assert daemon.status(A)["unsynchronised_connections"] == 1
    a_new_connection_is_compared(A)
    assert is_right(download.end(), content)


def test_a_survivor_takes_a_secondary_which_takes_over_from_it(download: Transfer, content: Content) -> None:
    failover.kill_host(A)
    assert failover.fail_over(B)["state"] == "live"
    failback.rebuild(OPTIONS)
    begin_to_protect(B, FIRST_HOST_AS_SECONDARY)
    assert download.is_running()
    status = daemon.status(B)
    assert (status["role"], status["live"], status["unsynchronised_connections"]) == ("primary", True, 1)
    a_new_connection_is_compared(B)
    assert is_right(download.end(), content)
    with closing(Transfer(Operation.DOWNLOAD, content, 4 * RATE)) as second:
        wait_until(lambda: daemon.status(B)["counters"]["secondary_bytes"] > LENGTH // 8, SECONDS, "both send it")
        failover.kill_host(B)
        assert failover.fail_over(FIRST_HOST_AS_SECONDARY)["state"] == "live"
        assert is_right(second.end(), content)
