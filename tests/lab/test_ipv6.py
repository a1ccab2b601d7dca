"""IPv6 and fragments through the protected service, with real stacks in the guests."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyroute2 import netns

from colo_bridge.lab import daemon, execute, files, workload
from colo_bridge.lab.layout import GUEST_ADDRESS, GUEST_IPV6_ADDRESS, GUESTS, LOG_DIR, Role
from tests.lab.helpers import inside, lab, on_host, wait_until
from tests.lab.servers import ECHO_PORT, HTTP_PORT

SERVERS = [sys.executable, "-m", "tests.lab.servers"]
LENGTH = 120_000_000
NEVER_COMPARED = ("uncompared_packets", "unsynchronised_packets", "released_by_checkpoint_packets")
DATAGRAMS, AT_ONCE, DATAGRAM_BYTES = 400, 8, 8_192
URL = f"http://[{GUEST_IPV6_ADDRESS}]"
CONNTRACK = "for family in ip ip6; do ${family}tables -A FORWARD -m conntrack --ctstate INVALID; done"
"""A rule that matches nothing here and has no target: what it brings is that fragments are put together."""


@contextmanager
def nothing_diverges() -> Iterator[dict[str, Any]]:
    """Neither unequal bytes nor a timeout; afterwards it holds what the counters have grown by."""
    before, grown = daemon.status(), {}
    yield grown
    after = daemon.status()
    assert after["divergences"] == before["divergences"], after["last_divergence"]
    grown |= {name: after["counters"][name] - count for name, count in before["counters"].items()}


@pytest.fixture(scope="class")
def directories() -> Iterator[list[Path]]:
    """A web server in each guest, with equal files."""
    root = files.directory(6 * LENGTH)
    try:
        found = [root / guest for guest in GUESTS]
        for directory in found:
            directory.mkdir()
            files.make(directory / "down.bin", LENGTH, 1)
        with lab():
            workload.serve_in_guests({guest: [*SERVERS, "http", str(root / guest)] for guest in GUESTS}, HTTP_PORT)
            yield found
    finally:
        files.remove()


@pytest.fixture
def echo(conntrack: bool) -> Iterator[None]:
    with lab():
        if conntrack:
            on_host("sh", "-c", CONNTRACK)
        for guest in GUESTS:
            execute.detach(guest, [*SERVERS, "echo"])
        wait_until(lambda: _logs().count("ready") == len(GUESTS), 10, "both guests listen")
        yield


class TestHttp:
    def test_get(self, directories: list[Path], tmp_path: Path) -> None:
        with nothing_diverges() as grown:
            _curl("--output", str(tmp_path / "down.bin"), f"{URL}/down.bin")
        assert files.sha256(tmp_path / "down.bin") == files.sha256(directories[0] / "down.bin")
        assert grown["released_bytes"] + grown["forwarded_bytes"] > LENGTH
        assert grown["secondary_bytes"] > LENGTH
        assert not any(grown[name] for name in NEVER_COMPARED)

    def test_put_reaches_both_guests(self, directories: list[Path]) -> None:
        with nothing_diverges() as grown:
            _curl("--upload-file", str(directories[0] / "down.bin"), f"{URL}/up.bin")
        sent = files.sha256(directories[0] / "down.bin")
        assert [files.sha256(directory / "up.bin") for directory in directories] == [sent] * 2
        assert grown["released_packets"] > 0
        assert not any(grown[name] for name in NEVER_COMPARED)

    def test_many_connections(self, directories: list[Path]) -> None:
        workload.start_service()
        with nothing_diverges():
            report = workload.client(
                ["get", "--host", GUEST_IPV6_ADDRESS, "--bytes", "2000000", "--verify", "--connections", "20"]
            )
        assert report["correct"], report

    def test_a_wrong_byte_is_found(self, directories: list[Path], tmp_path: Path) -> None:
        before = daemon.content_divergences()
        files.make(directories[0] / "marked.bin", 1_000_000, 2)
        (directories[1] / "marked.bin").write_bytes((directories[0] / "marked.bin").read_bytes())
        files.flip_byte(directories[1] / "marked.bin", 700_000)
        _curl("--output", str(tmp_path / "marked.bin"), f"{URL}/marked.bin")
        assert daemon.content_divergences() == before + 1
        assert files.sha256(tmp_path / "marked.bin") == files.sha256(directories[0] / "marked.bin")


@pytest.mark.parametrize("conntrack", [False, True], ids=["", "connection tracking"])
class TestFragments:
    @pytest.mark.parametrize("address", [GUEST_ADDRESS, GUEST_IPV6_ADDRESS], ids=["IPv4", "IPv6"])
    @pytest.mark.usefixtures("echo")
    def test_every_large_datagram_is_answered(self, conntrack: bool, address: str) -> None:
        with nothing_diverges() as grown:
            assert _echoed(address) == DATAGRAMS
        pieces = -(-DATAGRAM_BYTES // 1_472)
        assert grown["secondary_packets"] >= DATAGRAMS * pieces
        if conntrack:
            assert grown["primary_packets"] < DATAGRAMS * pieces
        else:
            assert grown["primary_packets"] >= DATAGRAMS * pieces


def _curl(*arguments: str) -> None:
    inside(Role.CLIENT, "curl", "--silent", "--show-error", "--fail", "--max-time", "50", *arguments)


def _logs() -> str:
    return "".join(log.read_text() for log in LOG_DIR.iterdir())


def _echoed(address: str) -> int:
    """How many of the datagrams come back as they were sent, some of them at once."""

    def talk() -> int:
        netns.setns(Role.CLIENT.namespace)
        random = Random(address)
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5.0)
            client.connect((address, ECHO_PORT))
            return sum(_turn(client, random) for _ in range(DATAGRAMS // AT_ONCE))

    # Only a thread that ends enters the namespace.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(talk).result()


def _turn(client: socket.socket, random: Random) -> int:
    sent = {random.randbytes(DATAGRAM_BYTES) for _ in range(AT_ONCE)}
    for datagram in sent:
        client.send(datagram)
    return len(sent & {client.recv(1 << 16) for _ in sent})
