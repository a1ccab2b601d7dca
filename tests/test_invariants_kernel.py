"""The invariants about the kernel, each under its name, with the real daemon in network namespaces.

8. What the daemon put into the kernel, it takes out; it touches nothing else; after a failure the diversion stays.
9. Protection is proved, not assumed: at the start, every second, and after a restart.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from colo_bridge.cli import main as cli
from colo_bridge.daemon import guard as guard_module
from colo_bridge.daemon.client import ask
from colo_bridge.daemon.guard import Guard
from colo_bridge.errors import ColoBridgeError
from colo_bridge.kernel import links, nfqueue_messages
from colo_bridge.kernel.protection import NicProtection
from colo_bridge.kernel.withdrawal import Names
from tests import packets
from tests.kernel import rig
from tests.kernel.rig import Host, kernel_state, shell

COMMAND = [sys.executable, "-m", "colo_bridge"]
SECONDS = 15.0
UNVERIFIED = rig.udp(b"unverified")


@pytest.fixture(params=["legacy", "nft"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def namespaced(test: Callable[..., None]) -> Callable[..., None]:
    """The test's body runs in a child process in a network namespace of its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        rig.run_in_namespace(lambda: test(**arguments))

    return run


class Daemon:
    """`colo-bridge run` as an operator starts it."""

    def __init__(self, directory: Path, backend: str) -> None:
        self.config = rig.configuration(directory, backend)
        self.file = directory / "g1.toml"
        self.file.write_text(
            f'role = "primary"\nguest = "g1"\nrun_dir = "{directory}"\n[firewall]\nbackend = "{backend}"\n'
            '[[nic]]\nprimary_port = "p0"\nsecondary_port = "s0"\nqueue = 7\n'
        )
        self.log = directory / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*COMMAND, "run", str(self.file)], stdout=log, stderr=log)

    def status(self) -> dict[str, Any]:
        return ask(self.config.control_socket, "status")

    def state(self) -> str:
        """Empty where nobody answers yet."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return str(self.status()["state"])
        except ColoBridgeError:
            return ""

    def said_faults(self) -> set[str]:
        """Parts that the log calls unprotected."""
        return set(re.findall(r"UNPROTECTED: nic net0: (\w+):", self.log.read_text()))

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another command of colo-bridge about this guest."""
        words = (*COMMAND, *words, str(self.file))
        return subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)


@contextmanager
def running(directory: Path, backend: str) -> Iterator[Daemon]:
    daemon = Daemon(directory, backend)
    try:
        until(lambda: daemon.state() == "protected", "protected")
        yield daemon
    finally:
        daemon.kill()


def until(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def put_foreign_things() -> None:
    """What an operator and other programs have there, with names and places as near to ours as may be."""
    for variant in ("iptables-legacy", "iptables-nft", "ip6tables-legacy", "ip6tables-nft"):
        for comment in ("colo-bridge:g10:net0", "colo-bridge:g1:net01", "colo-bridge"):
            shell(f"{variant} -t mangle -A PREROUTING -i c0 -m comment --comment {comment} -j MARK --set-mark 1")
        shell(f"{variant} -t mangle -A POSTROUTING -m comment --comment colo-bridge:g1:net0 -j MARK --set-mark 1")
    for device in ("p0", "c0"):
        shell(f"tc qdisc add dev {device} clsact")
        for side in ("ingress", "egress"):
            shell(
                f"tc filter add dev {device} {side} pref 300 protocol all u32 match u32 0 0 at -4 action mirred "
                "egress mirror dev lo"
            )
    shell("ip tuntap add cbm00000000 mode tap")


# 8. What the daemon put into the kernel, it takes out.


@namespaced
def test_invariant_8_a_clean_stop_takes_out_ours_and_nothing_else(backend: str, tmp_path: Path) -> None:
    host = Host()
    put_foreign_things()
    before = kernel_state()
    with running(tmp_path, backend) as daemon:
        assert kernel_state() != before
        host.primary.send(UNVERIFIED)
        assert host.client.silent()
        assert daemon.stop() == 0
    assert kernel_state() == before
    assert {path.name for path in tmp_path.iterdir()} == {"g1.toml", "log"}
    host.primary.send(UNVERIFIED)
    assert host.client.receive() == UNVERIFIED


@namespaced
def test_invariant_8_cleanup_takes_out_ours_and_nothing_else(backend: str, tmp_path: Path) -> None:
    host = Host()
    put_foreign_things()
    before = kernel_state()
    with running(tmp_path, backend) as daemon:
        refused = daemon.command("cleanup")
        assert (refused.returncode, "already running" in refused.stderr) == (2, True)
        daemon.kill()
        host.primary.send(UNVERIFIED)
        assert host.client.silent()
        done = daemon.command("cleanup")
        assert (done.returncode, done.stderr) == (0, "")
    assert kernel_state() == before
    host.primary.send(UNVERIFIED)
    assert host.client.receive() == UNVERIFIED


@namespaced
def test_invariant_8_after_a_failure_nothing_leaves_and_the_next_run_takes_over(backend: str, tmp_path: Path) -> None:
    host = Host()
    before = kernel_state()
    with running(tmp_path, backend) as daemon:
        daemon.kill()
    for wire in (host.primary, host.secondary):
        wire.send(UNVERIFIED)
    assert host.client.silent()
    with running(tmp_path, backend) as daemon:
        host.primary.send(UNVERIFIED)
        assert host.client.silent()
        assert daemon.stop() == 0
    assert kernel_state() == before


@namespaced
def test_invariant_8_a_start_that_fails_takes_back_what_it_did(tmp_path: Path) -> None:
    Host()
    shell("tc qdisc add dev p0 handle ffff: ingress")
    before = kernel_state()
    daemon = Daemon(tmp_path, "auto")
    assert daemon.process.wait(SECONDS) == 2
    assert daemon.log.read_text().startswith("colo-bridge: error:")
    assert kernel_state() == before


@namespaced
def test_invariant_8_the_redirect_stays_while_the_secondarys_port_exists(tmp_path: Path) -> None:
    """A killed daemon's secondary is silent even where somebody attaches it to the bridge."""
    host = Host()
    with running(tmp_path, "auto") as daemon:
        daemon.kill()
        shell("ip link set s0 master br0 up")
        host.secondary.settled = False
        host.secondary.send(UNVERIFIED)
        assert host.client.silent()
        shell("ip link set s0 nomaster")
        daemon.command("cleanup")
    assert " state DOWN " in shell("ip -o link show s0")


@namespaced
def test_invariant_8_what_leaves_a_port_of_port_create_reaches_nobody_whatever_dies(tmp_path: Path) -> None:
    host = Host()
    shell("ip link del s0")
    assert cli.main(["port", "create", "s0"]) == 0
    guest = rig.attach("s0")

    def is_silent() -> bool:
        shell("ip link set s0 master br0 up")
        os.write(guest, UNVERIFIED)
        silent = host.client.silent()
        shell("ip link set s0 nomaster")
        return silent

    assert is_silent()
    with running(tmp_path, "auto") as daemon:
        assert daemon.stop() == 0
        assert is_silent()
    with running(tmp_path, "auto") as daemon:
        daemon.kill()
        assert is_silent()
        assert daemon.command("cleanup").returncode == 0
        assert is_silent()
    assert " UP " in shell("ip -o link show s0").replace(",", " ").replace(">", " ")
    assert cli.main(["port", "delete", "s0"]) == 0
    assert links.find("s0") is None


# 9. Protection is proved, not assumed.


def test_invariant_9_it_is_proved_every_second() -> None:
    assert guard_module._INTERVAL <= 1.0


FAULTS = {
    "hook": "ip link set br0 type bridge nf_call_iptables 0",
    "rule": "iptables-{backend} -t mangle -I PREROUTING -j ACCEPT",
    "mirror": "tc filter del dev p0 egress",
    "redirect": "tc filter del dev s0 ingress",
    "discard": "tc filter del dev p0 ingress",
    "forward": "ip link set {forward} nomaster",
    "port": "ip link set s0 down",
    "tap": "ip link set {mirror} down",
}
"""What breaks each part of a protection from outside."""
AGAIN = {
    "hook": "ip link set br0 type bridge nf_call_ip6tables 0",
    "rule": "printf '*mangle\nCOMMIT\n' | ip6tables-{backend}-restore",
    "mirror": "ip link del p0; ip link add p0 type veth peer name p1; ip link set p0 master br0 up; ip link set p1 up",
    "redirect": "ip link del s0; ip link add s0 type veth peer name s1; ip link set s1 up",
}
"""Other ways, after which the parts have to be found anew."""


@namespaced
@pytest.mark.parametrize("faults", [FAULTS, AGAIN], ids=["broken", "made anew"])
def test_invariant_9_every_part_is_checked_and_mended(backend: str, tmp_path: Path, faults: dict[str, str]) -> None:
    """All at once: the guard has to see, say and mend each."""
    Host()
    with running(tmp_path, backend) as daemon:
        names = Names("g1", "net0")
        for command in faults.values():
            shell(command.format(backend=backend, mirror=names.mirror, forward=names.forward))
        until(lambda: faults.keys() <= daemon.said_faults(), "every fault is said", 2.0)
        until(lambda: daemon.state() == "protected", "all is mended", 5.0)
        primary, client = rig.Wire("p1"), rig.Wire("c1")
        primary.send(UNVERIFIED)
        assert client.silent()
        assert daemon.status()["counters"]["primary_packets"] == 1


@namespaced
def test_invariant_9_the_queue_is_bound_by_us(tmp_path: Path) -> None:
    Host()
    config = rig.configuration(tmp_path, "auto")
    made = NicProtection(config.guest, config.nic[0], config)
    made.arm()
    guard = Guard([("net0", made)])

    async def scenario() -> None:
        with socket.socket(fileno=socket.dup(made.queue.fileno())) as same:
            same.send(nfqueue_messages.command(7, bind=False))
        watching = asyncio.create_task(guard.run())
        async with asyncio.timeout(SECONDS):
            while guard.checks < 2:
                await asyncio.sleep(0.01)
        watching.cancel()

    uvloop.run(scenario())
    guard.close()
    assert (guard.unprotected_checks, guard.faults, made.queue.is_bound()) == (1, (), True)
    made.disarm()


@namespaced
def test_invariant_9_what_cannot_be_mended_stays_reported(tmp_path: Path) -> None:
    Host()
    with running(tmp_path, "auto") as daemon:
        assert daemon.command("status").returncode == 0
        shell("ip link del p0")
        until(lambda: daemon.state() == "unprotected", "unprotected", 2.0)
        told = daemon.command("status")
        assert (told.returncode, "p0 is missing" in told.stdout) == (3, True)
        assert "UNPROTECTED" in daemon.log.read_text()
        shell("ip link add p0 type veth peer name p1; ip link set p0 master br0; ip link set p0 up")
        until(lambda: daemon.state() == "protected", "protected again", 5.0)
        assert daemon.status()["counters"]["unprotected_checks"] >= 1


@namespaced
def test_invariant_9_a_restart_begins_unsynchronised(tmp_path: Path) -> None:
    """What was open before passes and is counted; what opens afterwards waits for the secondary."""
    host = Host()
    old = packets.tcp(seq=1000, ack=1, payload=b"in mid-stream")
    new = packets.tcp(sport=81, seq=1000, flags="S", ack=1)
    with running(tmp_path, "auto") as daemon:
        daemon.kill()
    with running(tmp_path, "auto") as daemon:
        assert daemon.status()["unsynchronised_connections"] == 0
        host.primary.send(old)
        assert host.client.receive() == old
        host.primary.send(new)
        until(lambda: daemon.status()["counters"]["held_packets_now"] == 1, "the new connection is held")
        assert host.client.silent()
        assert daemon.status()["unsynchronised_connections"] == 1
        assert daemon.status()["counters"]["unsynchronised_packets"] == 1
        host.secondary.send(packets.tcp(sport=81, seq=77, flags="S", ack=1))
        assert host.client.receive() == new
