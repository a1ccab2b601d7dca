"""Stands between two QEMUs, on the channel of their checkpoints, and stops one where a test wants it.

primary → secondary             secondary → primary
-----------------------------   --------------------------------------
request (4 octets)
                                the secondary stands still (4 octets)
state
                                received (4), loaded (4)
"""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from pathlib import Path

_WORD = 4
_CHUNK = 1 << 18


class Phase(enum.Enum):
    """Where a checkpoint is stopped: how many octets pass from the primary and from the secondary."""

    BETWEEN = (None, None)
    """There is none."""
    ASKED = (None, 0)
    """The secondary stands still, the primary does not know yet."""
    STANDING = (_WORD, _WORD)
    """Both do, and the state is still to come."""
    LOADED = (None, _WORD)
    """The secondary goes on with the new state, the primary does not know yet."""


class _Valve:
    """Lets a number of octets pass, or all."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._left: int | None = None

    def set(self, left: int | None) -> None:
        with self._changed:
            self._left = left
            self._changed.notify_all()

    def take(self, wanted: int) -> int:
        """Wait until anything may pass; how much of what is wanted may."""
        with self._changed:
            self._changed.wait_for(lambda: self._left != 0)
            if self._left is None:
                return wanted
            taken = min(wanted, self._left)
            self._left -= taken
            return taken


class Relay:
    def __init__(self, here: Path, there: Path) -> None:
        self._there = there
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(here))
        self._listening.listen(1)
        self._valves = (_Valve(), _Valve())
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stop_in(self, phase: Phase) -> None:
        """The next checkpoint gets no further than this."""
        for valve, left in zip(self._valves, phase.value, strict=True):
            valve.set(left)

    def go_on(self) -> None:
        self.stop_in(Phase.BETWEEN)

    def close(self) -> None:
        self.go_on()
        for each in (*self._ends, self._listening):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            primary, _ = self._listening.accept()
            secondary = socket.socket(socket.AF_UNIX)
            secondary.connect(str(self._there))
            self._ends = [primary, secondary]
            for valve, source, sink in zip(self._valves, self._ends, reversed(self._ends), strict=True):
                threading.Thread(target=self._carry, args=(valve, source, sink), daemon=True).start()

    @staticmethod
    def _carry(valve: _Valve, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                rest = memoryview(chunk)
                while rest:
                    taken = valve.take(len(rest))
                    sink.sendall(rest[:taken])
                    rest = rest[taken:]
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
