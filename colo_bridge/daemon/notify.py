"""Messages to the service manager over $NOTIFY_SOCKET (sd_notify(3)); without one they go nowhere."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells systemd how the service fares.  Never blocks and never raises: a deaf manager is no reason to stop."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_interval = _watchdog_interval(environment)
        """Seconds between two calls of `watchdog` (half of what is allowed); None: no watchdog."""

    def ready(self, status: str = "") -> None:
        self._send("READY=1", status)

    def status(self, status: str) -> None:
        self._send("", status)

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", status)

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, message: str, status: str = "") -> None:
        if not self._address:
            return
        lines = [message] if message else []
        if status:
            lines.append("STATUS=" + " ".join(status.split()))
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)


def _address(name: str) -> str:
    """An abstract socket is written with @ and addressed with a NUL byte (unix(7))."""
    return "\0" + name[1:] if name.startswith("@") else name


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Half of $WATCHDOG_USEC in seconds, if it is meant for this process (sd_watchdog_enabled(3))."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    process = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal() or int(microseconds) == 0 or process != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000
