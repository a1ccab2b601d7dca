"""One stream of the link on a connected socket: carries out what its conversation asks for.

1. Frames are handed over in batches, in the buffer that they were read into; there are no tasks.
2. Nothing waits without a bound, see `outgoing`. Whoever can make its source wait looks at `full`, and goes on at
   `room`; what anybody else puts is dropped while it is full.
3. The other side is told why the stream ends, as long as it listens: for `_LINGER` seconds at most.
4. Nothing is handed over between `pause` and `resume`, nor from within them: what was read before waits in the buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import ssl
import struct
import termios
import time
from typing import Protocol

from colo_bridge.errors import ColoBridgeError
from colo_bridge.link.failure import explained
from colo_bridge.link.outgoing import Outgoing, words_of
from colo_bridge.link.protocol.actions import Action, Arrived, Closed, Established, Greeted, Packets, Send
from colo_bridge.link.protocol.conversation import Conversation, State
from colo_bridge.link.protocol.messages import Hello, Message
from colo_bridge.wire.framing import Frame
from colo_bridge.wire.packet import Buffer

_READS = 4
"""Times that one callback fills the conversation's room: others have to be read as well."""
_LARGE = 1 << 13
"""Bytes from which on a system call costs less than putting packets together."""
_LINGER = 1.0
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class StreamOwner(Protocol):
    """Who is told what happens on a stream."""

    def packets(self, stream: Stream, buffer: bytearray, frames: list[Frame]) -> None: ...
    def greeted(self, stream: Stream, peer: Hello) -> None: ...
    def established(self, stream: Stream, peer: Hello) -> None: ...
    def arrived(self, stream: Stream, message: Message) -> None: ...
    def room(self, stream: Stream) -> None: ...
    def closed(self, stream: Stream, closed: Closed) -> None: ...


class Stream:
    """Watched by the running event loop from its making to its end."""

    def __init__(
        self,
        connection: socket.socket,
        conversation: Conversation,
        owner: StreamOwner,
        limit: int,
        remote: str = "",
    ) -> None:
        """`limit`: bytes that may wait to be sent; `remote`: the address that dialled, if it was not this side."""
        self.name = ""
        self.remote = remote
        self.conversation = conversation
        self.outgoing = Outgoing(limit)
        self.received_packets = self.received_bytes = 0
        self._socket = connection
        self._descriptor = connection.fileno()
        self._tls = connection if isinstance(connection, ssl.SSLSocket) else None
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._reading = True
        self._read_error: OSError | None = None
        self._writing = False
        self._was_full = False
        self._postponed: list[Action] = []
        self._closed = False
        self._has_last_words = False
        self._patience: asyncio.TimerHandle | None = None
        self.released = self._loop.create_future()
        """Done when the socket is closed."""
        self._loop.add_reader(self._descriptor, self.read)

    # In.

    def read(self) -> None:
        """Take what has come."""
        if self._postponed and self._reading:
            postponed, self._postponed = self._postponed, []
            self._perform(postponed)
        conversation = self.conversation
        for _ in range(_READS):
            if self._closed or not self._reading:
                return
            room = conversation.room()
            try:
                count = self._receive(room)
            except _NOT_NOW:
                return
            except OSError as error:
                self._perform(conversation.ended(explained(error)))
                return
            if not count:
                self._perform(conversation.ended())
                return
            self.received_bytes += count
            self._perform(conversation.received(count, time.monotonic()))
            if count < len(room):
                return
        if self._tls is not None and not self._closed and self._tls.pending():
            # What OpenSSL has read already wakes nobody.
            self._loop.call_soon(self.read)

    def _receive(self, room: memoryview) -> int:
        """As much as has come and fits; 0 at the end, an error that tells why there is nothing."""
        if self._tls is None:
            return self._socket.recv_into(room)
        if self._read_error is not None:
            raise self._read_error
        # TLS gives 16 KB with each call: put together, they are looked at once.
        count = 0
        try:
            while count < len(room) and (more := self._tls.recv_into(room[count:])):
                count += more
        except OSError as error:
            if not count:
                raise
            if not isinstance(error, _NOT_NOW):
                # It may not be told twice, and what came before it comes first.
                self._read_error = error
        return count

    def pause(self) -> None:
        """Read no more, and hand over nothing, until `resume`: the other side has to wait.

        In the midst of what was read, what stands behind the packets or the message that is being handed over waits.
        """
        if not self._closed and self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)
            self.conversation.pause(time.monotonic())

    def resume(self) -> None:
        if not self._closed and not self._reading:
            self._reading = True
            self.conversation.resume()
            self._loop.add_reader(self._descriptor, self.read)
            self._loop.call_soon(self.read)

    # Out.

    @property
    def full(self) -> bool:
        """The source should wait for `room`."""
        return self.outgoing.full

    def put(self, packet: Buffer | memoryview) -> bool:
        """Take a packet, its virtio-net header in front; `flush` sends what waits. False: dropped, and counted."""
        outgoing = self.outgoing
        if len(packet) < _LARGE or self._writing or self._closed:
            return not self._closed and outgoing.put(packet)
        # Fast path: a large packet with nothing in front of it leaves from where it lies; what is left is copied.
        taken = True
        if not outgoing and self._tls is None:
            words = words_of(packet)
            outgoing.put_rest(words, packet, self._send_now(words, packet))
        else:
            taken = outgoing.put(packet)
        self._transmit()
        return taken

    def send(self, message: Message) -> None:
        """Send a message behind what is queued; raises InternalError if it does not belong here."""
        if self.conversation.state is State.CLOSED:
            return  # it is over, but nobody is told while reading is paused
        self.outgoing.add(self.conversation.send(message, time.monotonic()))
        self.flush()

    def flush(self) -> None:
        """Send what is queued, as far as the kernel takes it now."""
        if not self._writing:
            self._transmit()

    def _send_now(self, *parts: Buffer | memoryview) -> int:
        try:
            return self._socket.sendmsg(parts)
        except OSError:
            return 0  # the next try tells why

    def _transmit(self) -> None:
        outgoing = self.outgoing
        self._was_full = self._was_full or outgoing.full
        try:
            while outgoing:
                outgoing.sent(self._send_some())
        except _NOT_NOW:
            self._watch_for_room(True)
            self._tell_room()
            return
        except OSError as error:
            outgoing.forget()
            self._loop.call_soon(self._broken, explained(error))
        self._watch_for_room(False)
        self._tell_room()
        if self._closed and not self.released.done():
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def _broken(self, error: ColoBridgeError) -> None:
        """Nothing can be sent any more; who reads will read what the other side said last, and the end."""
        if not self._reading:
            self._perform(self.conversation.ended(error))

    def _send_some(self) -> int:
        if self._tls is not None:
            return self._tls.send(self.outgoing.chunk())
        return self._socket.sendmsg(self.outgoing.parts())

    def _watch_for_room(self, watch: bool) -> None:
        if watch and not self._writing:
            self._loop.add_writer(self._descriptor, self._transmit)
        elif self._writing and not watch:
            self._loop.remove_writer(self._descriptor)
        self._writing = watch

    def _tell_room(self) -> None:
        """Soon, not now: whoever flushes is not done yet."""
        if self._was_full and self.outgoing.half_empty and not self._closed:
            self._was_full = False
            self._loop.call_soon(self._owner.room, self)

    # What the conversation asks for.

    def begin(self, own: Hello) -> None:
        self.name = own.stream
        self._perform(self.conversation.begin(own))

    def accept(self, own: Hello) -> None:
        self.name = own.stream
        self._perform(self.conversation.accept(own, time.monotonic()))

    def refuse(self, error: ColoBridgeError) -> None:
        self._perform(self.conversation.refuse(error))

    def close(self, reason: str) -> None:
        """End it in order, and say why."""
        self._postponed = []
        self._perform(self.conversation.close(reason))
        if not self._closed:
            self._end()  # it was over already, and nobody had been told

    def tick(self) -> None:
        """To be called several times per heartbeat interval."""
        # First what waits to be read: it was not the other side that was silent if this one was asleep.
        self.read()
        if not self._closed:
            self._perform(self.conversation.tick(time.monotonic(), self._taken()))

    def _taken(self) -> int | None:
        """Bytes that the other side's kernel has taken, give or take what TLS adds; None if nothing waits here."""
        if not self.outgoing:
            return None
        unacknowledged = struct.unpack("i", fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)))[0]
        return self.outgoing.sent_bytes - int(unacknowledged)

    def _perform(self, actions: list[Action]) -> None:
        for index, action in enumerate(actions):
            if self._closed:
                return  # by whoever was told the last one
            if not self._reading and isinstance(action, Packets | Arrived):
                self._postponed = actions[index:]
                return
            match action:
                case Packets(frames):
                    self.received_packets += len(frames)
                    self._owner.packets(self, self.conversation.buffer, frames)
                case Send(data):
                    self._send_data(data)
                case Arrived(message):
                    self._owner.arrived(self, message)
                case Greeted(peer):
                    # It may have hung up right behind its greeting.
                    if self.conversation.state is State.DECIDING:
                        self._owner.greeted(self, peer)
                case Established(peer):
                    self._owner.established(self, peer)
                case Closed():
                    self._end()
                    self._owner.closed(self, action)

    def _send_data(self, data: bytes) -> None:
        if self.conversation.state is State.CLOSED:
            # The last words: nothing that waits is worth more.
            self._has_last_words = True
            # What TLS could not send has begun all the same: OpenSSL keeps a part of it.
            self.outgoing.forget(but_first=self._tls is not None and self._writing)
        self.outgoing.add(data)
        self.flush()

    # The end.

    def _end(self) -> None:
        """Stop; the last words are still sent, if there are any."""
        if self._reading:
            self._loop.remove_reader(self._descriptor)
        self._closed = True
        if not self._has_last_words:
            self._release()
            return
        # A socket that is closed with something unread resets the connection, and our words may never be read.
        self._loop.add_reader(self._descriptor, self._discard)
        self._patience = self._loop.call_later(_LINGER, self._release)
        if not self._writing:
            self._transmit()

    def _discard(self) -> None:
        try:
            if socket.socket.recv(self._socket, 1 << 16):
                return
        except _NOT_NOW:
            return
        except OSError:
            pass
        self._release()

    def _release(self) -> None:
        if self.released.done():
            return
        if self._patience is not None:
            self._patience.cancel()
        self._loop.remove_reader(self._descriptor)
        self._watch_for_room(False)
        self._socket.close()
        self.released.set_result(None)
