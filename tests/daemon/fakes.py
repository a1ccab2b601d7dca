"""Ports without a kernel: what a queue, a TAP and a protection are to the daemon."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

from colo_bridge.kernel.fault import Fault
from colo_bridge.kernel.tap import VNET_HEADER_BYTES
from tests import packets

CLOBBER = 0xEE
_PACKET_AT = 84
"""Where a packet begins in the queue's buffer: behind a message header."""


class _Readable:
    """A descriptor that an event loop can watch: readable while `wake` was called more often than `rest`."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)

    def fileno(self) -> int:
        return self._here.fileno()

    def wake(self) -> None:
        self._there.send(b"!")

    def rest(self) -> None:
        try:
            self._here.recv(1 << 16)
        except BlockingIOError:
            return

    def close(self) -> None:
        self._here.close()
        self._there.close()


class FakeQueue(_Readable):
    """Packets wait in `waiting`; verdicts are noted in `events` in the order in which the kernel hears of them."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(70_000)
        self.waiting: deque[tuple[int, bytes, bool]] = deque()
        self.events: list[tuple[Any, ...]] = []
        self._next = 1

    def put(self, *frames: bytes, truncated: bool = False) -> list[int]:
        """The primary sends these frames; their packet ids."""
        ids = list(range(self._next, self._next + len(frames)))
        self._next += len(frames)
        self.waiting += [(number, frame[14:], truncated) for number, frame in zip(ids, frames, strict=True)]
        self.wake()
        return ids

    def receive(self) -> tuple[int, int, int, bool] | None:
        _clobber(self.buffer)
        if not self.waiting:
            self.rest()
            return None
        number, packet, truncated = self.waiting.popleft()
        self.buffer[_PACKET_AT : _PACKET_AT + len(packet)] = packet
        return number, _PACKET_AT, _PACKET_AT + len(packet), truncated

    def accept(self, number: int) -> None:
        self.events.append(("accept", number))

    def drop(self, number: int) -> None:
        self.events.append(("drop", number))

    def replace(self, number: int, packet: bytes) -> None:
        self.events.append(("replace", number, packet))

    def flush(self) -> None:
        self.events.append(("flush",))

    @property
    def accepted(self) -> list[int]:
        return [event[1] for event in self.events if event[0] == "accept"]

    @property
    def dropped(self) -> list[int]:
        return [event[1] for event in self.events if event[0] == "drop"]


class FakeTap(_Readable):
    """Frames to be read wait in `waiting`; what was sent is in `sent`, without its virtio-net header."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(70_000)
        self.waiting: deque[bytes] = deque()
        self.sent: list[bytes] = []

    def put(self, *frames: bytes) -> None:
        self.waiting += [packets.virtio(frame) for frame in frames]
        self.wake()

    def receive(self) -> int:
        _clobber(self.buffer)
        if not self.waiting:
            self.rest()
            return 0
        frame = self.waiting.popleft()
        self.buffer[: len(frame)] = frame
        return len(frame)

    def send(self, frame: bytes | bytearray | memoryview) -> bool:
        self.sent.append(bytes(frame[VNET_HEADER_BYTES:]))
        return True


def _clobber(buffer: bytearray) -> None:
    """What a port reads overwrites what it read before: nobody may look there any more."""
    buffer[:] = bytes((CLOBBER,)) * len(buffer)


class FakeProtection:
    """A protection with `faults` that `mend` takes away where `mends` says so; `log` tells what was called."""

    def __init__(self, *faults: Fault, mends: bool = True, taken_over: bool = False) -> None:
        self.queue, self.mirror, self.secondary = FakeQueue(), FakeTap(), FakeTap()
        self.forward: FakeTap | None = FakeTap()
        self.faults: list[Fault] = list(faults)
        self.kernel: dict[str, int] = {}
        self.mends = mends
        self.taken_over = taken_over
        self.error: Exception | None = None
        self.log: list[str] = []

    def arm(self) -> None:
        self._called("arm")

    def check(self) -> list[Fault]:
        self._called("check")
        return list(self.faults)

    def mend(self, _: Collection[str] | None = None) -> None:
        self._called("mend")
        if self.mends:
            self.faults.clear()

    @property
    def devices(self) -> frozenset[str]:
        return frozenset(("p0",))

    def mend_devices(self) -> list[Fault]:
        self._called("mend_devices")
        faults = list(self.faults)
        if self.mends:
            self.faults.clear()
        return faults

    def silence(self, on: bool) -> None:
        self._called("silence" if on else "speak")

    def disarm(self) -> None:
        self._called("disarm")

    def counters(self) -> dict[str, int]:
        return dict(self.kernel)

    def times(self, call: str) -> int:
        return self.log.count(call)

    def close(self) -> None:
        close_all((self.queue, self.mirror, self.secondary))

    def _called(self, what: str) -> None:
        self.log.append(what)
        if self.error is not None:
            raise self.error


def close_all(ports: Iterable[_Readable]) -> None:
    for port in ports:
        port.close()
