"""`lab exec`: run anything in the lab's network namespaces."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import NoReturn

from colo_bridge.errors import OperatorError
from colo_bridge.lab import records
from colo_bridge.lab.layout import GUESTS, LOG_DIR, Guests, Role
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.topology import enter, environment

BOTH = "both"
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def where(word: str) -> tuple[Role, ...]:
    """The namespaces of the lab that is up which a word means: `both` guests, or one role.

    Raises OperatorError when no lab is up, or none that has this one.
    """
    lab = records.require()
    roles = lab.shape.roles
    if lab.guests is Guests.QEMU and (word == BOTH or word in GUESTS):
        raise OperatorError("no command can be run in a virtual machine", "its console is in /run/cb-lab/primary")
    if word == BOTH:
        return GUESTS
    if word not in roles:
        raise OperatorError(f"this lab has no {word}", f"it has {', '.join(roles)}")
    return (Role(word),)


def replace_self(role: Role, command: Sequence[str]) -> NoReturn:
    """Become the command: its terminal, signals and exit status are then nobody else's."""
    # Python ignores SIGPIPE, and an ignored signal stays ignored in the command.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    entered = enter(role, command)
    os.execvpe(entered[0], entered, environment(role))


def run_together(roles: Sequence[Role], command: Sequence[str]) -> int:
    """Run the command in several places at once, without input; the first exit status that is not 0."""
    children = [_start(role, command) for role in roles]
    with ExitStack() as stack:
        for number in FORWARDED:
            stack.callback(signal.signal, number, signal.signal(number, _forwarder(children)))
        statuses = [_status(child.wait()) for child in children]
    return next(filter(None, statuses), 0)


def detach(role: Role, command: Sequence[str]) -> ProcessId:
    """Start a command that ends with the lab; what it prints goes to a file of the lab's log directory."""
    if shutil.which(command[0]) is None:
        raise OperatorError(f"the program {command[0]} is not there")
    descriptor, _ = tempfile.mkstemp(prefix=f"{role}-", suffix=".log", dir=LOG_DIR)
    with os.fdopen(descriptor, "wb") as log:
        child = _start(role, command, log.fileno())
    return records.keep(child.pid, role, command)


def _start(role: Role, command: Sequence[str], output: int | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        enter(role, command),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=environment(role),
        start_new_session=True,
    )


def _forwarder(children: Sequence[subprocess.Popen[bytes]]) -> Callable[[int, FrameType | None], None]:
    def forward(number: int, _frame: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                os.killpg(child.pid, number)

    return forward


def _status(returned: int) -> int:
    """A shell's way to say which signal ended a command."""
    return returned if returned >= 0 else 128 - returned
