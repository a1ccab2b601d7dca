"""The connection to one QEMU's machine protocol: made again whenever it is lost, and told as news of its replica."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qemu.qmp import EventListener, ExecuteError, Message, QMPClient, QMPError, Runstate

from colo_bridge.checkpoint.replica import News, Phase, Replica
from colo_bridge.errors import PeerError

ANSWER_SECONDS = 5.0
"""How long QEMU may take to answer before it counts as lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to connect; each pause is twice the one before."""
ALONE_PAUSE = 0.5
"""Seconds between two tries to tell QEMU that it is alone."""
LINE_BYTES = 1 << 20
"""One message of QEMU at most."""

log = logging.getLogger(__name__)
# The library tells of each failed try to connect; we tell once that a connection is lost.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Refused(PeerError):
    """QEMU has answered, and will not do it."""


@dataclass(frozen=True, slots=True)
class _Fence:
    """Stands behind the events that came before it was put up, or, once QEMU was asked, before its answer."""

    reached: Callable[[], None]
    was_asked: bool = False


class _Events(EventListener):
    """Keeps what has not been looked at yet and, unlike the library's own, nothing of what has been."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[Message | _Fence] = asyncio.Queue()
        self._stops = 0

    def accept(self, event: Message) -> bool:
        if event["event"] in ("STOP", "RESUME", "COLO_EXIT"):
            self.queue.put_nowait(event)
            self._stops += event["event"] == "STOP"
        return False

    async def following(self) -> Message | _Fence:
        """What is to be looked at next."""
        event = await self.queue.get()
        if not isinstance(event, _Fence):
            self._stops -= event["event"] == "STOP"
        return event

    @property
    def stopped_again(self) -> bool:
        """Whether a stop has not been looked at yet."""
        return self._stops > 0


class Monitor:
    """Follows one replica; `told` is called for each piece of news, in order, inside the running loop."""

    def __init__(self, name: str, path: str, replica: Replica, told: Callable[[News], None]) -> None:
        self._name = name
        self._path = path
        self._replica = replica
        self._told = told
        self._client: QMPClient | None = None
        self._events = _Events()
        self._was_refused = False

    async def run(self) -> None:
        """Connect, follow, and begin anew, for ever."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._follow()
            # ValueError: a line that is too long.
            except (QMPError, PeerError, OSError, EOFError, ValueError) as error:
                pause = FIRST_PAUSE if self._replica.phase is not Phase.OFFLINE else min(2 * pause, LONGEST_PAUSE)
                self._lost(error)
            await asyncio.sleep(pause)

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """QEMU's answer to a command; raises PeerError if there is none."""
        if self._client is None:
            raise PeerError(f"there is no connection to the {self._name}'s QEMU")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._client.execute(command, dict(arguments) if arguments else None)
        except TimeoutError as error:
            raise PeerError(f"the {self._name}'s QEMU did not answer {command} within {ANSWER_SECONDS:g} s") from error
        except ExecuteError as error:
            raise Refused(f"the {self._name}'s QEMU refused {command}: {error}") from error
        except QMPError as error:
            raise PeerError(f"the connection to the {self._name}'s QEMU is lost") from error

    def fence(self, reached: Callable[[], None]) -> None:
        """Ask QEMU anything; `reached` is called when it has answered and everything that it said before was told.

        It is not called if the connection is lost before that.
        """
        self._events.queue.put_nowait(_Fence(reached))

    async def lost_heartbeat(self) -> None:
        """Tell QEMU, as soon as it can be told, that there is no other replica: nothing else lets a guest that stands
        still for a checkpoint go on.
        """
        while True:
            try:
                await self.execute("x-colo-lost-heartbeat")
                log.warning("the %s's QEMU was told that it is alone", self._name)
                return
            except Refused as error:
                log.warning("%s", error)
                return
            except PeerError as error:
                log.error("%s; it is to be told that it is alone", error)
                await asyncio.sleep(ALONE_PAUSE)

    # One connection.

    async def _follow(self) -> None:
        client, self._events = QMPClient(readbuflen=LINE_BYTES), _Events()
        events = self._events
        client.events.event_filter = lambda _: False
        with client.listen(events):
            try:
                await self._connect(client)
                self._client = client
                await self._greet()
                await self._look_at(events, client)
            finally:
                self._client = None
                with contextlib.suppress(QMPError, OSError, EOFError, ValueError):
                    await client.disconnect()

    async def _connect(self, client: QMPClient) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.connect(self._path)
        except TimeoutError as error:
            # It serves one client at a time: the greeting waits until the other one has gone.
            raise PeerError(f"QEMU does not greet at {self._path}: does somebody else use it?") from error

    async def _greet(self) -> None:
        status, migration = await self._status(), await self._migration()
        log.info("the %s's QEMU is connected; the guest is %s, its migration %s", self._name, status, migration)
        self._was_refused = False
        self._tell(self._replica.connected(status, migration))

    async def _look_at(self, events: _Events, client: QMPClient) -> None:
        """Until the connection is lost."""
        following = asyncio.ensure_future(self._handle_all(events))
        ending = asyncio.ensure_future(_ended(client))
        try:
            await asyncio.wait([following, ending], return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            following.cancel()
            ending.cancel()
            await asyncio.gather(following, ending, return_exceptions=True)
        await client.disconnect()
        raise PeerError("QEMU has closed the connection")

    async def _handle_all(self, events: _Events) -> None:
        while True:
            event = await events.following()
            if isinstance(event, _Fence):
                await self._pass(event, events)
            else:
                await self._handle(event)

    async def _pass(self, fence: _Fence, events: _Events) -> None:
        if fence.was_asked:
            fence.reached()
            return
        await self._status()
        # What it said before it answered is in the queue now.
        events.queue.put_nowait(_Fence(fence.reached, was_asked=True))

    async def _handle(self, event: Message) -> None:
        replica = self._replica
        match event["event"]:
            case "STOP":
                news = replica.stopped()
                self._tell(news)
                # Only now everything that was sent before has been read.
                read_up_to = time.time()
                status = await self._status()
                self._tell(replica.status(status, read_up_to, self._events.stopped_again))
            case "RESUME":
                self._tell(replica.resumed(_seconds(event)))
                self._tell(replica.migration(await self._migration()))
            case _:
                log.warning("the %s has left COLO: %s", self._name, event.get("data"))
                self._tell(replica.exited())

    def _tell(self, news: News | None) -> None:
        if news is not None:
            self._told(news)

    async def _status(self) -> str:
        return _string(await self.execute("query-status"), "status")

    async def _migration(self) -> str:
        return _string(await self.execute("query-migrate"), "status")

    def _lost(self, error: Exception) -> None:
        if self._replica.phase is not Phase.OFFLINE or not self._was_refused:
            why = str(error) or "the connection is closed"
            log.error("no connection to the %s's QEMU at %s: %s; trying again", self._name, self._path, why)
            self._was_refused = True
        self._tell(self._replica.lost())


async def _ended(client: QMPClient) -> None:
    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()


def _string(answer: object, key: str) -> str:
    """A member of an answer; an empty one if it is not there."""
    value = answer.get(key) if isinstance(answer, Mapping) else None
    return value if isinstance(value, str) else ""


def _seconds(event: Message) -> float:
    """When it happened, by the host's clock; 0 if that is not told."""
    timestamp = event.get("timestamp")
    if not isinstance(timestamp, Mapping):
        return 0.0
    seconds, microseconds = timestamp.get("seconds"), timestamp.get("microseconds")
    return seconds + microseconds / 1e6 if isinstance(seconds, int) and isinstance(microseconds, int) else 0.0
