"""The connection to one QEMU's machine protocol: made again whenever it is lost, and told as news of its replica."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from qemu.qmp import ExecuteError, Message, QMPError, Runstate

from colo_bridge.checkpoint.providers.qmp_client import Answer, Client, Fence, Item, Question
from colo_bridge.checkpoint.replica import IS_RUNNING, News, Phase, Replica
from colo_bridge.errors import PeerError

ANSWER_SECONDS = 5.0
"""How long QEMU may take to answer before it counts as lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to connect; each pause is twice the one before."""
ALONE_PAUSE = 0.5
"""Seconds between two tries to tell QEMU that it is alone."""

log = logging.getLogger(__name__)
# The library tells of each failed try to connect; we tell once that a connection is lost.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Refused(PeerError):
    """QEMU has answered, and will not do it."""


class Monitor:
    """Follows one replica; `told` is called for each piece of news, in order, inside the running loop."""

    def __init__(self, name: str, path: str, replica: Replica, told: Callable[[News], None]) -> None:
        self._name = name
        self._path = path
        self._replica = replica
        self._told = told
        self._client: Client | None = None
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
            # Whoever follows it finds out whether it answers anything.
            self.fence(lambda: None)
            raise self._silent(command) from error
        except ExecuteError as error:
            raise Refused(f"the {self._name}'s QEMU refused {command}: {error}") from error
        except QMPError as error:
            raise PeerError(f"the connection to the {self._name}'s QEMU is lost") from error

    def fence(self, reached: Callable[[], None]) -> None:
        """Ask QEMU anything; `reached` is called when it has answered and everything that it said before was told.

        It is not called if the connection is lost before that.
        """
        if self._client is not None:
            self._client.ordered.add(Fence(reached))

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
        client = Client(self._stopped)
        client.events.event_filter = lambda _: False
        with client.listen(client.ordered):
            try:
                await self._connect(client)
                self._client = client
                await self._greet()
                await self._look_at(client)
            finally:
                self._client = None
                with contextlib.suppress(QMPError, OSError, EOFError, ValueError):
                    await client.disconnect()

    async def _connect(self, client: Client) -> None:
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

    async def _look_at(self, client: Client) -> None:
        """Until the connection is lost."""
        following = asyncio.ensure_future(self._handle_all(client))
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

    async def _handle_all(self, client: Client) -> None:
        while True:
            await self._handle(await client.ordered.first(), client)

    async def _handle(self, item: Item, client: Client) -> None:
        match item:
            case Question():
                await self._why(item, client)
            case Fence(reached):
                await self._answer(client.ask(reached), client)
            case Answer(reached=reached):
                reached()
            case _:
                await self._happened(item, client)

    async def _happened(self, event: Message, client: Client) -> None:
        replica = self._replica
        match event["event"]:
            case "STOP":
                await self._why(self._stopped(), client)
            case "RESUME":
                self._tell(replica.resumed(_seconds(event)))
                self._tell(replica.migration(await self._migration()))
            case _:
                log.warning("the %s has left COLO: %s", self._name, event.get("data"))
                self._tell(replica.exited())

    def _stopped(self) -> Question:
        """Have all read that was sent before, and ask why the guest has stopped."""
        self._tell(self._replica.stopped())
        read_up_to = time.time()
        return Question(self._client.ask() if self._client is not None else 0, read_up_to)

    async def _why(self, question: Question, client: Client) -> None:
        status, earlier = await self._answer(question.number, client)
        if any(_is_resume(item) for item in earlier):
            # It is about what came behind that.
            status = IS_RUNNING
        self._tell(self._replica.status(status, question.read_up_to))

    async def _answer(self, number: int, client: Client) -> tuple[str, list[Item]]:
        """The guest's status, and what QEMU had said before it and nobody has looked at yet."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer, earlier = await client.ordered.until(number)
        except TimeoutError as error:
            raise self._silent("query-status") from error
        if "return" not in answer.message:
            raise Refused(f"the {self._name}'s QEMU refused query-status: {answer.message.get('error')}")
        return _string(answer.message["return"], "status"), earlier

    def _silent(self, command: str) -> PeerError:
        return PeerError(f"the {self._name}'s QEMU did not answer {command} within {ANSWER_SECONDS:g} s")

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


async def _ended(client: Client) -> None:
    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()


def _is_resume(item: Item) -> bool:
    return isinstance(item, Message) and item["event"] == "RESUME"


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
