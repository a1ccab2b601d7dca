"""How the bytes of another process's TCP connection move, by its socket's own counters (tcp_info, tcp(7)).

What the client's kernel has received, or knows to have arrived, is counted, not what the client has read or written:
a client that holds itself back does so in steps.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

PERIOD = 0.001
"""Seconds between two looks."""
_PIDFD_GETFD = 438
"""Number of the system call, the same on every architecture (pidfd_getfd(2))."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_COUNTER = struct.Struct("=Q")
_LENGTH = 136


class Counter(IntEnum):
    """Where a counter stands in tcp_info (linux/tcp.h)."""

    ACKNOWLEDGED = 120
    """Bytes that were sent and acknowledged."""
    RECEIVED = 128
    """Bytes that arrived in order."""


@dataclass(frozen=True, slots=True)
class Move:
    """The counter was seen to have grown."""

    when: float
    """Monotonic seconds."""
    total: int


class Pulse:
    """Looks at a connection from the construction to `stop`, in a thread of its own."""

    def __init__(self, connection: socket.socket, counter: Counter) -> None:
        self._connection = connection
        self._counter = counter
        self._over = threading.Event()
        self.moves = [Move(time.monotonic(), self._total())]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def total(self) -> int:
        return self.moves[-1].total

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            self._look()
            time.sleep(PERIOD)
        self._look()

    def _look(self) -> None:
        total = self._total()
        if total != self.moves[-1].total:
            self.moves.append(Move(time.monotonic(), total))

    def _total(self) -> int:
        info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH)
        return int(_COUNTER.unpack_from(info, self._counter)[0])


def longest_pause(moves: Iterable[Move], since: float = 0.0, counted_from: float = 0.0) -> float:
    """Seconds of the longest pause that lasted beyond `since`; what of it was before `counted_from` does not count."""
    pauses = (later.when - max(earlier.when, counted_from) for earlier, later in pairwise(moves) if later.when > since)
    return max(pauses, default=0.0)


def total_at(moves: Iterable[Move], when: float) -> int:
    """Bytes that had moved by then."""
    return max((move.total for move in moves if move.when <= when), default=0)


def connection_to(pid: int, address: str) -> socket.socket | None:
    """A duplicate of the process's TCP socket that is connected to `address`; None when it has none (yet).

    While the duplicate is open the connection is, too.
    """
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        copies = (_duplicate(process, number) for number in _socket_numbers(pid))
        return next((copy for copy in copies if copy and _is_connected(copy, address)), None)
    finally:
        os.close(process)


def _socket_numbers(pid: int) -> list[int]:
    numbers = []
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()).startswith("socket:"):
                numbers.append(int(entry.name))
    return numbers


def _duplicate(process: int, number: int) -> socket.socket | None:
    found = _LIBC.syscall(_PIDFD_GETFD, process, number, 0)
    return socket.socket(fileno=found) if found >= 0 else None


def _is_connected(connection: socket.socket, address: str) -> bool:
    """Otherwise it is closed."""
    with contextlib.suppress(OSError):
        if connection.family != socket.AF_UNIX and connection.getpeername()[0] == address:
            return True
    connection.close()
    return False
