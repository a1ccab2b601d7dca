"""The real daemons on the lab's hosts: started, watched until they protect, stopped.

Where a host may be left out, the one that compares is meant.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from colo_bridge.daemon.client import ask
from colo_bridge.errors import ColoBridgeError, InternalError, KernelError
from colo_bridge.lab import configuration, process, records
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.shape import Host
from colo_bridge.lab.topology import environment

READY_SECONDS = 20.0
POLL_SECONDS = 0.02


def start(host: Host | None = None) -> ProcessId:
    """Start the host's daemon; it writes to the host's log and outlives this command."""
    host = host or records.comparing_host()
    # Unlike nsenter, `ip netns exec` also shows the namespace's own /sys.
    command = ["ip", "netns", "exec", host.role.namespace]
    command += [sys.executable, "-m", "colo_bridge", "run", str(host.config_file)]
    with host.log_file.open("ab") as log:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(host.role),
            start_new_session=True,
        )
    return records.keep(started.pid, host.role, command)


def find(host: Host | None = None) -> ProcessId | None:
    """The host's daemon, if it runs."""
    host = host or records.comparing_host()
    for record in records.processes():
        if record.command[-2:] == ("run", str(host.config_file)):
            return record.process
    return None


def status(host: Host | None = None) -> dict[str, Any]:
    return ask(configuration.current(host).control_socket, "status")


def wait_ready(host: Host, daemon: ProcessId, seconds: float = READY_SECONDS) -> None:
    """Wait until all is as it should be on this host; raises an error with the daemon's last words when it never is."""
    deadline = time.monotonic() + seconds
    while (state := state_of(host)) not in host.ready:
        if process.wait_ended(daemon, POLL_SECONDS):
            raise KernelError(f"the daemon ended at once: {_last_words(host)}", f"see {host.log_file}")
        if time.monotonic() > deadline:
            problem = f"the daemon is {state or 'silent'} after {seconds:g} s: {_last_words(host)}"
            raise InternalError(problem, f"see {host.log_file}")


def state_of(host: Host | None = None) -> str | None:
    """The state in the daemon's own word; None when it does not answer."""
    try:
        return str(status(host)["state"])
    except (ColoBridgeError, KeyError):
        return None


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


def _last_words(host: Host) -> str:
    lines = host.log_file.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
