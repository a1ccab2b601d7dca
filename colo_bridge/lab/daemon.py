"""The real daemon in the lab's host: started, watched until it protects, stopped."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from colo_bridge.daemon.client import ask
from colo_bridge.errors import ColoBridgeError, InternalError, KernelError
from colo_bridge.lab import configuration, process, records
from colo_bridge.lab.layout import CONFIG_FILE, DAEMON_LOG, Role
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.topology import environment

READY_SECONDS = 20.0
POLL_SECONDS = 0.02
_IN_FORCE = ("protected", "observing")


def start() -> ProcessId:
    """Start the daemon in cb-host; it writes to the lab's daemon log and outlives this command."""
    # Unlike nsenter, `ip netns exec` also shows the namespace's own /sys.
    command = ["ip", "netns", "exec", Role.HOST.namespace]
    command += [sys.executable, "-m", "colo_bridge", "run", str(CONFIG_FILE)]
    with DAEMON_LOG.open("ab") as log:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(Role.HOST),
            start_new_session=True,
        )
    return records.keep(started.pid, Role.HOST, command)


def find() -> ProcessId | None:
    """The lab's daemon, if it runs."""
    for record in records.processes():
        if record.command[-2:] == ("run", str(CONFIG_FILE)):
            return record.process
    return None


def status() -> dict[str, Any]:
    return ask(configuration.current().control_socket, "status")


def wait_protected(daemon: ProcessId, seconds: float = READY_SECONDS) -> None:
    """Wait until the guest is protected, or observed; raises an error with the daemon's last words when it never is."""
    deadline = time.monotonic() + seconds
    while (state := _state()) not in _IN_FORCE:
        if process.wait_ended(daemon, POLL_SECONDS):
            raise KernelError(f"the daemon ended at once: {_last_words()}", f"see {DAEMON_LOG}")
        if time.monotonic() > deadline:
            problem = f"the daemon is {state or 'silent'} after {seconds:g} s: {_last_words()}"
            raise InternalError(problem, f"see {DAEMON_LOG}")


def content_divergences() -> int:
    return int(status()["divergences"]["content"])


def watch_divergence(seen: int, over: Callable[[], bool]) -> dict[str, Any] | None:
    """The divergence of content that comes after `seen` others; None when it is `over` without one.

    The daemon remembers its last divergence only, so it has to be looked at before a stall follows.
    """
    while True:
        last_look = over()
        now = status()
        if now["divergences"]["content"] > seen:
            return dict(now["last_divergence"])
        if last_look:
            return None
        time.sleep(POLL_SECONDS)


def _state() -> str | None:
    try:
        return str(status()["state"])
    except (ColoBridgeError, KeyError):
        return None


def _last_words() -> str:
    lines = DAEMON_LOG.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
