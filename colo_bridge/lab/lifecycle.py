"""`lab up`, `lab down` and `lab status`: the life of the lab as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.lab import configuration, daemon, process, records, topology
from colo_bridge.lab.layout import CONFIG_FILE, LOG_DIR, PROCESS_DIR, RUN_DIR, Mode, Role

REQUIRED_COMMANDS = ("nsenter", "ip", "sh")


@dataclass(frozen=True, slots=True)
class Options:
    """What `lab up` makes."""

    mode: Mode = Mode.PROTECTED
    backend: str = "auto"
    settings: tuple[str, ...] = ()
    """SECTION.KEY=VALUE, on top of the lab's own configuration."""


def up(options: Options) -> None:
    """Make the lab; a failure leaves nothing behind.

    Raises OperatorError when a lab is there already, a privilege or a program is missing or
    a setting is wrong, and KernelError when a part can't be made.
    """
    _check_machine()
    text = configuration.make(options.backend, options.settings)
    _claim()
    try:
        _make(options.mode, text)
    except BaseException:
        down()
        raise


def down() -> bool:
    """End every process of the lab and remove all that it made, also what a crash left; False: nothing was there."""
    found = _anything_left()
    _end_recorded()
    _end_inside()
    topology.remove()
    shutil.rmtree(RUN_DIR, ignore_errors=True)
    return found


@contextmanager
def running(options: Options) -> Iterator[None]:
    """A lab for as long as the block lasts."""
    up(options)
    try:
        yield
    finally:
        down()


def check_none_is_up() -> None:
    """Raises OperatorError when a lab is up, or a part of one was left."""
    if _anything_left():
        raise OperatorError("a lab is already up, or was left by a crash", "remove it with colo-bridge lab down")


def status() -> dict[str, Any]:
    """What is up; of a protected lab also what its daemon says of itself (or why it says nothing)."""
    mode = records.mode()
    answer: dict[str, Any] = {"lab": mode or ("incomplete" if _anything_left() else "down")}
    if mode:
        answer["processes"] = [
            {"pid": record.process.pid, "role": record.role, "command": list(record.command)}
            for record in records.processes()
        ]
    if mode is Mode.PROTECTED:
        answer |= _daemon_status()
    return answer


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise OperatorError("the lab makes network namespaces, which only root may do", "run it with sudo")
    for command in REQUIRED_COMMANDS:
        if shutil.which(command) is None:
            raise OperatorError(f"the program {command} is missing", "install iproute2 and util-linux")


def _claim() -> None:
    """Making the directory is the lock between two `lab up` at once."""
    check_none_is_up()
    try:
        RUN_DIR.mkdir(mode=0o700)
    except FileExistsError as error:
        raise OperatorError("another lab up is at work", "wait for it") from error


def _make(mode: Mode, text: str) -> None:
    for directory in (PROCESS_DIR, LOG_DIR, *(role.directory for role in Role)):
        directory.mkdir()
    CONFIG_FILE.write_text(text, encoding="utf-8")
    topology.build()
    if mode is Mode.PROTECTED:
        daemon.wait_protected(daemon.start())
        topology.wait_carrier(Role.SECONDARY)
    topology.wait_carrier(Role.PRIMARY)
    topology.wait_carrier(Role.CLIENT)
    records.write_mode(mode)


def _end_recorded() -> None:
    """The daemon last, so that it serves whatever still ends in order."""
    found = records.processes()
    for record in sorted(found, key=lambda record: record.role is Role.HOST):
        process.end(record.process)


def _end_inside() -> None:
    """What a crash left in the lab's namespaces would keep them alive without a name."""
    for role in topology.existing():
        for found in list(process.inside(role.namespace_file)):
            process.end(found)


def _anything_left() -> bool:
    return RUN_DIR.exists() or bool(topology.existing())


def _daemon_status() -> dict[str, Any]:
    try:
        return daemon.status()
    except ColoBridgeError as error:
        return {"state": "dead", "problem": str(error)}
