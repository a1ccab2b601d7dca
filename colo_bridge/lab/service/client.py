"""The client: one transfer, many at once, or many short turns; each with its time and whether it was right."""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from colo_bridge.lab.service.content import block, first_difference, piece
from colo_bridge.lab.service.placement import to_client_cpu
from colo_bridge.lab.service.server import CHUNK, discard, receive_some, send_content


@dataclass(frozen=True, slots=True)
class Request:
    """What to do in each connection."""

    operation: str
    """`get` or `put`."""
    host: str
    port: int
    length: int
    """Bytes."""
    seed: int = 0
    verify: bool = False
    """Look at every byte; otherwise they are thrown away unseen, which costs nothing."""
    timeout: float = 60.0
    """Seconds of silence after which a connection has failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One connection's end."""

    seconds: float
    correct: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Turns:
    """Round trips of one byte, in microseconds."""

    count: int
    p50_us: float
    p99_us: float
    worst_us: float
    correct: bool


class _WrongBytesError(Exception):
    """The bytes that came are not those that were asked for."""


def transfer(request: Request) -> Outcome:
    """One connection; whatever goes wrong is part of the outcome."""
    block(request.seed)  # Made before the clock starts.
    begin = time.perf_counter()
    try:
        with _connect(request.host, request.port, request.timeout) as connection:
            _OPERATIONS[request.operation](connection, request)
    except (OSError, _WrongBytesError) as error:
        return Outcome(time.perf_counter() - begin, False, str(error) or type(error).__name__)
    return Outcome(time.perf_counter() - begin, True)


def transfer_many(request: Request, connections: int, processes: int) -> list[Outcome]:
    """`connections` at once in each of `processes`; every connection has a seed of its own."""
    requests = [replace(request, seed=request.seed + index) for index in range(connections * processes)]
    if processes == 1:
        return _in_threads(requests)
    shares = [requests[index::processes] for index in range(processes)]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return [outcome for share in pool.map(_in_threads, shares, chunksize=1) for outcome in share]


def turns(host: str, port: int, count: int, timeout: float = 60.0) -> Turns:
    """Send one byte, wait for it to come back, `count` times; raises OSError when the connection fails."""
    to_client_cpu()
    with _connect(host, port, timeout) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"TURNS\n")
        answers = [_turn(connection, bytes([index & 0xFF])) for index in range(count)]
    times = sorted(microseconds for microseconds, _ in answers)
    return Turns(count, percentile(times, 50), percentile(times, 99), times[-1], all(right for _, right in answers))


def percentile(ordered: list[float], percent: float) -> float:
    """The smallest value that `percent` of the ordered values do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    return socket.create_connection((host, port), timeout)


def _in_threads(requests: list[Request]) -> list[Outcome]:
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(transfer, requests))


def _get(connection: socket.socket, request: Request) -> None:
    connection.sendall(f"GET {request.length} {request.seed}\n".encode())
    if not request.verify:
        discard(connection, request.length)
        return
    content = block(request.seed)
    buffer = memoryview(bytearray(CHUNK))
    position = 0
    while position < request.length:
        count = receive_some(connection, buffer[: min(CHUNK, request.length - position)])
        _check(buffer[:count], piece(content, position, count), position)
        position += count


def _put(connection: socket.socket, request: Request) -> None:
    verb = "PUT" if request.verify else "SINK"
    connection.sendall(f"{verb} {request.length}\n".encode())
    send_content(connection, request.length, request.seed)
    with connection.makefile("rb") as answers:
        answer = answers.readline(128).decode(errors="replace").strip()
    wanted = _digest(request) if request.verify else str(request.length)
    if answer != wanted:
        raise _WrongBytesError(f"the server answered {answer!r} instead of {wanted!r}")


def _check(received: memoryview, expected: memoryview, position: int) -> None:
    index = first_difference(received, expected)
    if index is not None:
        raise _WrongBytesError(f"byte {position + index} is {received[index]} instead of {expected[index]}")


def _digest(request: Request) -> str:
    content = block(request.seed)
    digest = hashlib.sha256()
    for position in range(0, request.length, CHUNK):
        digest.update(piece(content, position, min(CHUNK, request.length - position)))
    return digest.hexdigest()


def _turn(connection: socket.socket, byte: bytes) -> tuple[float, bool]:
    begin = time.perf_counter_ns()
    connection.sendall(byte)
    answer = connection.recv(2)
    return (time.perf_counter_ns() - begin) / 1000, answer == byte


_OPERATIONS: dict[str, Callable[[socket.socket, Request], None]] = {"get": _get, "put": _put}
