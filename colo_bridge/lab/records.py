"""What a lab that is up has on disk: what it is, and the processes that end with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from colo_bridge.errors import OperatorError
from colo_bridge.lab import process
from colo_bridge.lab.layout import MODE_FILE, PROCESS_DIR, Guests, Mode, Role
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.shape import Host, Shape


@dataclass(frozen=True, slots=True)
class Made:
    """What `lab up` made."""

    mode: Mode
    shape: Shape
    guests: Guests = Guests.NAMESPACES


@dataclass(frozen=True, slots=True)
class Record:
    """A process that `lab down` has to end."""

    process: ProcessId
    role: Role
    command: tuple[str, ...]

    @property
    def file(self) -> Path:
        return PROCESS_DIR / f"{self.process.pid}.json"


def made() -> Made | None:
    """The lab that is up; None when none is, or one was left half-made."""
    try:
        mode, shape, guests = MODE_FILE.read_text(encoding="ascii").split()
        return Made(Mode(mode), Shape(shape), Guests(guests))
    except (FileNotFoundError, ValueError):
        return None


def require() -> Made:
    """The lab that is up; OperatorError when none is."""
    found = made()
    if found is None:
        raise OperatorError("no lab is up", "make one with colo-bridge lab up")
    return found


def comparing_host() -> Host:
    """The host of the lab that is up whose daemon compares."""
    return require().shape.hosts[0]


def write(lab: Made) -> None:
    MODE_FILE.write_text(f"{lab.mode} {lab.shape} {lab.guests}\n", encoding="ascii")


def keep(pid: int, role: Role, command: Sequence[str]) -> ProcessId:
    """Remember a process; one that has ended already needs no record."""
    found = process.identify(pid)
    if found is None:
        return ProcessId(pid, 0)
    record = Record(found, role, tuple(command))
    text = json.dumps({"started": found.started, "role": role, "command": list(command)})
    record.file.write_text(text, encoding="utf-8")
    return found


def processes() -> list[Record]:
    """Every remembered process that still runs."""
    found = [_read(file) for file in sorted(PROCESS_DIR.glob("*.json"))]
    return [record for record in found if process.is_running(record.process)]


def _read(file: Path) -> Record:
    data = json.loads(file.read_text(encoding="utf-8"))
    return Record(ProcessId(int(file.stem), data["started"]), Role(data["role"]), tuple(data["command"]))
