"""`colo-bridge run`: put the protection in force, serve, take it away again."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from colo_bridge.config import Config, NicConfig
from colo_bridge.daemon import interpreter
from colo_bridge.daemon.ending import HANDLED_SIGNALS
from colo_bridge.daemon.life import Life
from colo_bridge.daemon.primary import Primary
from colo_bridge.daemon.secondary import Secondary
from colo_bridge.daemon.service import Service
from colo_bridge.kernel.boundary import Protection
from colo_bridge.kernel.primary_nic import PrimaryNic
from colo_bridge.kernel.protection import NicProtection
from colo_bridge.kernel.secondary_nic import SecondaryNic

log = logging.getLogger(__name__)


def run(config: Config, file: Path | None = None) -> int:
    """Serve one guest until SIGTERM or SIGINT; raises ColoBridgeError if that cannot begin.

    `file` is where the configuration came from.
    """
    if not config.two_hosts:
        return _live(Service(config), NicProtection, config, file)
    if config.role == "primary":
        primary = Primary(config)
        return _live(primary, partial(PrimaryNic, silent=primary.begins_silent), config, file)
    return _live(Secondary(config), SecondaryNic, config, file)


def _live(
    service: Life[Any], protect: Callable[[str, NicConfig, Config], Protection], config: Config, file: Path | None
) -> int:
    service.file = file
    # A signal that comes while we arm waits until the loop can stop in order, one while we disarm for the end.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
    service.control.claim()
    try:
        protections = _arm(config, protect)
        interpreter.prepare()
        _serve(service, protections)
        if not service.stays_closed:
            _disarm(protections)
    finally:
        service.control.release()
    farewell = service.farewell
    log.log(farewell.level, "guest %s: stopped, %s", config.guest, farewell.text)
    return 0


def _arm(config: Config, protect: Callable[[str, NicConfig, Config], Protection]) -> list[tuple[str, Protection]]:
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


def _serve(service: Life[Any], protections: list[tuple[str, Protection]]) -> None:
    try:
        uvloop.run(service.run(protections))
    except BaseException:
        # Fail closed: without us the rules drop what they divert, until somebody decides.
        log.critical("ended by an error: the diversion stays in force; run again, or `colo-bridge cleanup`")
        raise
