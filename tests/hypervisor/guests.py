"""What the tests with virtual machines do to the lab's guests, and ask of them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from colo_bridge.lab import records
from colo_bridge.lab.guests import operator
from colo_bridge.lab.layout import GUEST_ADDRESS, Role
from colo_bridge.lab.topology import enter

CONTENT = b"".join(b"%d\n" % number for number in range(1, 100_001)) * 24
"""What every guest has as /file."""
FILE = hashlib.sha256(CONTENT).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def get(path: str, seconds: float = 30.0) -> bytes:
    """What the service answers to the client; a connection of its own."""
    curl = ["curl", "-sS", "--max-time", str(seconds), f"http://{GUEST_ADDRESS}{path}"]
    done = subprocess.run(enter(Role.CLIENT, curl), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def execute(guest: Role, command: str, **arguments: object) -> object:
    """By the operator's QMP socket."""
    return operator.execute(guest.operators_socket, command, arguments or None)


def ask_for_a_checkpoint() -> None:
    execute(Role.PRIMARY, "migrate-set-parameters", **{"x-checkpoint-delay": 1_000_000})


def pid(guest: Role) -> int:
    """Of the guest's QEMU."""
    socket = f"unix:{guest.qmp_socket},server=on,wait=off"
    (found,) = (record.process.pid for record in records.processes() if socket in record.command)
    return found


def kill(guest: Role) -> None:
    os.kill(pid(guest), signal.SIGKILL)


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Processes that do nothing for as long as the block lasts."""
    for each in pids:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in pids:
            os.kill(each, signal.SIGCONT)
