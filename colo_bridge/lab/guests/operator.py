"""What an operator of two virtual machines does with QMP: bring them into COLO, without a gap in their protection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError

from colo_bridge.errors import PeerError

POLL_SECONDS = 0.02
_ANSWER_SECONDS = 10.0
_STEP_SECONDS = 60.0
_CAPABILITIES = ("x-colo", "pause-before-switchover", "events")
_PARAMETERS = {"x-checkpoint-delay": 1_000_000, "max-bandwidth": 1 << 33}
"""Checkpoints of its own are 1,000 s apart; the daemon asks for those that are needed."""


def copy(primary: Path, secondary: Path, channel: str) -> None:
    """Copy the primary to the secondary; both stand still then, until `enter_colo`.

    `primary` and `secondary` are QMP sockets, `channel` is where the secondary listens. Raises PeerError.
    A primary may be a secondary that has gone live.
    """
    capabilities = [{"capability": name, "state": True} for name in _CAPABILITIES]
    for socket in (secondary, primary):
        _wait_for(partial(_answers, socket), f"QEMU answers at {socket}")
        execute(socket, "migrate-set-capabilities", {"capabilities": capabilities})
    execute(primary, "migrate-set-parameters", _PARAMETERS)
    execute(primary, "migrate", {"uri": channel})
    _wait_for(lambda: _migration(primary) == "pre-switchover", "the primary's state is copied")


def enter_colo(primary: Path, secondary: Path) -> None:
    """Let both run as one, now that somebody watches them."""
    execute(primary, "migrate-continue", {"state": "pre-switchover"})
    _wait_for(lambda: all(_is_in_colo(socket) for socket in (primary, secondary)), "both replicas are in COLO")


def execute(socket: Path, command: str, arguments: Mapping[str, object] | None = None) -> dict[str, Any]:
    """QEMU's answer; raises PeerError if there is none."""
    try:
        answer = asyncio.run(asyncio.wait_for(_execute(socket, command, arguments), _ANSWER_SECONDS))
    except ExecuteError as error:
        raise PeerError(f"QEMU refused {command}: {error}") from error
    except (TimeoutError, QMPError, OSError) as error:
        raise PeerError(f"no QEMU answered {command} at {socket}") from error
    return answer if isinstance(answer, dict) else {}


async def _execute(socket: Path, command: str, arguments: Mapping[str, object] | None) -> object:
    connection = QMPClient()
    try:
        await connection.connect(str(socket))
    except ConnectError:
        # The library takes an event that comes in front of the first answer for a wrong answer.
        await connection.disconnect()
        await connection.connect(str(socket))
    try:
        return await connection.execute(command, dict(arguments) if arguments else None)
    finally:
        await connection.disconnect()


def _answers(socket: Path) -> bool:
    try:
        execute(socket, "query-status")
    except PeerError:
        return False
    return True


def _is_in_colo(socket: Path) -> bool:
    return _migration(socket) == "colo" and execute(socket, "query-status").get("status") == "running"


def _migration(socket: Path) -> object:
    return execute(socket, "query-migrate").get("status")


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _STEP_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise PeerError(f"not within {_STEP_SECONDS:g} s: {what}")
        time.sleep(POLL_SECONDS)
