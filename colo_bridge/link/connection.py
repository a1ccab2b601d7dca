"""From two addresses to a connected socket, with TLS if that is wanted. All of it can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable

from colo_bridge.errors import PeerError
from colo_bridge.link.address import Resolved
from colo_bridge.link.failure import is_plain
from colo_bridge.link.protocol.messages import Goodbye, encode
from colo_bridge.link.tls import Credentials


def prepare(connection: socket.socket) -> None:
    """For packets, before it is connected; what a listener accepts inherits it.

    The link is a cable that nobody else is on: with BBR's pacing, where the machine has that, it carries a quarter
    less. Reno is in every kernel, and open to everybody unless the machine's administrator decided otherwise.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


async def dial(address: Resolved, credentials: Credentials | None) -> socket.socket:
    """Raises OSError and PeerError."""
    connection = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        prepare(connection)
        connection.setblocking(False)
        await _connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return await secure(connection, credentials, listens=False)


async def _connect(connection: socket.socket, address: Resolved) -> None:
    """uvloop's `sock_connect` would resolve once more, and lose the scope that a link-local address needs."""
    loop = asyncio.get_running_loop()
    try:
        connection.connect(address.address)
    except BlockingIOError:
        await _ready(connection.fileno(), loop.add_writer, loop.remove_writer)
        if number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number)) from None


async def secure(connection: socket.socket, credentials: Credentials | None, listens: bool) -> socket.socket:
    """Shake hands and look at the other's certificate; closes the connection if anything is wrong."""
    try:
        if credentials is None:
            return connection
        connection = secured = credentials.context.wrap_socket(
            connection, server_side=listens, do_handshake_on_connect=False
        )
        await _shake_hands(secured)
        _check(secured, credentials)
    except BaseException as error:
        if listens and is_plain(error):
            _say_plainly(connection)
        connection.close()
        raise
    return secured


def _check(connection: ssl.SSLSocket, credentials: Credentials) -> None:
    try:
        credentials.check(connection.getpeercert())
    except PeerError as error:
        # The other side is certified, so it may know why.
        with contextlib.suppress(OSError):
            connection.send(encode(Goodbye(str(error))))
        raise


def _say_plainly(connection: socket.socket) -> None:
    """To a side that seems not to know what TLS is."""
    why = "the side that listens has TLS, and the one that dials has not (configure it on both hosts or on neither)"
    with contextlib.suppress(OSError):
        socket.socket.send(connection, encode(Goodbye(why)))
        # A socket that is closed with something unread resets the connection.
        socket.socket.recv(connection, 1 << 16)


async def _shake_hands(connection: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection.do_handshake()
            return
        except ssl.SSLWantReadError:
            await _ready(connection.fileno(), loop.add_reader, loop.remove_reader)
        except ssl.SSLWantWriteError:
            await _ready(connection.fileno(), loop.add_writer, loop.remove_writer)


async def _ready(
    descriptor: int, add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], object]
) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    add(descriptor, wake)
    try:
        await waiting
    finally:
        remove(descriptor)
