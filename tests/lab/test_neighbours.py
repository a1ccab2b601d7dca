"""The guests and the client find each other by themselves: real ARP and neighbour discovery, real neighbour tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from colo_bridge.lab import daemon, workload
from colo_bridge.lab.layout import (
    CLIENT_ADDRESS,
    CLIENT_IPV6_ADDRESS,
    CLIENT_MAC,
    GUEST_ADDRESS,
    GUEST_DEVICE,
    GUEST_IPV6_ADDRESS,
    GUEST_MAC,
    GUESTS,
    Role,
)
from tests.lab.helpers import inside, lab, wait_until

FAMILIES = pytest.mark.parametrize(
    ("client", "guest"),
    [(CLIENT_ADDRESS, GUEST_ADDRESS), (CLIENT_IPV6_ADDRESS, GUEST_IPV6_ADDRESS)],
    ids=["IPv4", "IPv6"],
)
DATAGRAM = """
import socket, sys
family, kind, protocol, _, peer = socket.getaddrinfo(sys.argv[1], 9, type=socket.SOCK_DGRAM)[0]
socket.socket(family, kind, protocol).sendto(b"anybody?", peer)
"""
TIMES = 5
"""How often a neighbour is forgotten during one transfer."""


@pytest.fixture(scope="module", autouse=True)
def _lab(_only_lab: None) -> Iterator[None]:
    with lab():
        workload.start_service()
        yield


@FAMILIES
def test_everybody_finds_everybody(client: str, guest: str) -> None:
    before = daemon.status()
    assert workload.client(["turns", "--host", guest, "--count", "100"])["correct"]
    assert _entry(Role.CLIENT, guest)["lladdr"] == GUEST_MAC
    assert [_entry(role, client)["lladdr"] for role in GUESTS] == [CLIENT_MAC] * 2
    assert daemon.status()["divergences"] == before["divergences"]


@FAMILIES
@pytest.mark.parametrize("who", GUESTS)
@pytest.mark.parametrize(
    "transfer", [["put", "--bytes", "1000000000"], ["turns", "--count", "10000"]], ids=["put", "turns"]
)
def test_one_guest_forgets_its_neighbour_and_no_one_waits(
    client: str, guest: str, who: Role, transfer: list[str]
) -> None:
    """The other goes on with what it knows, so that it does not ask."""
    operation, *more = transfer
    before = daemon.status()
    with ThreadPoolExecutor(1) as pool:
        transferred = pool.submit(workload.client, [operation, "--host", guest, *more])
        times = 0
        while times < TIMES and not transferred.done():
            _forget(who)
            wait_until(lambda: "lladdr" in _entry(who, client) or transferred.done(), 5, "found again")
            times += 1
    assert transferred.result()["correct"]
    after = daemon.status()
    assert after["divergences"] == before["divergences"], after["last_divergence"]
    if who is Role.SECONDARY:
        assert _answered(after) - _answered(before) >= times > 0
    assert after["counters"]["rewriter_neighbours_unknown"] == 0


def test_a_probe_is_answered() -> None:
    """The secondary asks whether a neighbour that it knows is still there, and the primary does not."""
    workload.client(["turns", "--count", "10"])
    before = daemon.status()
    inside(
        Role.SECONDARY,
        *("ip", "neighbour", "change", CLIENT_ADDRESS, "dev", GUEST_DEVICE, "lladdr", CLIENT_MAC, "nud", "probe"),
    )
    wait_until(lambda: _entry(Role.SECONDARY, CLIENT_ADDRESS)["state"] == ["REACHABLE"], 5, "answered")
    assert _answered(daemon.status()) > _answered(before)


@pytest.mark.parametrize("unknown", ["10.77.0.99", "fd77::99"])
def test_who_was_never_heard_is_not_found(unknown: str) -> None:
    before = daemon.status()["counters"]["rewriter_neighbours_unknown"]
    inside(Role.SECONDARY, sys.executable, "-c", DATAGRAM, unknown)
    wait_until(lambda: daemon.status()["counters"]["rewriter_neighbours_unknown"] > before, 5, "asked for")
    assert "lladdr" not in _entry(Role.SECONDARY, unknown)


def _forget(who: Role) -> None:
    inside(who, "ip", "neighbour", "flush", "dev", GUEST_DEVICE)


def _entry(role: Role, address: str) -> dict[str, Any]:
    """Of the role's neighbour table; empty if there is none."""
    entries = json.loads(inside(role, "ip", "-j", "neighbour", "show", "dev", GUEST_DEVICE))
    return next((entry for entry in entries if entry["dst"] == address), {})


def _answered(status: dict[str, Any]) -> int:
    return int(status["counters"]["rewriter_neighbours_answered"])
