"""What the lab's tests share: the command, waiting for a condition, looking into a namespace."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from colo_bridge.lab import lifecycle, records, topology
from colo_bridge.lab.layout import RUN_DIR, Role
from colo_bridge.lab.shape import Shape
from colo_bridge.lab.topology import enter

COMMAND = [sys.executable, "-m", "colo_bridge"]
SERVICE = [sys.executable, "-m", "colo_bridge.lab.service"]


def colo(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run `colo-bridge …` as an operator does."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False, **options)


def inside(role: Role, *command: str, stdin: str | None = None) -> str:
    """Output of a command in a namespace of the lab; it has to succeed."""
    done = subprocess.run(enter(role, command), input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def on_host(*command: str, stdin: str | None = None, host: Role | None = None) -> str:
    """The same on a host, the one that compares if none is named, with the namespace's own /sys, as the daemon runs."""
    place = host or records.comparing_host().role
    entered = ["ip", "netns", "exec", place.namespace, *command]
    done = subprocess.run(entered, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def devices(role: Role) -> set[str]:
    return {link["ifname"] for link in json.loads(inside(role, "ip", "-j", "link"))}


def received_bytes(role: Role, device: str = "eth0") -> int:
    (link,) = json.loads(inside(role, "ip", "-j", "-s", "link", "show", device))
    return int(link["stats64"]["rx"]["bytes"])


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)


def nothing_is_left() -> bool:
    return not RUN_DIR.exists() and not topology.existing()


@contextmanager
def lab(*arguments: str, shape: Shape = Shape.ONE_HOST) -> Iterator[None]:
    """A lab made by the command line; a lab of somebody else's is never touched."""
    assert nothing_is_left(), "a lab is up already: colo-bridge lab down"
    done = colo("lab", "up", f"--{shape}", *arguments)
    try:
        assert done.returncode == 0, done.stderr
        yield
    finally:
        lifecycle.down()
