"""`lab up`, `lab down` and `lab status`: the life of the lab as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.lab import configuration, daemon, process, records, topology
from colo_bridge.lab.guests import pair
from colo_bridge.lab.layout import GUESTS, LOG_DIR, PKI_DIR, PROCESS_DIR, RUN_DIR, Guests, Mode, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.records import Made
from colo_bridge.lab.shape import HOST_ROLES, Host
from colo_bridge.link import pki

REQUIRED_COMMANDS = ("nsenter", "ip", "sh")
_CERTIFICATES_DAYS = 30


def up(options: Options) -> None:
    """Make the lab; a failure leaves nothing behind.

    Raises OperatorError when a lab is there already, a privilege or a program is missing or
    a setting is wrong, and KernelError when a part can't be made.
    """
    _check_machine()
    texts = [(host, configuration.make(options, host)) for host in options.shape.hosts]
    _claim()
    try:
        _make(options, texts)
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
    """What is up; of a protected lab also what its daemons say of themselves (or why they say nothing).

    The daemon that compares speaks at the top, another one under the name of its host.
    """
    lab = records.made()
    if lab is None:
        return {"lab": "incomplete" if _anything_left() else "down"}
    processes = [
        {"pid": record.process.pid, "role": record.role, "command": list(record.command)}
        for record in records.processes()
    ]
    answer: dict[str, Any] = {"lab": lab.mode, "shape": lab.shape, "processes": processes}
    if lab.mode is Mode.PROTECTED:
        comparing, *others = lab.shape.hosts
        answer |= _daemon_status(comparing)
        answer |= {host.role.value: _daemon_status(host) for host in others}
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


def _make(options: Options, texts: Sequence[tuple[Host, str]]) -> None:
    shape, guests = options.shape, options.guests
    for directory in (PROCESS_DIR, LOG_DIR, *(role.directory for role in shape.roles)):
        directory.mkdir()
    for host, text in texts:
        host.config_file.write_text(text, encoding="utf-8")
    topology.build(shape, guests)
    if options.mode is Mode.PROTECTED:
        _protect(options)
    if guests is Guests.NAMESPACES:
        topology.wait_carrier(Role.PRIMARY)
    topology.wait_carrier(Role.CLIENT)
    records.write(Made(options.mode, shape, guests))


def _protect(options: Options) -> None:
    hosts = options.shape.hosts
    if options.tls and options.shape.has_link:
        pki.init(PKI_DIR, configuration.host_names(hosts), datetime.now(UTC), _CERTIFICATES_DAYS)
    if options.guests is Guests.QEMU:
        pair.start(options.shape)
    started = [(host, daemon.start(host)) for host in hosts]
    if options.guests is Guests.QEMU:
        for _, process_id in started:
            pair.put_first(process_id)
        pair.enter_colo(hosts, *GUESTS)
    for host, process_id in started:
        daemon.wait_ready(host, process_id)
    if options.guests is Guests.NAMESPACES:
        topology.wait_carrier(Role.SECONDARY)


def _end_recorded() -> None:
    """The daemons last, so that they serve whatever still ends in order."""
    found = records.processes()
    for record in sorted(found, key=lambda record: record.role in HOST_ROLES):
        process.end(record.process)


def _end_inside() -> None:
    """What a crash left in the lab's namespaces would keep them alive without a name."""
    for role in topology.existing():
        for found in list(process.inside(role.namespace_file)):
            process.end(found)


def _anything_left() -> bool:
    return RUN_DIR.exists() or bool(topology.existing())


def _daemon_status(host: Host) -> dict[str, Any]:
    try:
        return daemon.status(host)
    except ColoBridgeError as error:
        return {"state": "dead", "problem": str(error)}
