"""Asking a daemon that answers, one that is not there, and things that are no daemon."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from colo_bridge.daemon.client import ask
from colo_bridge.errors import OperatorError, PeerError


def test_the_result_comes_back(tmp_path: Path) -> None:
    path, asked = _daemon(tmp_path, b'{"ok": true, "result": {"state": "protected"}}\n')
    assert ask(path, "status") == {"state": "protected"}
    assert asked == [b'{"verb": "status"}\n']


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b'{"ok": false, "error": "unknown verb"}\n', "unknown verb"),
        (b"HTTP/1.1 400 Bad Request\r\n", "JSON"),
        (b"[1]\n", "object"),
        (b"", "JSON"),
        (b"\xff\n", "JSON"),
        (b"{}\n", "refused"),
    ],
)
def test_what_is_no_result_is_the_daemons_fault(tmp_path: Path, answer: bytes, problem: str) -> None:
    path, _ = _daemon(tmp_path, answer)
    with pytest.raises(PeerError, match=problem):
        ask(path, "status")


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no daemon listens"):
        ask(tmp_path / "none.sock", "status")


def test_a_dead_daemons_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(OperatorError, match="no daemon listens"):
        ask(tmp_path / "dead.sock", "status")


def test_a_silent_daemon_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        with pytest.raises(PeerError, match=r"within 0\.1 s"):
            ask(tmp_path / "silent.sock", "status", timeout=0.1)


def _daemon(directory: Path, answer: bytes) -> tuple[Path, list[bytes]]:
    """Answers once."""
    path, asked = directory / "daemon.sock", []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            asked.append(connection.recv(1000))
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return path, asked
