"""Asks a running daemon over its control socket: one JSON line there, one back."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from colo_bridge.errors import OperatorError, PeerError

MOST_BYTES = 16 << 20
"""An answer longer than this comes from something that is not our daemon."""


def ask(path: Path, verb: str, timeout: float = 5.0, arguments: Mapping[str, object] | None = None) -> dict[str, Any]:
    """The daemon's `result` for a verb with its arguments; `timeout` is in seconds.

    Raises OperatorError when no daemon listens or we may not talk to it, PeerError
    when it does not answer in time, refuses the verb or answers in a language that is not ours.
    """
    try:
        line = _exchange(path, json.dumps({"verb": verb, **(arguments or {})}).encode() + b"\n", timeout)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise OperatorError(f"no daemon listens at {path}", "start one with colo-bridge run FILE") from error
    except PermissionError as error:
        raise OperatorError(f"{path} may not be opened by this user", "be root, or a user of control.uids") from error
    except TimeoutError as error:
        raise PeerError(f"the daemon at {path} did not answer within {timeout:g} s") from error
    except OSError as error:
        raise PeerError(f"the conversation with the daemon at {path} failed: {error.strerror}") from error
    return _result(line, path)


def _exchange(path: Path, request: bytes, timeout: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        # Who is refused is told so without being asked, and may find nobody listening any more.
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(request)
        with connection.makefile("rb") as answers:
            return answers.readline(MOST_BYTES)


def _result(line: bytes, path: Path) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise PeerError(f"the daemon at {path} did not answer in JSON") from error
    if not isinstance(answer, dict):
        raise PeerError(f"the daemon at {path} did not answer with an object")
    if answer.get("ok") is not True:
        raise PeerError(str(answer.get("error", f"the daemon at {path} refused")))
    result = answer.get("result")
    return result if isinstance(result, dict) else {}
