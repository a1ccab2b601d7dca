"""`colo-bridge run`: put the protection in force, serve, take it away again."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvloop

from colo_bridge.config import Config, NicConfig
from colo_bridge.daemon import interpreter
from colo_bridge.daemon.ending import HANDLED_SIGNALS
from colo_bridge.daemon.service import Service
from colo_bridge.errors import OperatorError
from colo_bridge.kernel.boundary import Protection
from colo_bridge.kernel.protection import NicProtection

log = logging.getLogger(__name__)

_Protection = TypeVar("_Protection", bound=Protection)


def run(config: Config, file: Path | None = None) -> int:
    """Protect one guest until SIGTERM or SIGINT; raises ColoBridgeError if that cannot begin.

    `file` is where the configuration came from.
    """
    if config.two_hosts:
        raise OperatorError("a guest on two hosts cannot be served yet", "leave out [link]")
    service = Service(config)
    service.file = file
    # A signal that comes while we arm waits until the loop can stop in order, one while we disarm for the end.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
    service.control.claim()
    try:
        protections = _arm(config, NicProtection)
        interpreter.prepare()
        _serve(service, protections)
        _disarm(protections)
    finally:
        service.control.release()
    log.info("guest %s: stopped, nothing of ours is left in the kernel", config.guest)
    return 0


def _arm(config: Config, protect: Callable[[str, NicConfig, Config], _Protection]) -> list[tuple[str, _Protection]]:
    """Arm every NIC, before the loop: pyroute2 and uvloop can't share a running one.

    If one fails the others are taken back, but not what a killed daemon had left in force.
    """
    protections = []
    with contextlib.ExitStack() as undo:
        for nic in config.nic:
            protection = protect(config.guest, nic, config)
            protection.arm()
            if not protection.taken_over:
                undo.callback(protection.disarm)
            protections.append((nic.name, protection))
        undo.pop_all()
    return protections


def _disarm(protections: Sequence[tuple[str, Protection]]) -> None:
    """Each of them, also if another one fails."""
    with contextlib.ExitStack() as undo:
        for _, protection in reversed(protections):
            undo.callback(protection.disarm)


def _serve(service: Service, protections: list[tuple[str, NicProtection]]) -> None:
    try:
        uvloop.run(service.run(protections))
    except BaseException:
        # Fail closed: without us the rules drop what they divert, until somebody decides.
        log.critical("ended by an error: the diversion stays in force; run again, or `colo-bridge cleanup`")
        raise
