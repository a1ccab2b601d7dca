"""The primary's end of the link: it listens.

1. One secondary at a time. Who comes back under the same identity takes the place of its own old session, of which this
   side may not know yet that it is dead; anybody else is refused meanwhile.
2. Strangers, who have not greeted yet, are bounded in number and time: the oldest makes room for the newest.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time

from colo_bridge.errors import ColoBridgeError, OperatorError, PeerError
from colo_bridge.link import address
from colo_bridge.link.address import Address
from colo_bridge.link.connection import prepare, secure
from colo_bridge.link.end import LinkEnd
from colo_bridge.link.protocol.actions import Closed
from colo_bridge.link.protocol.conversation import CONTROL, Conversation
from colo_bridge.link.protocol.greeting import judge
from colo_bridge.link.protocol.messages import Hello
from colo_bridge.link.session import LinkOwner, LinkSettings, Session
from colo_bridge.link.stream import Stream
from colo_bridge.link.tls import Credentials

log = logging.getLogger(__name__)

MOST_STRANGERS = 64
"""Connections that have not greeted yet, in TLS's handshake or behind it."""
_BACKLOG = 64


class LinkServer(LinkEnd):
    """Has its address for itself from its making, and lets others in from `start` to `close`.

    Raises OperatorError if it cannot: once made, it can be started.
    """

    def __init__(
        self,
        listen: Address,
        settings: LinkSettings,
        owner: LinkOwner,
        credentials: Credentials | None = None,
        insecure: bool = False,
    ) -> None:
        super().__init__(settings, owner, credentials)
        self._listener = _bind(listen, credentials is not None, insecure)
        self.address = Address(listen.host, self._listener.getsockname()[1])
        self._where = f"at {self.address}"
        self._strangers: dict[asyncio.Task[None] | Stream, None] = {}

    def start(self) -> None:
        self._listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)
        super().start()
        log.info("the link listens at %s%s", self.address, "" if self.credentials else ", without TLS")

    async def close(self, reason: str = "the daemon was stopped") -> None:
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
        for stranger in list(self._strangers):
            if isinstance(stranger, asyncio.Task):
                stranger.cancel()
        await super().close(reason)

    # Strangers.

    def _accept(self) -> None:
        try:
            connection, (remote, *_) = self._listener.accept()
        except OSError:
            return  # it went before its turn came
        connection.setblocking(False)
        if len(self._strangers) >= MOST_STRANGERS:
            self._send_away(next(iter(self._strangers)))
        task = asyncio.get_running_loop().create_task(self._welcome(connection, remote))
        self._strangers[task] = None
        task.add_done_callback(lambda _: self._strangers.pop(task, None))

    def _send_away(self, stranger: asyncio.Task[None] | Stream) -> None:
        del self._strangers[stranger]
        if isinstance(stranger, Stream):
            stranger.close("too many connections have not greeted")
        else:
            self.counters.refused += 1
            stranger.cancel()

    async def _welcome(self, connection: socket.socket, remote: str) -> None:
        timing = self._settings.timing
        try:
            async with asyncio.timeout(timing.greeting):
                connection = await secure(connection, self.credentials, listens=True)
        except (OSError, PeerError) as error:
            self._complain(error, remote)
            return
        conversation = Conversation(timing, time.monotonic())
        stream = Stream(connection, conversation, self, self._settings.queue_bytes, remote)
        self._watch(stream)
        self._strangers[stream] = None

    def _tick(self) -> None:
        super()._tick()
        for stranger in list(self._strangers):
            if isinstance(stranger, Stream):
                stranger.tick()

    # Greetings.

    def greeted(self, stream: Stream, peer: Hello) -> None:
        self._strangers.pop(stream, None)
        try:
            session = self._session_of(peer, stream.remote)
        except ColoBridgeError as error:
            stream.refuse(error)
            return
        session.streams[peer.stream] = stream
        self._streams[stream] = session
        stream.accept(session.hello(peer.stream))

    def _session_of(self, peer: Hello, remote: str) -> Session:
        if peer.stream == CONTROL:
            return self._new_session(peer, remote)
        session = self._session
        if session is None or session.peer is None or peer.session != session.name:
            raise PeerError("a stream belongs to no session of this side", "the other side will dial again")
        if peer.stream not in self._settings.nics:
            raise OperatorError(f"the primary has no NIC {peer.stream}", "configure the same NICs on both hosts")
        if peer.stream in session.streams:
            raise PeerError(f"there is a stream of {peer.stream} already")
        return session

    def _new_session(self, peer: Hello, remote: str) -> Session:
        judge(self._owner.hello(), peer)
        present = self._session
        if present is not None and present.peer is not None:
            if present.peer.identity != peer.identity:
                raise OperatorError(
                    f"another secondary, {present.peer.identity}, is connected", "a guest has one secondary at a time"
                )
            self.disconnect(f"{peer.identity} connected anew")
        self._session = self._new(secrets.token_hex(8), remote, who=remote)
        return self._session

    def closed(self, stream: Stream, closed: Closed) -> None:
        self._strangers.pop(stream, None)
        super().closed(stream, closed)


def _bind(listen: Address, secure: bool, insecure: bool) -> socket.socket:
    resolved = address.resolve(listen)
    if not secure:
        address.check_plain(resolved.host, insecure)
    listener = socket.socket(resolved.family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        prepare(listener)
        listener.bind(resolved.address)
        listener.setblocking(False)
        # An address that somebody else only has, and does not listen at, would be refused no earlier than now.
        listener.listen(0)
    except OSError as error:
        listener.close()
        raise _refused(listen, error) from error
    return listener


def _refused(listen: Address, error: OSError) -> OperatorError:
    return OperatorError(f"the link cannot listen at {listen}: {error.strerror or error}")
