"""Observe mode and passthrough rules with real stacks: the client gets the primary's bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from colo_bridge.lab import daemon, process, records, workload
from colo_bridge.lab.layout import CHECKPOINT_LOG, CONFIG_FILE, GUESTS, Role
from tests.lab.helpers import colo, inside, lab, on_host, wait_until

LENGTH = 20_000_000
OTHER_PORT = 7100
OTHER_BYTES = 300_000
OBSERVING = ("--set", "compare.mode=observe", "--set", "compare.timeout=1.0")
SERVER = f"""
import socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"same " * {OTHER_BYTES // 10} + sys.argv[1].encode() * {OTHER_BYTES // 18})
socketserver.ThreadingTCPServer.request_queue_size = 100
socketserver.ThreadingTCPServer(("", {OTHER_PORT}), Handler).serve_forever()
"""
CLIENT = f"""
import socket
connection, text = socket.create_connection(("10.77.0.2", {OTHER_PORT}), 10), b""
while part := connection.recv(65536):
    text += part
print(text.count(b"primary "), text.count(b"secondary"), text.count(b"same "))
"""


def start_different_servers() -> None:
    """Servers whose answers begin alike and go on differently."""
    names = {Role.PRIMARY: "primary  ", Role.SECONDARY: "secondary"}
    workload.serve_in_guests({guest: [sys.executable, "-c", SERVER, names[guest]] for guest in GUESTS}, OTHER_PORT)


def ask_different_servers() -> None:
    assert inside(Role.CLIENT, sys.executable, "-c", CLIENT).split() == [
        str(OTHER_BYTES // 18),
        "0",
        str(OTHER_BYTES // 10),
    ]


def counter(name: str) -> int:
    return int(daemon.status()["counters"][name])


@pytest.fixture(scope="class")
def observed() -> Iterator[None]:
    with lab(*OBSERVING):
        workload.start_service()
        yield


def all_is_equal(counters: dict[str, int]) -> bool:
    """But for what is never compared: the guests' neighbour discovery."""
    observed = counters["observed_packets"]
    compared = observed - counters["observed_uncompared_packets"]
    return counters["observed_equal_packets"] == compared and observed == counters["released_packets"]


@pytest.mark.usefixtures("observed")
class TestObserve:
    def test_the_state_is_observing(self) -> None:
        assert daemon.status()["state"] == "observing"
        done = colo("status", str(CONFIG_FILE))
        assert done.returncode == 3
        assert "observing" in done.stdout

    @pytest.mark.parametrize("arguments", [["get", "--bytes", str(LENGTH), "--verify"], ["turns", "--count", "200"]])
    def test_equal_replicas_are_found_equal(self, arguments: list[str]) -> None:
        before = counter("observed_packets")
        assert workload.client(arguments)["correct"]
        # The last acknowledgements of a connection may still come when its client has ended.
        wait_until(lambda: all_is_equal(daemon.status()["counters"]), 10, "all is compared, and equal")
        assert counter("observed_packets") > before
        assert sum(daemon.status()["divergences"].values()) == 0

    def test_the_client_sends_as_fast_as_it_likes(self) -> None:
        assert workload.client(["put", "--bytes", str(LENGTH), "--verify"])["correct"]
        assert daemon.content_divergences() == 0

    def test_another_answer_is_counted_and_the_client_gets_the_primarys(self) -> None:
        start_different_servers()
        equal, unequal = counter("observed_equal_bytes"), counter("observed_unequal_bytes")
        for _ in range(3):
            ask_different_servers()
        wait_until(lambda: daemon.content_divergences() == 3, 10, "each connection has diverged")
        wait_until(lambda: not counter("held_packets_now"), 10, "all is compared")
        assert counter("observed_unequal_bytes") - unequal > OTHER_BYTES
        assert counter("observed_equal_bytes") - equal > OTHER_BYTES
        service = daemon.status()["observed_services"][f"tcp {OTHER_PORT} of the guest"]
        assert service == {"flows": 3, "diverged": 3}

    def test_without_the_secondarys_service_traffic_flows_on(self) -> None:
        before = sum(daemon.status()["divergences"].values())
        for record in records.processes():
            if record.role is Role.SECONDARY:
                process.kill(record.process)
        for operation in ("get", "put"):
            assert workload.client([operation, "--bytes", str(LENGTH), "--verify"])["correct"]
        wait_until(lambda: sum(daemon.status()["divergences"].values()) >= before + 2, 10, "the silence is counted")
        assert not CHECKPOINT_LOG.exists()
        assert counter("dropped_packets") == counter("checkpoint_requests") == 0

    def test_a_dead_daemon_holds_nothing(self) -> None:
        rules = on_host("sh", "-c", "iptables-legacy -t mangle -S; iptables-nft -t mangle -S")
        assert "--queue-bypass" in rules
        found = daemon.find()
        assert found
        process.kill(found)
        assert workload.client(["get", "--bytes", str(LENGTH), "--verify"])["correct"]


class TestPassthrough:
    def test_rules_come_and_go_at_run_time(self) -> None:
        with lab("--set", "compare.timeout=1.0"):
            start_different_servers()
            ask_different_servers()
            seen = daemon.content_divergences()
            assert seen > 0
            self._rule("add", "--name", "other", "--protocol", "tcp", "--guest-ports", str(OTHER_PORT))
            ask_different_servers()
            assert daemon.content_divergences() == seen
            (rule,) = json.loads(self._rule("list", "--json").stdout)["rules"]
            assert (rule["name"], rule["protocol"], rule["guest_ports"]) == ("other", 6, str(OTHER_PORT))
            assert rule["bytes"] > OTHER_BYTES
            assert rule["secondary_packets"] > 0
            assert counter("passthrough_bytes") == rule["bytes"]
            self._rule("del", "--name", "other")
            ask_different_servers()
            assert daemon.content_divergences() > seen

    def _rule(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = colo("passthrough", verb, str(CONFIG_FILE), *arguments)
        assert done.returncode == 0, done.stderr
        return done
