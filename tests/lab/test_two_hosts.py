"""The lab with two hosts: its cables, its daemons' files, and all that the lab with one host shows."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from colo_bridge import config
from colo_bridge.errors import OperatorError
from colo_bridge.lab import configuration, daemon, process, workload
from colo_bridge.lab.layout import (
    CLIENT_ADDRESS,
    CLIENT_MAC,
    GUEST_ADDRESS,
    GUEST_DEVICE,
    GUEST_IPV6_ADDRESS,
    LINK_ADDRESSES,
    LINK_PORT,
    Role,
)
from colo_bridge.lab.options import Options
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.shape import Host, Shape
from tests.lab.helpers import colo, devices, inside, lab, on_host, wait_until
from tests.lab.test_bad_input import NOT_IP, TAGGED, Capture, send
from tests.lab.transfers import LENGTH, Transfers, busy_client, client_is_quiet, no_divergence, report_of

FIRST, SECOND = Shape.TWO_HOSTS.hosts


class TestFiles:
    """What the two daemons are told."""

    @pytest.mark.parametrize("options", [Options(), Options(tls=False), Options(arbiter=True)])
    def test_both_are_valid_and_agree(self, options: Options) -> None:
        first, second = _configurations(options)
        assert (first.role, second.role) == ("primary", "secondary")
        assert first.digest() == second.digest()
        assert first.link and second.link
        assert first.link.listen == second.link.peer
        assert bool(first.link.tls_directory) is options.tls
        assert bool(first.arbiter.command) is options.arbiter
        assert first.control_socket != second.control_socket

    def test_a_setting_is_for_both_or_for_one(self) -> None:
        own = {Role.HOST_A: ("link.secondary_timeout=7",), Role.HOST_B: ("link.primary_timeout=8",)}
        first, second = _configurations(Options(settings=("compare.timeout=1.5",), host_settings=own))
        assert first.link and second.link
        assert (first.compare.timeout, second.compare.timeout) == (1.5, 1.5)
        assert (first.link.secondary_timeout, second.link.secondary_timeout) == (7, 5)
        assert (first.link.primary_timeout, second.link.primary_timeout) == (5, 8)

    def test_what_one_daemon_would_refuse_is_refused(self) -> None:
        with pytest.raises(OperatorError, match="host-b"):
            _configurations(Options(settings=("nic.queue=3",)))

    def test_the_arbiter_lets_one_host_win_and_the_same_one_again(self, tmp_path: Path) -> None:
        *command, _ = _configurations(Options(arbiter=True))[0].arbiter.command
        names = [FIRST.role.value, SECOND.role.value] * 10
        asked = [
            subprocess.Popen([*command, str(tmp_path / "arbiter")], env={**os.environ, "COLO_IDENTITY": name})
            for name in names
        ]
        won = [name for name, child in zip(names, asked, strict=True) if child.wait(10) == 0]
        assert won in ([FIRST.role] * 10, [SECOND.role] * 10)

    @pytest.mark.parametrize("option", [["--no-tls"], ["--arbiter"], ["--set-a", "queue.length=99"]])
    def test_what_is_for_two_hosts_is_refused_for_one(self, option: list[str]) -> None:
        done = colo("lab", "up", "--one-host", *option)
        assert done.returncode == 2
        assert "one host" in done.stderr


@pytest.fixture(scope="class")
def native() -> Iterator[None]:
    with lab("--native", shape=Shape.TWO_HOSTS):
        yield


@pytest.mark.usefixtures("native")
class TestNative:
    def test_each_host_has_its_guest_the_switch_and_the_other_host(self) -> None:
        assert devices(Role.HOST_A) == {"lo", "cb-br0", "cb-u0", "cb-p0", "cb-l0"}
        assert devices(Role.HOST_B) == {"lo", "cb-br0", "cb-u0", "cb-s0", "cb-l0"}
        assert devices(Role.NETWORK) == {"lo", "cb-sw0", "cb-c0", "cb-a0", "cb-b0"}

    def test_the_secondary_is_down_and_on_no_bridge(self) -> None:
        (port,) = json.loads(inside(Role.HOST_B, "ip", "-j", "link", "show", "cb-s0"))
        assert "UP" not in port["flags"]
        assert "master" not in port

    def test_the_hosts_reach_each_other_by_their_own_cable_alone(self) -> None:
        for host, other in ((Role.HOST_A, LINK_ADDRESSES[1]), (Role.HOST_B, LINK_ADDRESSES[0])):
            (route,) = json.loads(inside(host, "ip", "-j", "route", "get", other))
            assert route["dev"] == "cb-l0"
        assert inside(Role.CLIENT, "ip", "route", "show").split()[0] == "10.77.0.0/24"

    def test_the_service_serves_the_client_across_the_switch(self) -> None:
        workload.start_service()
        for address in (GUEST_ADDRESS, GUEST_IPV6_ADDRESS):
            assert workload.client(["get", "--host", address, "--bytes", "3000000", "--verify"])["correct"]

    def test_exec_knows_the_hosts(self) -> None:
        for host in (FIRST, SECOND):
            assert colo("lab", "exec", host.role, "--", "sh", "-c", "echo $CB_ROLE").stdout.strip() == host.role
        done = colo("lab", "exec", "host", "--", "true")
        assert done.returncode == 2
        assert "host-a, host-b" in done.stderr

    def test_status_says_what_it_is(self) -> None:
        status = json.loads(colo("lab", "status", "--json").stdout)
        assert (status["lab"], status["shape"]) == ("native", "two-hosts")


@pytest.fixture(scope="class")
def protected() -> Iterator[None]:
    with _two_hosts():
        workload.start_service()
        yield


@pytest.mark.usefixtures("protected")
class TestTransfers(Transfers):
    """All that one host shows, over the link with TLS."""

    @pytest.mark.parametrize("operation", ["get", "put"])
    def test_ipv6(self, operation: str) -> None:
        with no_divergence():
            arguments = [operation, "--host", GUEST_IPV6_ADDRESS, "--bytes", str(LENGTH), "--verify"]
            assert workload.client(arguments)["correct"]

    def test_the_secondary_finds_a_neighbour_that_the_primary_does_not_ask_for(self) -> None:
        assert workload.client(["turns", "--count", "10"])["correct"]
        before = daemon.status(SECOND)["counters"]["rewriter_neighbours_answered"]
        probe = ["lladdr", CLIENT_MAC, "nud", "probe"]
        inside(Role.SECONDARY, "ip", "neighbour", "replace", CLIENT_ADDRESS, "dev", GUEST_DEVICE, *probe)
        show = ["ip", "neighbour", "show", CLIENT_ADDRESS]
        wait_until(lambda: "REACHABLE" in inside(Role.SECONDARY, *show), 5, "its daemon has answered")
        assert daemon.status(SECOND)["counters"]["rewriter_neighbours_answered"] > before

    def test_both_daemons_say_how_they_are(self) -> None:
        for host, state, status in ((FIRST, "protected", 0), (SECOND, "standby", 0)):
            done = colo("status", str(host.config_file))
            assert (done.returncode, state in done.stdout) == (status, True)
        told = json.loads(colo("lab", "status", "--json").stdout)
        assert (told["state"], told[SECOND.role]["state"]) == ("protected", "standby")


class TestDeadDaemon:
    def test_without_the_primarys_nothing_leaves_until_another_takes_over(self) -> None:
        with _two_hosts(), busy_client() as client:
            process.kill(_daemon(FIRST))
            wait_until(client_is_quiet, 5, "nothing leaves any more")
            daemon.start(FIRST)
            assert report_of(client)["correct"]
            self._is_as_before()

    def test_another_secondarys_takes_over_before_the_primary_goes_solo(self) -> None:
        with _two_hosts("--set", "link.secondary_timeout=20"), busy_client() as client:
            process.kill(_daemon(SECOND))
            wait_until(lambda: daemon.state_of(FIRST) != "protected", 5, "the primary misses it")
            daemon.start(SECOND)
            assert report_of(client)["correct"]
            self._is_as_before()

    def test_without_the_secondarys_the_primary_goes_solo_and_back(self) -> None:
        with _two_hosts("--set", "link.secondary_timeout=1"), busy_client() as client:
            process.kill(_daemon(SECOND))
            assert report_of(client)["correct"]
            assert daemon.state_of(FIRST) == "solo"
            assert colo("status", str(FIRST.config_file)).returncode == 4
            daemon.start(SECOND)
            protect = ("protect", str(FIRST.config_file))
            wait_until(lambda: colo(*protect).returncode == 0, 10, "the secondary is there to be compared again")
            self._is_as_before()

    @staticmethod
    def _is_as_before() -> None:
        for host in (FIRST, SECOND):
            wait_until(lambda host=host: daemon.state_of(host) in host.ready, 20, f"{host.role} is ready again")
        with no_divergence():
            before = daemon.status()["counters"]["secondary_bytes"]
            assert workload.client(["get", "--bytes", str(LENGTH), "--verify"])["correct"]
            assert daemon.status()["counters"]["secondary_bytes"] > before + LENGTH


def test_nothing_of_the_secondary_leaves_before_a_failover_and_all_after_it() -> None:
    with _two_hosts(), closing(Capture()) as client:
        for harm in (None, _cut_link, lambda: process.kill(_daemon(SECOND))):
            if harm:
                harm()
            send(Role.SECONDARY, *NOT_IP.values(), *TAGGED.values())
            assert list(client.frames(0.3)) == []
        daemon.start(SECOND)
        wait_until(lambda: daemon.state_of(SECOND) == "alone", 10, "the new daemon misses the primary")
        send(Role.SECONDARY, *NOT_IP.values())
        assert list(client.frames(0.3)) == []
        told = colo("failover", "--fenced", "--accept-loss", str(SECOND.config_file))
        assert told.returncode == 0, told.stderr
        send(Role.SECONDARY, *NOT_IP.values())
        assert set(NOT_IP.values()) <= set(client.frames(1.0))


def _cut_link() -> None:
    on_host("ip", "link", "set", LINK_PORT, "down", host=FIRST.role)


@contextmanager
def _two_hosts(*arguments: str) -> Iterator[None]:
    # A stall ends with the compare timeout: a short one, or the tests wait for it.
    with lab("--set", "compare.timeout=1.0", *arguments, shape=Shape.TWO_HOSTS):
        yield


def _daemon(host: Host) -> ProcessId:
    found = daemon.find(host)
    assert found
    return found


def _configurations(options: Options) -> list[config.Config]:
    options = replace(options, shape=Shape.TWO_HOSTS)
    return [config.parse(configuration.make(options, host)) for host in (FIRST, SECOND)]
