"""`colo-bridge compare` in a process of its own, and clients that know nothing but QEMU's format."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from tests import packets

SECONDS = 20.0
"""Longer than anything here takes, on any machine."""
COLO_BRIDGE = (sys.executable, "-m", "colo_bridge")
_numbers = count(1)


class Peer:
    """A client of one socket; messages are read and written whole."""

    def __init__(self, address: str | tuple[str, int], *, vnet_words: tuple[bool, bool] = (False, False)) -> None:
        """`vnet_words`: whether a header length is written, and whether one is read."""
        self._writes_word, self._reads_word = vnet_words
        self.socket = connect(address)
        self._received = bytearray()

    def send(self, *messages: bytes, header_length: int = 0) -> None:
        self.socket.sendall(b"".join(self.framed(message, header_length) for message in messages))

    def framed(self, message: bytes, header_length: int = 0) -> bytes:
        word = struct.pack("!I", header_length) if self._writes_word else b""
        return struct.pack("!I", len(message)) + word + message

    def receive(self) -> bytes:
        """The next message; raises EOFError. A timeout in the middle of it loses nothing."""
        words = 8 if self._reads_word else 4
        length = int.from_bytes(self._peek(4), "big")
        message = self._peek(words + length)
        del self._received[: words + length]
        self.header_length = int.from_bytes(message[4:words], "big")
        return message[words:]

    def read(self, size: int) -> bytes:
        """So many bytes of the stream; raises EOFError."""
        data = self._peek(size)
        del self._received[:size]
        return data

    def _peek(self, size: int) -> bytes:
        while len(self._received) < size:
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError
            self._received += data
        return bytes(self._received[:size])

    def close(self) -> None:
        self.socket.close()


def connect(address: str | tuple[str, int]) -> socket.socket:
    """A connection, as soon as somebody listens."""
    deadline = time.monotonic() + SECONDS
    while True:
        client = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
        client.settimeout(SECONDS)
        try:
            client.connect(address)
            return client
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


class Comparison:
    """Clients of the sockets of a comparator, wherever they are."""

    vnet = False
    process: subprocess.Popen

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths
        self.open: list[Peer] = []

    def connect(self, name: str) -> Peer:
        peer = Peer(self.paths[name], vnet_words=(self.vnet and name != "out", self.vnet and name == "out"))
        self.open.append(peer)
        return peer

    def connect_all(self) -> None:
        self.primary, self.secondary, self.out = (self.connect(name) for name in ("primary-in", "secondary-in", "out"))
        if "notify" in self.paths:
            self.notify = self.connect("notify")

    def disconnect_all(self) -> None:
        for peer in self.open:
            peer.close()

    # What has happened, without sleeping.

    def out_after_primary(self) -> list[bytes]:
        """What left because of what the primary has sent: ARP passes at once, behind it."""
        last = mark()
        self.primary.send(last)
        return self.out_until(last)

    def out_after_secondary(self) -> list[bytes]:
        """What left because of what the secondary has sent: a datagram that both send leaves behind it."""
        last = packets.udp(sport=9, dport=9, payload=b"mark %d" % next(_numbers))
        self.secondary.send(last)
        self.primary.send(last)
        return self.out_until(last)

    def out_until(self, last: bytes) -> list[bytes]:
        messages = []
        while (message := self.out.receive()) != last:
            messages.append(message)
        return messages

    def notified(self) -> list[bytes]:
        """What the manager was told until it asked: its question is answered in turn."""
        self.notify.send(b"COLO_USERSPACE_PROXY_INIT")
        messages = []
        while (message := self.notify.receive()) != b"COLO_COMPARE_GET_XEN_INIT":
            messages.append(message)
        return messages


class Compare(Comparison):
    """A process of `colo-bridge compare`."""

    def __init__(
        self, directory: Path, *options: str, notify: bool = True, command: tuple[str, ...] = COLO_BRIDGE
    ) -> None:
        names = ("primary-in", "secondary-in", "out", *(["notify"] if notify else []))
        super().__init__({name: str(directory / name) for name in names})
        self.vnet = "--vnet-hdr" in options
        addresses = [word for name, path in self.paths.items() for word in (f"--{name}", f"unix:{path}")]
        self.log_file = directory / "log"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen([*command, "compare", *addresses, *options], stderr=log)

    def counters(self) -> dict[str, int]:
        """The counters in the log line that SIGUSR1 asks for."""
        lines = len(self._counter_lines())
        self.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: len(self._counter_lines()) > lines)
        return self.last_counters()

    def last_counters(self) -> dict[str, int]:
        entries = self._counter_lines()[-1].split("counters: ")[1].split(", ")
        return {name: int(number) for name, number in (entry.split() for entry in entries if entry != "none")}

    def _counter_lines(self) -> list[str]:
        return [line for line in self.log().splitlines(keepends=True) if "counters: " in line and line.endswith("\n")]

    def log(self) -> str:
        return self.log_file.read_text()

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(SECONDS)


def mark() -> bytes:
    """An ARP frame that is like no other."""
    return packets.arp(destination="10.0.0.3")[:-8] + next(_numbers).to_bytes(8, "big")


def wait_for(condition, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.005)


@contextlib.contextmanager
def comparing(*options: str, connected: bool = True, **arguments) -> Iterator[Compare]:
    """A running process; it must end in order and take its sockets away."""
    with tempfile.TemporaryDirectory(prefix="cb-compare-") as directory:
        Path(directory).chmod(0o777)
        compare = Compare(Path(directory), *options, **arguments)
        try:
            if connected:
                compare.connect_all()
            yield compare
            assert compare.stop() == 0
            assert [path for path in compare.paths.values() if Path(path).exists()] == []
            assert "Traceback" not in compare.log()
        finally:
            compare.process.kill()
            compare.process.wait()
            compare.disconnect_all()
