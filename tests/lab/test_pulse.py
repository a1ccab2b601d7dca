"""Another process's connection is found, and the times at which its bytes move are seen."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from colo_bridge.lab.pulse import Counter, Move, Pulse, connection_to, longest_pause, total_at

HOST = "127.0.0.1"
CLIENT = """
import socket, sys
quiet = socket.socketpair(), socket.socket()
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    while part := connection.recv(1000):
        connection.sendall(part[:500])
"""
PAUSE = 0.2


@pytest.fixture
def client() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A process with a connection among other sockets, and our end of it."""
    with socket.create_server((HOST, 0)) as server:
        command = [sys.executable, "-c", CLIENT, HOST, str(server.getsockname()[1])]
        with subprocess.Popen(command) as child, server.accept()[0] as connection:
            yield child, connection
            child.kill()


def test_the_connection_of_another_process_is_found(client: tuple[subprocess.Popen[bytes], socket.socket]) -> None:
    child, ours = client
    found = connection_to(child.pid, HOST)
    assert found
    with found:
        assert found.getsockname() == ours.getpeername()
    assert connection_to(child.pid, "192.0.2.1") is None


def test_a_process_that_is_not_there_has_none() -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    assert connection_to(child.pid, HOST) is None


@pytest.mark.parametrize(("counter", "total"), [(Counter.RECEIVED, 2_000), (Counter.ACKNOWLEDGED, 1_000)])
def test_a_pause_is_seen(client: tuple[subprocess.Popen[bytes], socket.socket], counter: Counter, total: int) -> None:
    child, ours = client
    with connection_to(child.pid, HOST) as connection:
        pulse = Pulse(connection, counter)
        for _ in range(2):
            time.sleep(PAUSE)
            ours.sendall(bytes(1_000))
            assert len(ours.recv(500, socket.MSG_WAITALL)) == 500
        deadline = time.monotonic() + 5
        # SYN and handshake are no bytes; the acknowledgement of the last ones may be delayed.
        while pulse.total < total and time.monotonic() < deadline:
            time.sleep(0.01)
        pulse.stop()
    assert pulse.total - pulse.moves[0].total == total
    first = pulse.moves[1].when - pulse.moves[0].when
    assert longest_pause(pulse.moves) >= first > 0.9 * PAUSE


MOVES = [Move(1.0, 0), Move(1.1, 10), Move(2.0, 20), Move(2.5, 30), Move(2.6, 40)]


def test_the_longest_pause() -> None:
    assert longest_pause(MOVES) == pytest.approx(0.9)
    assert longest_pause(MOVES, since=1.5) == pytest.approx(0.9)
    assert longest_pause(MOVES, since=2.0) == pytest.approx(0.5)
    assert longest_pause(MOVES, since=1.7, counted_from=1.7) == pytest.approx(0.5)
    assert longest_pause(MOVES, since=1.2, counted_from=1.2) == pytest.approx(0.8)
    assert longest_pause(MOVES, since=3.0) == longest_pause([]) == 0.0


def test_what_had_moved_by_then() -> None:
    assert [total_at(MOVES, when) for when in (0.5, 1.0, 1.9, 2.0, 9.0)] == [0, 0, 10, 20, 40]
