"""The server: one thread for each connection."""

from __future__ import annotations

import hashlib
import socket
import socketserver
from collections.abc import Callable

from colo_bridge.lab.service.content import block, piece
from colo_bridge.lab.service.placement import to_server_cpu

CHUNK = 256 << 10
"""Bytes handed to the kernel at once: large enough to cost little, small enough for the cache."""
BACKLOG = 1024


class Server(socketserver.ThreadingTCPServer):
    """Serves from construction until `shutdown`; at `::` for both families."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int]) -> None:
        block(0)  # Made now, or the first request would wait for it.
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        dual_stack(self.socket)
        super().server_bind()


class _Handler(socketserver.BaseRequestHandler):
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while words := _read_line(self.request).split():
                _answer(self.request, words)
        except (ConnectionError, TimeoutError):
            # The client is gone: there is nobody left to tell.
            return


def dual_stack(listener: socket.socket) -> None:
    """A listener of IPv6 takes connections of IPv4 as well."""
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def _answer(connection: socket.socket, words: list[bytes]) -> None:
    verb, *arguments = words
    handler = _VERBS.get(verb)
    if handler is None or not all(word.isdigit() for word in arguments):
        connection.sendall(b"what?\n")
        return
    handler(connection, *map(int, arguments[:2]))


def _get(connection: socket.socket, length: int, seed: int = 0) -> None:
    send_content(connection, length, seed)


def _put(connection: socket.socket, length: int, _seed: int = 0) -> None:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    while length:
        count = receive_some(connection, buffer[: min(length, CHUNK)])
        digest.update(buffer[:count])
        length -= count
    connection.sendall(f"{digest.hexdigest()}\n".encode())


def _sink(connection: socket.socket, length: int, _seed: int = 0) -> None:
    discard(connection, length)
    connection.sendall(f"{length}\n".encode())


def _turns(connection: socket.socket, _length: int = 0, _seed: int = 0) -> None:
    to_server_cpu()
    while received := connection.recv(4096):
        connection.sendall(received)


def send_content(connection: socket.socket, length: int, seed: int) -> None:
    """Send `length` bytes of a seed's content."""
    content = block(seed)
    for position in range(0, length, CHUNK):
        connection.sendall(piece(content, position, min(CHUNK, length - position)))


def receive_some(connection: socket.socket, buffer: memoryview) -> int:
    """Fill part of a buffer; raises ConnectionError when the other side closed."""
    count = connection.recv_into(buffer)
    if not count:
        raise ConnectionError("the connection ended too early")
    return count


def discard(connection: socket.socket, length: int) -> None:
    """Take `length` bytes from the kernel without copying them (MSG_TRUNC, tcp(7))."""
    buffer = bytearray(4 << 20)
    while length:
        count = connection.recv_into(buffer, min(length, len(buffer)), socket.MSG_TRUNC)
        if not count:
            raise ConnectionError("the connection ended too early")
        length -= count


def _read_line(connection: socket.socket) -> bytes:
    """One request; byte by byte, because what follows it may belong to a transfer."""
    line = b""
    while not line.endswith(b"\n") and len(line) < 128:
        received = connection.recv(1)
        if not received:
            return b""
        line += received
    return line


_VERBS: dict[bytes, Callable[..., None]] = {b"GET": _get, b"PUT": _put, b"SINK": _sink, b"TURNS": _turns}
