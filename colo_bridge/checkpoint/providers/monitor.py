"""The connection to one QEMU's machine protocol: made again whenever it is lost, and told as news of its replica."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from qemu.qmp import ExecuteError, QMPError, Runstate

from colo_bridge.checkpoint.providers.pauses import Pauses
from colo_bridge.checkpoint.providers.qmp_client import Answer, Client, Failure, Fence, Item, Question
from colo_bridge.checkpoint.providers.qmp_message import Event, QemuError, in_one_line, refusal_of
from colo_bridge.checkpoint.replica import IS_RUNNING, News, Phase, Replica

ANSWER_SECONDS = 5.0
"""How long QEMU may take to answer before it counts as lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two connections."""
ALONE_PAUSE = 0.5
"""Seconds between two tries to tell QEMU that it is alone."""

log = logging.getLogger(__name__)
# The library tells of each failed try to connect; we tell once that a connection is lost.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class Refused(QemuError):
    """QEMU has answered, and will not do it."""


class Monitor:
    """Follows one replica; `told` is called for each piece of news, in order, inside the running loop.

    What QEMU says is not trusted: whatever does not fit is QemuError, and ends that connection only.  An error of
    `told` is our own, and ends `run`.
    """

    def __init__(self, name: str, path: str, replica: Replica, told: Callable[[News], None]) -> None:
        self._name = name
        self._path = path
        self._replica = replica
        self._told = told
        self._client: Client | None = None
        self._was_refused = False
        self._pauses = Pauses(FIRST_PAUSE, LONGEST_PAUSE)

    async def run(self) -> None:
        """Connect, follow, and begin anew, for ever."""
        while True:
            try:
                await self._follow()
            except QemuError as error:
                self._lost(error)
            await asyncio.sleep(self._pauses.ended(time.monotonic()))

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """QEMU's answer to a command; raises QemuError if there is none."""
        if self._client is None:
            raise QemuError(f"there is no connection to the {self._name}'s QEMU")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._client.execute(command, dict(arguments) if arguments else None)
        except TimeoutError as error:
            # Whoever follows it finds out whether it answers anything.
            self.fence(lambda: None)
            raise self._silent(command) from error
        except ExecuteError as error:
            raise self._refused(command, in_one_line(str(error))) from error
        except QMPError as error:
            raise QemuError(f"the connection to the {self._name}'s QEMU is lost") from error

    def fence(self, reached: Callable[[], None]) -> None:
        """Ask QEMU anything; `reached` is called when it has answered and everything that it said before was told.

        It is not called if the connection is lost before that.
        """
        if self._client is not None:
            self._client.ordered.add(Fence(reached))

    async def lost_heartbeat(self) -> bool:
        """Tell QEMU, as soon as it can be told, that there is no other replica: nothing else lets a guest that stands
        still for a checkpoint go on.  False: it has refused.
        """
        complaint = ""
        while True:
            try:
                await self.execute("x-colo-lost-heartbeat")
                log.warning("the %s's QEMU was told that it is alone", self._name)
                return True
            except Refused as error:
                log.warning("%s", error)
                return False
            except QemuError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.error("%s; it is to be told that it is alone", complaint)
                await asyncio.sleep(ALONE_PAUSE)

    # One connection.

    async def _follow(self) -> None:
        client = Client(self._stopped)
        with client.listen(client.ordered):
            try:
                await self._connect(client)
                self._client = client
                await self._greet()
                await self._look_at(client)
            except QemuError:
                # If the connection had ended already, what ended it tells more.
                await client.hang_up()
                raise
            finally:
                self._client = None
                with contextlib.suppress(QemuError):
                    await client.hang_up()

    async def _connect(self, client: Client) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.connect(self._path)
        except TimeoutError as error:
            # It serves one client at a time: the greeting waits until the other one has gone.
            raise QemuError("QEMU does not greet: does somebody else use it?") from error
        except QMPError as error:
            raise QemuError(in_one_line(str(error))) from error

    async def _greet(self) -> None:
        status, migration = await self._status(), await self._migration()
        words = in_one_line(f"the guest is {status}, its migration {migration}")
        log.info("the %s's QEMU is connected; %s", self._name, words)
        self._was_refused = False
        self._pauses.stands(time.monotonic())
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
        raise QemuError("QEMU has closed the connection")

    async def _handle_all(self, client: Client) -> None:
        while True:
            await self._handle(await client.ordered.first(), client)

    async def _handle(self, item: Item, client: Client) -> None:
        match item:
            case Event():
                await self._happened(item, client)
            case Question():
                await self._why(item, client)
            case Fence(reached):
                await self._answer(client.ask(reached), client)
            case Answer(reached=reached):
                reached()
            case Failure(error):
                raise error

    async def _happened(self, event: Event, client: Client) -> None:
        replica = self._replica
        match event.name:
            case "STOP":
                await self._why(self._stopped(), client)
            case "RESUME":
                self._tell(replica.resumed(event.at))
                self._tell(replica.migration(await self._migration()))
            case _:
                if (news := replica.exited()) is not None:
                    log.warning("the %s has left COLO: %s", self._name, event.reason)
                    self._tell(news)

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
        if (why := refusal_of(answer.message)) is not None:
            raise self._refused("query-status", why)
        return self._member("status", answer.message["return"]), earlier

    def _silent(self, command: str) -> QemuError:
        return QemuError(f"the {self._name}'s QEMU did not answer {command} within {ANSWER_SECONDS:g} s")

    def _refused(self, command: str, why: str) -> Refused:
        return Refused(f"the {self._name}'s QEMU refused {command}: {why}")

    def _tell(self, news: News | None) -> None:
        if news is not None:
            self._told(news)

    async def _status(self) -> str:
        return self._member("status", await self.execute("query-status"))

    async def _migration(self) -> str:
        """Empty: there has been none."""
        return self._member("status", await self.execute("query-migrate"), absent="")

    def _member(self, name: str, answer: object, absent: str | None = None) -> str:
        value = answer.get(name, absent) if isinstance(answer, Mapping) else None
        if not isinstance(value, str):
            raise QemuError(f"the {self._name}'s QEMU gave an answer without {name}")
        return value

    def _lost(self, error: QemuError) -> None:
        if self._replica.phase is not Phase.OFFLINE or not self._was_refused:
            log.error("no connection to the %s's QEMU at %s: %s; trying again", self._name, self._path, error)
            self._was_refused = True
        self._tell(self._replica.lost())


async def _ended(client: Client) -> None:
    while client.runstate is Runstate.RUNNING:
        await client.runstate_changed()


def _is_resume(item: Item) -> bool:
    return isinstance(item, Event) and item.name == "RESUME"
