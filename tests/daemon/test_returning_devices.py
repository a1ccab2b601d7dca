"""Devices that vanish and return under a running daemon: ports made anew, our own TAPs deleted by somebody."""

from __future__ import annotations

import functools
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from colo_bridge.kernel import links, traffic
from colo_bridge.kernel.withdrawal import Names
from tests import test_invariants_kernel
from tests.kernel import rig
from tests.kernel.rig import Host, shell
from tests.test_invariants_kernel import UNVERIFIED, Daemon, namespaced, running, until

backend = test_invariants_kernel.backend
NAMES = Names("g1", "net0")
SOON = 0.5
"""Seconds; the check of once a second would take half of one on average."""
ROUNDS = 5


IN_ORDER, UP_FIRST = "ip link set p0 master br0; ip link set p0 up", "ip link set p0 up; ip link set p0 master br0"


def make_primary_port(steps: str = IN_ORDER) -> None:
    """In order, as a hypervisor does: on its bridge before it is up."""
    shell(f"ip link add p0 type veth peer name p1; ip link set p1 up; {steps}")


def make_secondary_port(command: str = "") -> None:
    shell(f"ip link add s0 type veth peer name s1; ip link set s1 up; {command}")


def seconds_until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < rig.PATIENCE
        time.sleep(0.01)
    return time.monotonic() - began


def send_for(seconds: float, wire: rig.Wire) -> None:
    """Not waiting for a carrier: what can leave at the first instant shall."""
    wire.settled = True
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        wire.send(UNVERIFIED)
        time.sleep(0.001)


def heard(daemon: Daemon) -> int:
    """Packets of the secondary."""
    return int(daemon.status()["counters"]["secondary_packets"])


def is_mended(daemon: Daemon, before: int) -> bool:
    """A further fault was said, and then that all is well."""
    return len(faults_said(daemon)) > before and daemon.state() == "protected"


def hears_more(daemon: Daemon, before: int) -> bool:
    return heard(daemon) > before


def faults_said(daemon: Daemon) -> list[str]:
    return re.findall(r"UNPROTECTED: nic net0: (.*)", daemon.log.read_text())


@namespaced
def test_a_secondary_port_is_redirected_as_soon_as_it_is_back(tmp_path: Path) -> None:
    Host()
    with running(tmp_path, "auto") as daemon:
        took = []
        for _ in range(ROUNDS):
            before = links.get("s0").index
            shell("ip link del s0")
            make_secondary_port()
            took.append(seconds_until(lambda: traffic.is_redirected("s0")))
            assert links.get("s0").index != before
            until(lambda: links.get("s0").up and daemon.state() == "protected", "protected again")
        print("secondary port redirected after", [round(each, 4) for each in took])
        assert statistics.median(took) < SOON
        wire = rig.Wire("s1")
        wire.send(UNVERIFIED)
        until(lambda: heard(daemon) == 1, "the secondary is heard")


@namespaced
def test_a_secondary_port_that_comes_back_on_a_bridge_is_put_down(tmp_path: Path) -> None:
    host = Host()
    with running(tmp_path, "auto") as daemon:
        shell("ip link del s0")
        make_secondary_port("ip link set s0 master br0; ip link set s0 up")
        took = seconds_until(lambda: not links.get("s0").up)
        print("secondary port down after", round(took, 4))
        assert took < SOON
        until(lambda: traffic.is_redirected("s0"), "redirected")
        until(lambda: "s0, the secondary's port, is a port of br0" in daemon.log.read_text(), "it is said")
        assert daemon.state() == "unprotected"
        send_for(0.2, rig.Wire("s1"))
        assert host.client.silent()
        shell("ip link set s0 nomaster")
        until(lambda: daemon.state() == "protected", "protected again")
        assert links.get("s0").up


@namespaced
def test_a_primary_port_that_comes_back_is_diverted_from_the_first_frame_on(backend: str, tmp_path: Path) -> None:
    host = Host()
    with running(tmp_path, backend) as daemon:
        for steps in (IN_ORDER, UP_FIRST, UP_FIRST.replace(";", "; sleep 0.3;")):
            shell("ip link del p0")
            make_primary_port(steps)
            send_for(0.3, rig.Wire("p1"))
            assert host.client.silent()
            until(lambda: daemon.state() == "protected", "protected again")
        assert daemon.status()["counters"]["primary_packets"] > 2


@namespaced
def test_a_primary_port_is_mirrored_as_soon_as_it_is_back(tmp_path: Path) -> None:
    Host()
    with running(tmp_path, "auto") as daemon:
        took = []
        for _ in range(ROUNDS):
            shell("ip link del p0")
            make_primary_port()
            took.append(seconds_until(lambda: traffic.problem(traffic.mirror("p0", NAMES.mirror)[0]) == ""))
            until(lambda: daemon.state() == "protected", "protected again")
        print("primary port mirrored after", [round(each, 4) for each in took])
        assert statistics.median(took) < SOON


@namespaced
@pytest.mark.parametrize("tap", [NAMES.mirror, NAMES.secondary, NAMES.forward], ids=["mirror", "secondary", "forward"])
def test_a_tap_that_somebody_deletes_is_made_anew_and_read_again(tmp_path: Path, tap: str) -> None:
    host = Host()
    with running(tmp_path, "auto") as daemon:
        for _ in range(2):
            count = len(faults_said(daemon))
            shell(f"ip link del {tap}")
            took = seconds_until(lambda: links.find(tap) is not None)
            print(f"{tap} made anew after", round(took, 4))
            assert took < SOON
            until(functools.partial(is_mended, daemon, count), "protected again")
            before = heard(daemon)
            host.secondary.send(UNVERIFIED)
            until(functools.partial(hears_more, daemon, before), "the secondary is heard")
            host.client.send(rig.udp(b"input"))
            assert host.secondary.receive() == rig.udp(b"input")
        assert f"tap: {tap} is gone" in faults_said(daemon)
        assert daemon.stop() == 0
    assert links.find(tap) is None
