"""One transfer over HTTP with curl, whose connection is watched from outside."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from colo_bridge.errors import GuestError
from colo_bridge.lab.layout import GUEST_ADDRESS, Role
from colo_bridge.lab.pulse import Counter, Move, Pulse, connection_to
from colo_bridge.lab.topology import enter

_CONNECT_SECONDS = 10.0
_SPARE_SECONDS = 60.0
"""For which a transfer may stand still, all in all."""


class Operation(StrEnum):
    """What is transferred."""

    DOWNLOAD = "download"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Content:
    """Deterministic bytes that the guests' service can send, and that are here to be sent to it."""

    file: Path
    length: int
    seed: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a transfer."""

    sha256: str
    """Of what reached the client, or of what reached the guest by its own account."""
    moves: list[Move]
    report: dict[str, Any]
    """Curl's own."""
    same_connection: bool
    """Curl made one connection only, and it is the one that was watched."""

    @property
    def problem(self) -> str:
        return str(self.report.get("errormsg") or "")


class Transfer:
    """Under way from its construction until it is closed."""

    def __init__(self, operation: Operation, content: Content, rate: int) -> None:
        """Raises GuestError when the client does not connect."""
        command = enter(Role.CLIENT, _curl(operation, content, rate))
        self._curl = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._reader = subprocess.Popen(_READERS[operation], stdin=self._curl.stdout, stdout=subprocess.PIPE)
        try:
            self._connection = self._find_connection()
            self._pulse = Pulse(self._connection, _COUNTERS[operation])
        except BaseException:
            self._kill()
            raise

    def is_running(self) -> bool:
        return self._curl.poll() is None

    def end(self) -> Ended:
        """Wait for the end, whatever it is."""
        answer, _ = self._reader.communicate()
        _, complaint = self._curl.communicate()
        self._pulse.stop()
        report = _report(complaint.decode(errors="replace"))
        port = self._connection.getsockname()[1]
        same = report.get("num_connects") == 1 and report.get("local_port") == port
        return Ended(answer.decode().partition(" ")[0].strip(), self._pulse.moves, report, same)

    def close(self) -> None:
        """End it if it still runs."""
        self._kill()
        self._pulse.stop()
        self._connection.close()

    def _find_connection(self) -> socket.socket:
        deadline = time.monotonic() + _CONNECT_SECONDS
        while self.is_running() and time.monotonic() < deadline:
            if found := connection_to(self._curl.pid, GUEST_ADDRESS):
                return found
            time.sleep(0.002)
        raise GuestError(f"the client has no connection to {GUEST_ADDRESS}")

    def _kill(self) -> None:
        for child in (self._curl, self._reader):
            child.kill()
            child.wait()


_COUNTERS = {Operation.DOWNLOAD: Counter.RECEIVED, Operation.UPLOAD: Counter.ACKNOWLEDGED}
"""What of the client's socket tells how far it is."""
_READERS = {Operation.DOWNLOAD: "sha256sum", Operation.UPLOAD: "cat"}
"""What takes curl's output: the service answers an upload with the sum."""


def _curl(operation: Operation, content: Content, rate: int) -> list[str]:
    """The sender paces: a client that holds itself back in reading would let the bytes arrive in steps."""
    seconds = _SPARE_SECONDS + content.length / rate
    command = ["curl", "--silent", "--show-error", "--fail", "--header", "Expect:", "--max-time", f"{seconds:.0f}"]
    command += ["--write-out", "%{stderr}%{json}"]
    if operation is Operation.UPLOAD:
        command += ["--limit-rate", str(rate), "--upload-file", str(content.file)]
    return [*command, f"http://{GUEST_ADDRESS}/{content.length}/{content.seed}/{rate}"]


def _report(complaint: str) -> dict[str, Any]:
    """Curl's report is the last line of what it says."""
    try:
        report: dict[str, Any] = json.loads(complaint.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise GuestError(f"curl left no report: {complaint!r}") from error
    return report
