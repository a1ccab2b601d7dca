"""Unix stream sockets that listen at a path: ours alone, and never a living daemon's taken away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from colo_bridge.errors import OperatorError


def listen(path: Path, backlog: int) -> tuple[socket.socket, int]:
    """A non-blocking listening socket at `path` with mode 0600, and the inode of its file.

    What a dead process left there is replaced; raises OperatorError if a live one listens, and OSError.
    """
    with _lock(path.parent):
        _remove_stale(path)
        return _bind(path, backlog), path.stat().st_ino


def open_to_all(path: Path, inode: int, is_open: bool) -> None:
    """Let every user connect to our socket, for its owner to look at who it is; or only our own again."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == inode:
            path.chmod(0o666 if is_open else 0o600)


def remove(path: Path, inode: int) -> None:
    """Take away the file of our socket, but not one that a successor has put in its place."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == inode:
            path.unlink()


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Two daemons that start at once must not both find the socket stale."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _bind(path: Path, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _remove_stale(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OperatorError(f"{path} exists and is no socket", "remove it or choose another path")
        if _is_alive(path):
            raise OperatorError(f"a daemon is already running at {path}", "stop it first")
        path.unlink()


def _is_alive(path: Path) -> bool:
    """Whether somebody listens; a full backlog (EAGAIN) counts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            pass
    return True
