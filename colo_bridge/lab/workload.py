"""Servers and clients that the lab itself starts: the deterministic service, and waiting for a port."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colo_bridge.errors import GuestError
from colo_bridge.lab import execute, process
from colo_bridge.lab.layout import GUESTS, Role
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.topology import enter, environment

SERVICE = (sys.executable, "-m", "colo_bridge.lab.service")
SERVICE_PORT = 7000
HTTP_PORT = 80
LISTENING = "0A"
"""TCP_LISTEN as /proc/net/tcp writes it (include/net/tcp_states.h)."""
CLIENT_SECONDS = 300.0


def start_service() -> None:
    """Start the deterministic server in both guests; it ends with the lab."""
    serve_in_guests({guest: [*SERVICE, "serve"] for guest in GUESTS}, SERVICE_PORT)


def start_http_service() -> None:
    """The same over HTTP."""
    serve_in_guests({guest: [*SERVICE, "http"] for guest in GUESTS}, HTTP_PORT)


def serve_in_guests(commands: dict[Role, list[str]], port: int) -> None:
    """Start a server in each guest and wait until each listens.

    The sockets are looked at from inside: a connection made too early would be
    answered by one guest and refused by the other.
    """
    started = [execute.detach(guest, command) for guest, command in commands.items()]
    for server in started:
        wait_listening(server, port)


def wait_listening(server: ProcessId, port: int, seconds: float = 20.0) -> None:
    """Wait until something in the server's namespace listens; raises GuestError when nothing does."""
    deadline = time.monotonic() + seconds
    while not _listens(server.pid, port):
        if process.wait_ended(server, 0.02) or time.monotonic() > deadline:
            raise GuestError(f"the server with pid {server.pid} does not listen on port {port}", "see /run/cb-lab/logs")


def client(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the deterministic client in cb-client; its report. A client that fails has a report as well."""
    done = subprocess.run(
        enter(Role.CLIENT, [*SERVICE, *arguments]),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment(Role.CLIENT),
        timeout=CLIENT_SECONDS,
        check=False,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise GuestError(f"the client ended with status {done.returncode} and no report") from error
    return report


def _listens(pid: int, port: int) -> bool:
    return any(_is_listener(line.split(), port) for file in ("tcp", "tcp6") for line in _sockets(pid, file))


def _is_listener(fields: list[str], port: int) -> bool:
    return fields[1].endswith(f":{port:04X}") and fields[3] == LISTENING


def _sockets(pid: int, file: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/net/{file}").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
