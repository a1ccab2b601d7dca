"""QEMU's machine protocol with what the library lacks: a question whose answer stands among the events, in order.

A guest stands still for a checkpoint for a few milliseconds. Until it goes on what it had sent must have been read, and
QEMU must have been asked why it stopped; so nothing else has its turn between the event and both of these.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

from qemu.qmp import EventListener, Message, QMPClient, QMPError

from colo_bridge.checkpoint.providers.qmp_message import Event, QemuError, event_of, in_one_line, parse

LINE_BYTES = 1 << 20
"""One message of QEMU at most."""
WAITING = 1_000
"""Events and answers that wait to be looked at, at most."""
_OURS = "colo-bridge#"
"""Our own questions' identifiers begin with this, the library's with something else."""


@dataclass(frozen=True, slots=True)
class Question:
    """QEMU was asked for the guest's status; `read_up_to`: what the guest had sent until then was read."""

    number: int
    read_up_to: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`reached` is to be called when everything that QEMU said before was told."""

    number: int
    message: Message
    reached: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fence:
    """QEMU is to be asked anything, with this `reached`."""

    reached: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Failure:
    """Of what was called at once when the guest stopped: no fault of QEMU's."""

    error: Exception


Item = Event | Question | Answer | Fence | Failure


class Events(EventListener):
    """Keeps what has not been looked at yet and, unlike the library's own, nothing of what has been."""

    def __init__(self, stopped: Callable[[], Question]) -> None:
        """`stopped` is called at once when the guest stops, if nothing is to be looked at before."""
        super().__init__()
        self._items: deque[Item] = deque()
        self._added = asyncio.Event()
        self._stopped = stopped
        self._is_awaited = False

    def accept(self, event: Message) -> bool:
        if event["event"] == "STOP" and self._is_awaited:
            self.add(self._look())
        elif event["event"] in ("STOP", "RESUME", "COLO_EXIT"):
            self.said(event_of(event))
        return False

    def said(self, item: Event | Answer) -> None:
        """Raises QemuError if QEMU says more than can be looked at."""
        if len(self._items) >= WAITING:
            raise QemuError(f"QEMU says more than can be looked at: {WAITING} events and answers wait")
        self.add(item)

    def add(self, item: Item) -> None:
        self._is_awaited = False
        self._items.append(item)
        self._added.set()

    async def first(self) -> Item:
        """What is to be looked at next, when all that came before has been."""
        while not self._items:
            self._is_awaited = True
            await self._more()
        return self._items.popleft()

    async def until(self, number: int) -> tuple[Answer, list[Item]]:
        """The answer to a question, and what came before it; all of it stays to be looked at."""
        while (answer := self._answer(number)) is None:
            await self._more()
        return answer, list(takewhile(lambda item: item is not answer, self._items))

    async def _more(self) -> None:
        self._added.clear()
        await self._added.wait()

    def _answer(self, number: int) -> Answer | None:
        answers = (item for item in self._items if isinstance(item, Answer))
        return next((answer for answer in answers if answer.number == number), None)

    def _look(self) -> Question | Failure:
        try:
            return self._stopped()
        except Exception as error:
            # This is inside the reader of the connection: what ends that is taken for QEMU's fault.
            return Failure(error)


class Client(QMPClient):
    """One connection."""

    def __init__(self, stopped: Callable[[], Question]) -> None:
        super().__init__(readbuflen=LINE_BYTES)
        self.events.event_filter = lambda _: False
        self.ordered = Events(stopped)
        self._number = 0
        self._asked: dict[str, tuple[int, Callable[[], None]]] = {}

    def ask(self, reached: Callable[[], None] = lambda: None) -> int:
        """Ask for the guest's status, now; the answer will be among the events, with this number."""
        self._number += 1
        identifier = f"{_OURS}{self._number}"
        self._asked[identifier] = self._number, reached
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps({"execute": "query-status", "id": identifier}).encode() + b"\r\n")
        return self._number

    async def hang_up(self) -> None:
        """Raises QemuError, which tells why, if the connection had ended already."""
        try:
            await self.disconnect()
        except (QMPError, OSError, EOFError) as error:
            raise QemuError(in_one_line(str(error)) or "the connection is closed") from error

    async def _do_recv(self) -> Message:
        try:
            line = await self._readline()
        except ValueError as error:
            raise QemuError(f"QEMU said more than {LINE_BYTES} bytes in one line") from error
        if not line.endswith(b"\n"):
            raise EOFError
        return parse(line)

    async def _on_message(self, msg: Message) -> None:
        asked = self._asked.pop(str(msg.get("id")), None) if "event" not in msg else None
        if asked is None:
            await super()._on_message(msg)
        else:
            number, reached = asked
            self.ordered.said(Answer(number, msg, reached))
