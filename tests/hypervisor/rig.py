"""Two hosts with a virtual machine each, watched from the network between them, and everything that can go wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from colo_bridge.lab import daemon, lifecycle, process
from colo_bridge.lab.guests import operator
from colo_bridge.lab.layout import GUEST_ADDRESS, GUEST_MAC, LINK_PORT, MIGRATION_SOCKET, RUN_DIR, Guests, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.shape import Host, Shape
from colo_bridge.lab.topology import enter
from tests.hypervisor.guests import ask_for_a_checkpoint, execute
from tests.hypervisor.relay import Phase, Relay
from tests.lab.helpers import colo, inside, nothing_is_left, wait_until

A, B = Shape.TWO_HOSTS.hosts
OPTIONS = Options(shape=Shape.TWO_HOSTS, guests=Guests.QEMU)
SECONDS = 30.0
SWITCH_PORTS = {A.role: "cb-a0", B.role: "cb-b0"}
"""Where each host is plugged in."""
_HERE = Path(__file__).parent
_STANDING = {
    Phase.BETWEEN: ("running", "running"),
    Phase.ASKED: ("running", "colo"),
    Phase.STANDING: ("colo", "colo"),
    Phase.LOADED: ("colo", "running"),
}
"""What both QEMUs say of their guests in each phase."""


class Rig:
    """The lab that is up."""

    def __init__(self, relay: Relay, frames: Path, echoes: Path) -> None:
        self.relay = relay
        self._frames, self._echoes = frames, echoes

    def reach(self, phase: Phase) -> None:
        """Begin a checkpoint and stop it there."""
        if phase is not Phase.BETWEEN:
            self.relay.stop_in(phase)
            ask_for_a_checkpoint()
        wait_until(lambda: run_states() == _STANDING[phase], SECONDS, f"the guests are in {phase}")

    def sent_by(self, host: Host, since: float = 0.0, *, only_ip: bool = False) -> list[float]:
        """When the host sent a frame of the guest's to the network; `only_ip`: of those that daemons decide about."""
        words = (line.split() for line in self._frames.read_text().splitlines()[1:])
        kinds = ("ip",) if only_ip else ("ip", "other")
        found = [float(when) for when, port, kind in words if port == SWITCH_PORTS[host.role] and kind in kinds]
        return [when for when in found if when >= since]

    def silence(self, since: float) -> float:
        """The longest time in which the client had no answer; one that lasts counts."""
        answers = [float(line) for line in self._echoes.read_text().splitlines()]
        times = [since, *(when for when in answers if when > since), time.time()]
        return max(later - earlier for earlier, later in pairwise(times))


@contextmanager
def two_hosts(
    directory: Path, *settings: str, host_settings: Mapping[Role, tuple[str, ...]] | None = None, arbiter: bool = False
) -> Iterator[Rig]:
    """A lab whose checkpoints can be stopped, from the moment on when both hosts are ready."""
    assert nothing_is_left(), "a lab is up already: colo-bridge lab down"
    options = replace(OPTIONS, settings=settings, host_settings=host_settings or {}, arbiter=arbiter)
    relays: list[Relay] = []

    def copy_through_relay(primary: Path, secondary: Path, _channel: str) -> None:
        relays.append(Relay(RUN_DIR / "relay", MIGRATION_SOCKET))
        copy(primary, secondary, f"unix:{RUN_DIR}/relay")

    copy = operator.copy
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(operator, "copy", copy_through_relay)
            stack.enter_context(lifecycle.running(options))
        (relay,) = relays
        frames, echoes = directory / "frames", directory / "echoes"
        watching = [
            _watch(Role.NETWORK, "witness.py", frames, GUEST_MAC, *SWITCH_PORTS.values()),
            _watch(Role.CLIENT, "echoes.py", echoes, GUEST_ADDRESS),
        ]
        wait_until(lambda: frames.read_text() and echoes.read_text(), SECONDS, "the guest answers")
        try:
            yield Rig(relay, frames, echoes)
        finally:
            for each in watching:
                each.kill()
                each.wait()
            relay.close()
            for host in (A, B):
                shutil.copy(host.log_file, directory)


def _watch(role: Role, script: str, output: Path, *words: str) -> subprocess.Popen[bytes]:
    with output.open("wb") as sink:
        return subprocess.Popen(enter(role, [sys.executable, str(_HERE / script), *words]), stdout=sink)


def run_states() -> tuple[object, ...]:
    """What both QEMUs say."""
    return tuple(execute(guest, "query-status").get("status") for guest in (Role.PRIMARY, Role.SECONDARY))


def states() -> tuple[str | None, str | None]:
    """What both daemons say; None for one that does not answer."""
    return daemon.state_of(A), daemon.state_of(B)


def wait_for_states(primary: str | None, secondary: str | None, seconds: float = SECONDS) -> None:
    wait_until(lambda: states() == (primary, secondary), seconds, f"{primary}, {secondary}: they are {states()}")


def kill_daemon(host: Host) -> None:
    found = daemon.find(host)
    assert found is not None
    process.kill(found)


def daemon_pid(host: Host) -> int:
    """Of the Python, not of what it was started by: that has become it."""
    found = daemon.find(host)
    assert found is not None
    return found.pid


def set_link(state: str) -> None:
    """Of the two daemons: "up" or "down"."""
    inside(A.role, "ip", "link", "set", LINK_PORT, state)


def command(verb: str, host: Host, *words: str, check: bool = True) -> int:
    """What an operator says to a daemon; the exit status."""
    done = colo(verb, str(host.config_file), *words)
    assert not check or done.returncode == 0, done.stderr
    return done.returncode
