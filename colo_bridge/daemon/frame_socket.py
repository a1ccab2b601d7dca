"""One of the sockets that QEMU's network filters connect to: frames in, messages out, one client at a time.

1. A second client waits, as with QEMU's own server sockets, until the first one has gone.
2. Messages leave in order. What did not leave whole before a client went is sent to the next one, or forgotten
   where it concerned that client alone.
3. Nothing here bounds what waits to be sent: `queued_bytes` tells the owner, who stops what feeds it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from colo_bridge.daemon.endpoint import Listener
from colo_bridge.wire.framing import Frame, FrameDecoder, FramingError
from colo_bridge.wire.packet import Buffer

log = logging.getLogger(__name__)

_MESSAGES_AT_ONCE = 512
"""Handed to one system call; below IOV_MAX (limits.h)."""
_TCP_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # The next client of a host that lost its power waits for half a minute, not for ever.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
MESSAGE_OVERHEAD = 128
"""Bytes that a queued message takes besides its own."""

TakeFrames = Callable[[bytearray, Iterator[Frame]], None]


@dataclass(slots=True)
class SocketCounters:
    """What happened on one socket."""

    connections: int = 0
    half_frames: int = 0
    """Frames whose end never came because the client went."""
    protocol_errors: int = 0
    """Connections that were closed because what came was not in the format."""


def ignore_frames(_buffer: bytearray, frames: Iterator[Frame]) -> None:
    """For a socket that is only written to."""
    for _ in frames:
        pass


class FrameSocket:
    """Watched by the running event loop from `start` to `close`."""

    def __init__(self, name: str, listener: Listener, vnet_header: bool, *, keeps_unsent: bool = False) -> None:
        self.name = name
        self.counters = SocketCounters()
        self.queued_bytes = 0
        self.sent_bytes = 0
        self.take_frames: TakeFrames = ignore_frames
        self.on_connect: Callable[[], None] = _nothing
        self.on_sent: Callable[[], None] = _nothing
        """Called when something left that had to wait."""
        self._listener = listener
        self._keeps_unsent = keeps_unsent
        self._decoder = FrameDecoder(vnet_header)
        self._client: socket.socket | None = None
        self._reading = True
        self._writing = False
        self._queue: deque[Buffer] = deque()
        self._sent_of_first = 0

    # Life.

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listener.socket, self._accept)
        log.info("%s: listening at %s", self.name, self._listener.endpoint)

    def close(self) -> None:
        """Let the client go and accept no more; the listener stays its maker's."""
        if self._client is not None:
            self._disconnect()
        self._loop.remove_reader(self._listener.socket)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.socket.accept()
        except OSError:
            return  # it went before its turn came
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            for level, option, value in _TCP_OPTIONS:
                client.setsockopt(level, option, value)
        self._loop.remove_reader(self._listener.socket)
        self._client = client
        self.counters.connections += 1
        log.info("%s: connected", self.name)
        if self._reading:
            self._loop.add_reader(client, self.read)
        self.on_connect()
        self._write_more()

    def _disconnect(self) -> None:
        """Forget the client, and what concerned it alone; the next one may come."""
        client, self._client = self._client, None
        assert client is not None
        self._loop.remove_reader(client)
        self._stop_writing(client)
        client.close()
        if self._decoder.incomplete:
            self.counters.half_frames += 1
        self._decoder.reset()
        self._sent_of_first = 0
        if not self._keeps_unsent:
            self._forget_unsent()
        self._loop.add_reader(self._listener.socket, self._accept)

    # Frames in.

    def read(self) -> bool:
        """Take what has come, once; whether there may be more."""
        client = self._client
        if client is None:
            return False
        try:
            count = client.recv_into(self._decoder.room())
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            count = 0
        if not count:
            log.info("%s: disconnected", self.name)
            self._disconnect()
            return False
        try:
            self.take_frames(self._decoder.buffer, self._decoder.frames(count))
        except FramingError as error:
            self.counters.protocol_errors += 1
            log.error("%s: closed: %s", self.name, error)
            self._decoder.reset()
            self._disconnect()
            return False
        return True

    def pause(self) -> None:
        """Read no more until `resume`: the client has to wait."""
        self._reading = False
        if self._client is not None:
            self._loop.remove_reader(self._client)

    def resume(self) -> None:
        self._reading = True
        if self._client is not None:
            self._loop.add_reader(self._client, self.read)

    # Messages out.

    @property
    def connected(self) -> bool:
        return self._client is not None

    def send(self, messages: Sequence[Buffer]) -> None:
        """Send these as soon as the client takes them."""
        self._queue.extend(messages)
        self.queued_bytes += sum(map(len, messages)) + MESSAGE_OVERHEAD * len(messages)
        if not self._writing:
            self._send_queued()

    def _send_queued(self) -> None:
        """Send until all has left or the client takes no more for now."""
        client, queue = self._client, self._queue
        while queue and client is not None:
            messages: list[Buffer | memoryview] = list(islice(queue, _MESSAGES_AT_ONCE))
            if self._sent_of_first:
                messages[0] = memoryview(queue[0])[self._sent_of_first :]
            try:
                sent = client.sendmsg(messages)
            except (BlockingIOError, InterruptedError):
                self._wait_for_room(client)
                return
            except OSError:
                # The client has gone: what it said before is still to be read, and then the end.
                self._stop_writing(client)
                self.resume()
                return
            self._account(sent)
        if client is not None:
            self._stop_writing(client)

    def _account(self, sent: int) -> None:
        """Forget what has left whole."""
        self.sent_bytes += sent
        queue = self._queue
        sent += self._sent_of_first
        while queue and sent >= len(queue[0]):
            size = len(queue.popleft())
            sent -= size
            self.queued_bytes -= size + MESSAGE_OVERHEAD
        self._sent_of_first = sent

    def _wait_for_room(self, client: socket.socket) -> None:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(client, self._write_more)

    def _write_more(self) -> None:
        self._send_queued()
        self.on_sent()

    def _stop_writing(self, client: socket.socket) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(client)

    def _forget_unsent(self) -> None:
        self._queue.clear()
        self.queued_bytes = 0


def _nothing() -> None:
    """What there is to do by default."""
