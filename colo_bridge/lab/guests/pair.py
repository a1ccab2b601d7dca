"""The two virtual machines of the lab: made alike while both stand still, and let run under the eyes of the daemons.

Nothing leaves a replica unwatched: between the copy and COLO lies the start of the daemons. Either of the two can be
the one that is copied; the other one is the secondary then.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

from colo_bridge.errors import InternalError, KernelError
from colo_bridge.lab import daemon, execute, process
from colo_bridge.lab.guests import accelerator, operator, parts
from colo_bridge.lab.guests.machine import Machine
from colo_bridge.lab.layout import MIGRATION_SOCKET, Role
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.shape import Host, Shape

BOOT_SECONDS = 60.0
POLL_SECONDS = 0.05
_CHANNEL = f"unix:{MIGRATION_SOCKET}"
_PRIORITY = -10
_ARMED = ("unsynchronised", "protected", "standby", "live")
"""States of a daemon in which nothing of its guest passes unwatched, but for what an operator lets pass."""


def start(shape: Shape) -> None:
    """Boot the primary and copy it to the secondary; both stand still then."""
    primary = _machines(shape)[Role.PRIMARY]
    _wait_until_serving(primary, _launch(shape, primary))
    copy(shape, Role.PRIMARY, Role.SECONDARY)


def copy(shape: Shape, source: Role, target: Role) -> None:
    """Start the target as a copy of the source, which runs; both stand still then."""
    _launch(shape, _machines(shape)[target], _CHANNEL)
    operator.copy(source.operators_socket, target.operators_socket, _CHANNEL)


def enter_colo(hosts: Sequence[Host], source: Role, target: Role) -> None:
    """Let both run, once no daemon would let anything of theirs pass unwatched."""
    deadline = time.monotonic() + daemon.READY_SECONDS
    while not all(daemon.state_of(host) in _ARMED for host in hosts):
        if time.monotonic() > deadline:
            raise InternalError(f"a daemon does not protect its guest after {daemon.READY_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    operator.enter_colo(source.operators_socket, target.operators_socket)


def put_first(process_id: ProcessId) -> None:
    """Let a daemon run before all that is not so urgent.

    The guests stand still for two milliseconds only, in which it must have read what they sent before.
    """
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process_id.pid, _PRIORITY)


def _machines(shape: Shape) -> dict[Role, Machine]:
    made_of = parts.get()
    runs_on = accelerator.choose(made_of)
    return {guest: Machine(made_of, runs_on, guest, port.device) for guest, port in shape.guest_ports.items()}


def _launch(shape: Shape, machine: Machine, incoming: str | None = None) -> ProcessId:
    """Start one on the host that its port is on."""
    return execute.detach(shape.guest_ports[machine.role].role, machine.command(incoming))


def _wait_until_serving(machine: Machine, started: ProcessId) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    while not machine.is_ready():
        if process.wait_ended(started, POLL_SECONDS) or time.monotonic() > deadline:
            raise KernelError(f"the {machine.role}'s virtual machine does not boot", f"see {machine.console}")
