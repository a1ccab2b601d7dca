"""Processes that outlive the command that started them: known by pid and start time, ended by signal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A pid that can't be mistaken for a later process with the same number."""

    pid: int
    started: int
    """Clock ticks between boot and the start of the process (proc(5), stat field 22)."""


def identify(pid: int) -> ProcessId | None:
    """The identity of a running process; None when there is none, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The command in parentheses may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else ProcessId(pid, int(fields[19]))


def is_running(process: ProcessId) -> bool:
    return identify(process.pid) == process


def wait_ended(process: ProcessId, seconds: float) -> bool:
    """Wait until the process has ended; False when it still runs after `seconds`."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)):
        if is_running(process):
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(seconds * 1000)
    _reap(process.pid)
    return not is_running(process)


def end(process: ProcessId, grace: float = 5.0) -> None:
    """End a process and its group: politely, and after `grace` seconds for good."""
    if is_running(process):
        _signal(process.pid, signal.SIGTERM)
    if not wait_ended(process, grace):
        kill(process)


def kill(process: ProcessId) -> None:
    """End a process and its group at once, as a crash would."""
    if is_running(process):
        _signal(process.pid, signal.SIGKILL)
    wait_ended(process, 5.0)


def inside(namespace_file: Path) -> Iterator[ProcessId]:
    """Every process but this one that runs in a network namespace."""
    try:
        wanted = namespace_file.stat()
    except FileNotFoundError:
        return
    for pid in _all_pids():
        process = identify(pid)
        if process and pid != os.getpid() and _same_namespace(pid, wanted):
            yield process


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _same_namespace(pid: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(f"/proc/{pid}/ns/net").stat(), wanted)
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
