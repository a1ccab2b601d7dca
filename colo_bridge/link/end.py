"""What both ends of the link have in common: one session at a time, its timer, and what the daemon calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from functools import partial

from colo_bridge.errors import ColoBridgeError, PeerError
from colo_bridge.link import address
from colo_bridge.link.failure import explained
from colo_bridge.link.protocol.actions import Closed, Ending
from colo_bridge.link.protocol.conversation import CONTROL
from colo_bridge.link.protocol.messages import Hello, Message
from colo_bridge.link.session import Contact, LinkCounters, LinkOwner, LinkSettings, Session
from colo_bridge.link.stream import Stream
from colo_bridge.link.tls import Credentials
from colo_bridge.wire.framing import Frame
from colo_bridge.wire.packet import Buffer

log = logging.getLogger(__name__)

_TICKS_PER_INTERVAL = 4
_MOST_COMPLAINTS = 32
"""Told while the link does not come up; more are only counted."""


class LinkEnd:
    """Base of `LinkServer` and `LinkClient`, by itself an end that is never connected.

    What is sent while the link is down is thrown away, and `up` says so.
    """

    def __init__(self, settings: LinkSettings, owner: LinkOwner, credentials: Credentials | None) -> None:
        self.counters = LinkCounters()
        """Of the sessions that are over; `statistics` has the present one's too."""
        self.credentials = credentials
        """None: without TLS."""
        self._settings = settings
        self._owner = owner
        self._where = ""
        self._session: Session | None = None
        self._streams: dict[Stream, Session | None] = {}
        self._complaints: set[str] = set()
        self._contact = Contact()
        self._timer: asyncio.TimerHandle | None = None

    # What the daemon calls.

    @property
    def up(self) -> bool:
        return self._session is not None and self._session.up

    @property
    def peer(self) -> Hello | None:
        """The other side, while the link is up."""
        return self._session.peer if self._session is not None and self._session.up else None

    @property
    def since(self) -> float | None:
        """When the link came up or went down last, in seconds of the monotonic clock; None: it never was up."""
        return self._contact.since

    @property
    def heard(self) -> float | None:
        """When anything was last heard of the other side, by the same clock, in whichever session."""
        return self._contact.heard if self._session is None else self._session.heard

    def statistics(self) -> dict[str, int]:
        """All counters as they are now, and the bytes that wait to be sent."""
        counters, queued = replace(self.counters), 0
        session = self._session
        if session is not None and not session.ended.done():
            session.count(counters)
            queued = sum(stream.outgoing.queued_bytes for stream in session.streams.values())
        return {**asdict(counters), "queued_bytes": queued}

    def put(self, nic: str, packet: Buffer | memoryview) -> bool:
        """Queue a copy of a packet, its virtio-net header in front; False: lost, the link is down or its queue full."""
        session = self._session
        if session is None or not session.up:
            self.counters.unlinked_packets += 1
            return False
        return session.streams[nic].put(packet)

    def flush(self, nic: str) -> None:
        """Send what was put; to be called at the end of each batch."""
        if self._session is not None and self._session.up:
            self._session.streams[nic].flush()

    def full(self, nic: str) -> bool:
        """A source that can wait should do so, until `link_room`."""
        return self._session is not None and self._session.up and self._session.streams[nic].full

    def send(self, message: Message) -> None:
        if self._session is not None and self._session.up:
            self._session.streams[CONTROL].send(message)

    def barrier(self, epoch: int) -> None:
        """What is sent from now on belongs to `epoch`."""
        if self._session is not None and self._session.up:
            self._session.barrier(epoch)

    def pause(self, nic: str) -> None:
        """Hand over nothing more of this NIC's stream until `resume`, or until the next session.

        From within `link_packets` and `link_barrier`, what came behind waits too. The other side can send no more once
        the kernel's buffers are full, and finds its queue `full`. A pause that lasts for the link's patience ends the
        session.
        """
        if self._session is not None and self._session.up:
            self._session.pause(nic)

    def resume(self, nic: str) -> None:
        """Go on, soon: nothing is handed over from within this."""
        if self._session is not None and self._session.up:
            self._session.resume(nic)

    def prepare_reload(self, accepted: Collection[str]) -> Callable[[], None]:
        """Read TLS's files anew; what is returned takes them and `accepted` over, for new connections.

        Raises OperatorError, and has changed nothing.
        """
        if self.credentials is None:
            return lambda: None
        renewed = self.credentials.renewed(accepted)

        def take_over() -> None:
            self.credentials = renewed
            log.info("the link %s has read its certificates anew", self._where)

        return take_over

    def disconnect(self, reason: str) -> None:
        """End the session; the other side is told why."""
        if self._session is not None:
            self._session.end(Closed(Ending.ENDED, PeerError(reason)), reason)

    # Life.

    def _new(self, name: str, remote: str, who: str = "") -> Session:
        complain = partial(self._complain, who=who)
        return Session(name, remote, self._settings, self._owner, self.counters, self._contact, complain)

    def _tick(self) -> None:
        interval = self._settings.timing.interval / _TICKS_PER_INTERVAL
        self._timer = asyncio.get_running_loop().call_later(interval, self._tick)
        if self._session is not None:
            self._session.tick()

    def start(self) -> None:
        """Serve, until `close`."""
        self._tick()

    async def close(self, reason: str = "the daemon was stopped") -> None:
        """End everything; gives the last words time to leave."""
        if self._timer is not None:
            self._timer.cancel()
        self.disconnect(reason)
        for stream in list(self._streams):
            stream.close(reason)
        waiting = [stream.released for stream in self._streams]
        if waiting:
            await asyncio.wait(waiting)

    def _watch(self, stream: Stream, session: Session | None = None) -> None:
        """Remember it until its socket is closed; `session`: None while it has not greeted."""
        self._streams[stream] = session
        stream.released.add_done_callback(lambda _: self._streams.pop(stream, None))

    # What streams tell: everything concerns the session but the greeting.

    def packets(self, stream: Stream, buffer: bytearray, frames: list[Frame]) -> None:
        self._owner.link_packets(stream.name, buffer, frames)

    def established(self, stream: Stream, peer: Hello) -> None:
        session = self._streams[stream]
        if session is not None:
            session.established(stream, peer)
            if session.up:
                self._complaints.clear()
                self._warn_of_plain(session.remote)

    def arrived(self, stream: Stream, message: Message) -> None:
        session = self._streams[stream]
        if session is not None:
            session.arrived(stream, message)

    def room(self, stream: Stream) -> None:
        self._owner.link_room(stream.name)

    def closed(self, stream: Stream, closed: Closed) -> None:
        session = self._streams[stream]
        if session is None:
            self._complain(closed.error, stream.remote)
            return
        session.closed(closed)
        if self._session is session:
            self._session = None

    def _warn_of_plain(self, remote: str) -> None:
        if self.credentials is None and address.is_elsewhere(remote):
            danger = "whoever is on the way can read and forge what the guest sends"
            log.warning("the link %s has no TLS on its way to %s: %s", self._where, remote, danger)

    def _complain(self, error: OSError | ColoBridgeError, who: str = "") -> None:
        """Once for each reason: there may be a try every few seconds, for days. `who`: the address that asked."""
        self.counters.refused += 1
        asked = f", asked by {who}" if who else ""
        complaint = f"{asked}: {explained(error)}"
        if complaint in self._complaints or len(self._complaints) > _MOST_COMPLAINTS:
            return
        self._complaints.add(complaint)
        if len(self._complaints) > _MOST_COMPLAINTS:
            complaint = ": there are ever more reasons why it does not come up, from now on they are only counted"
        log.error("the link %s%s", self._where, complaint)
