"""The lab with two hosts: its cables, its daemons' files, and all that the lab with one host shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from colo_bridge import config
from colo_bridge.errors import OperatorError
from colo_bridge.lab import configuration, workload
from colo_bridge.lab.layout import GUEST_ADDRESS, GUEST_IPV6_ADDRESS, LINK_ADDRESSES, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.shape import Shape
from tests.lab.helpers import colo, devices, inside, lab

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


def _configurations(options: Options) -> list[config.Config]:
    options = replace(options, shape=Shape.TWO_HOSTS)
    return [config.parse(configuration.make(options, host)) for host in (FIRST, SECOND)]
