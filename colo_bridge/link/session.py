"""The streams that belong together: one for control, one for each NIC. They are up together and end together.

1. The link is up from when all streams have greeted until the first of them ends; that takes all others with it.
2. A barrier goes out on every stream, and is handed over as it comes in on each of them.
3. Nothing is handed over before the link is up on this side.
4. All streams of a session greet with the same epoch; if ours has grown meanwhile, a barrier follows at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from colo_bridge.errors import ColoBridgeError, PeerError
from colo_bridge.link.protocol.actions import Closed, Ending, Timing
from colo_bridge.link.protocol.conversation import CONTROL
from colo_bridge.link.protocol.messages import Barrier, Hello, Message
from colo_bridge.link.stream import Stream
from colo_bridge.wire.framing import Frame

log = logging.getLogger(__name__)

_MOST_EARLY = 64
"""Messages that are kept until the link is up."""


class LinkOwner(Protocol):
    """The daemon, as the link sees it."""

    def hello(self) -> Hello:
        """Of this side as it is now; its `stream` and `session` are filled in."""
        ...

    def link_up(self, peer: Hello) -> None: ...

    def link_down(self, closed: Closed) -> None: ...

    def link_packets(self, nic: str, buffer: bytearray, frames: list[Frame]) -> None:
        """Packets, their virtio-net headers in front; `buffer` is used again afterwards, and may be written to."""
        ...

    def link_barrier(self, stream: str, epoch: int) -> None:
        """What follows on this stream belongs to `epoch`."""
        ...

    def link_message(self, message: Message) -> None: ...

    def link_room(self, nic: str) -> None:
        """A stream that was full takes packets again."""
        ...


@dataclass(frozen=True, slots=True)
class LinkSettings:
    nics: tuple[str, ...]
    timing: Timing = field(default_factory=Timing)
    queue_bytes: int = 64 << 20
    """That may wait to be sent, on each stream."""


@dataclass(slots=True)
class LinkCounters:
    connections: int = 0
    """Times that the link came up."""
    refused: int = 0
    """Connections that did not get as far."""
    sent_packets: int = 0
    sent_bytes: int = 0
    """Of packets and messages, as they travel (but for what TLS adds)."""
    received_packets: int = 0
    received_bytes: int = 0
    """The same of what came."""
    dropped_packets: int = 0
    """That found no room in their stream's queue: the other side was too slow."""
    dropped_bytes: int = 0
    unlinked_packets: int = 0
    """Thrown away because the link was down."""
    unknown_messages: int = 0
    """Of a newer version: ignored."""


@dataclass(slots=True)
class Contact:
    """What outlives a session; in seconds of the monotonic clock."""

    since: float | None = None
    heard: float | None = None


class Session:
    """What a control stream begins; its owner adds the streams of the NICs as they greet."""

    def __init__(
        self,
        name: str,
        remote: str,
        settings: LinkSettings,
        owner: LinkOwner,
        counters: LinkCounters,
        contact: Contact,
        complain: Callable[[ColoBridgeError], None],
    ) -> None:
        """`remote`: numeric address of the other side; `complain` is told why it did not come up."""
        self.name = name
        self.remote = remote
        self.streams: dict[str, Stream] = {}
        self.up = False
        self.peer: Hello | None = None
        self.own = replace(owner.hello(), stream=CONTROL, session=name)
        self.ended: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the control stream has greeted."""
        self._settings = settings
        self._owner = owner
        self._counters = counters
        self._contact = contact
        self._complain = complain
        self._began = time.monotonic()
        self._established: set[str] = set()
        self._early: list[Message] = []
        self._paused: set[str] = set()

    # Streams.

    def hello(self, stream: str) -> Hello:
        """What this side says on one of the streams."""
        return replace(self.own, stream=stream, session=self.name)

    def established(self, stream: Stream, peer: Hello) -> None:
        if self.ended.done():
            return
        if stream.name == CONTROL:
            self.peer = peer
            self.name = peer.session or self.name
            self.greeted.set_result(None)
        else:
            # The other side may be ahead of us, and send already.
            stream.pause()
        self._established.add(stream.name)
        if len(self._established) == 1 + len(self._settings.nics):
            self._come_up()

    def _come_up(self) -> None:
        assert self.peer is not None
        self.up = True
        self._contact.since = time.monotonic()
        self._counters.connections += 1
        log.info("the link to %s is up", self.peer.identity)
        self._owner.link_up(self.peer)
        epoch = self._owner.hello().epoch
        if epoch > self.own.epoch:
            self.barrier(epoch)
        early, self._early = self._early, []
        for message in early:
            self.arrived(self.streams[CONTROL], message)
        for name, stream in self.streams.items():
            if name not in self._paused:
                stream.resume()

    def end(self, closed: Closed, why: str) -> None:
        """End all streams; `why` is what the other side is told on those that are open."""
        if self.ended.done():
            return
        self.ended.set_result(closed)
        was_up, self.up = self.up, False
        self._contact.heard = self.heard
        for stream in self.streams.values():
            stream.close(why)
        self.count(self._counters)
        if was_up:
            assert self.peer is not None
            self._contact.since = time.monotonic()
            log.warning("the link to %s is down: %s", self.peer.identity, closed.error)
            self._owner.link_down(closed)
        else:
            self._complain(closed.error)

    def closed(self, closed: Closed) -> None:
        """One stream has ended."""
        self.end(closed, str(closed.error))

    @property
    def heard(self) -> float | None:
        """When anything last came, if only in an earlier session."""
        streams = (self.streams[name] for name in self._established)
        return max((stream.conversation.heard for stream in streams), default=self._contact.heard)

    def count(self, counters: LinkCounters) -> None:
        """Add what its streams have counted."""
        for stream in self.streams.values():
            counters.sent_packets += stream.outgoing.sent_packets
            counters.sent_bytes += stream.outgoing.sent_bytes
            counters.received_packets += stream.received_packets
            counters.received_bytes += stream.received_bytes
            counters.dropped_packets += stream.outgoing.dropped_packets
            counters.dropped_bytes += stream.outgoing.dropped_bytes
            counters.unknown_messages += stream.conversation.unknown_messages

    def tick(self) -> None:
        for stream in list(self.streams.values()):
            stream.tick()
        greeting = self._settings.timing.greeting
        if not self.up and not self.ended.done() and time.monotonic() - self._began >= greeting:
            error = PeerError(f"not all of its streams came within {greeting:g} s")
            self.end(Closed(Ending.LOST, error), str(error))

    # Both ways.

    def arrived(self, stream: Stream, message: Message) -> None:
        if not self.up:
            self._keep(message)
            return
        if isinstance(message, Barrier):
            self._owner.link_barrier(stream.name, message.epoch)
        else:
            self._owner.link_message(message)

    def _keep(self, message: Message) -> None:
        """Of the control stream, which is read from its greeting on, from a side that is ahead of us."""
        self._early.append(message)
        if len(self._early) > _MOST_EARLY:
            error = PeerError(f"more than {_MOST_EARLY} messages came before all streams had greeted")
            self.end(Closed(Ending.VIOLATION, error), str(error))

    def pause(self, nic: str) -> None:
        self._paused.add(nic)
        self.streams[nic].pause()

    def resume(self, nic: str) -> None:
        self._paused.discard(nic)
        self.streams[nic].resume()

    def barrier(self, epoch: int) -> None:
        """What is sent from now on belongs to `epoch`."""
        for stream in list(self.streams.values()):
            if self.up:
                stream.send(Barrier(epoch))
