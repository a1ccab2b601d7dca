"""QEMU's machine protocol with what the library lacks: a question whose answer stands among the events, in order.

A guest stands still for a checkpoint for a few milliseconds. Until it goes on what it had sent must have been read, and
QEMU must have been asked why it stopped; so nothing else has its turn between the event and both of these.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from qemu.qmp import EventListener, Message, QMPClient

LINE_BYTES = 1 << 20
"""One message of QEMU at most."""
_OURS = "colo-bridge#"
"""Our own questions' identifiers begin with this, the library's with something else."""


@dataclass(frozen=True, slots=True)
class Question:
    """QEMU was asked for the guest's status; `read_up_to`: what the guest had sent until then was read."""

    number: int
    read_up_to: float


@dataclass(frozen=True, slots=True)
class Answer:
    number: int
    message: Message


@dataclass(frozen=True, slots=True)
class Fence:
    """`reached` is to be called when everything that QEMU said before was told."""

    reached: Callable[[], None]


Item = Message | Question | Answer | Fence


class Events(EventListener):
    """Keeps what has not been looked at yet and, unlike the library's own, nothing of what has been."""

    def __init__(self, stopped: Callable[[], Question]) -> None:
        """`stopped` is called at once when the guest stops, if nothing is to be looked at before."""
        super().__init__()
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._stopped = stopped
        self._is_awaited = False

    def accept(self, event: Message) -> bool:
        if event["event"] == "STOP" and self._is_awaited:
            self.add(self._stopped())
        elif event["event"] in ("STOP", "RESUME", "COLO_EXIT"):
            self.add(event)
        return False

    def add(self, item: Item) -> None:
        self._is_awaited = False
        self._items.put_nowait(item)

    async def first(self) -> Item:
        """What is to be looked at next, when all that came before has been."""
        self._is_awaited = self._items.empty()
        return await self._items.get()

    async def until(self, number: int) -> tuple[Answer, list[Item]]:
        """The answer to a question, and what came before it."""
        earlier: list[Item] = []
        while True:
            item = await self._items.get()
            if isinstance(item, Answer) and item.number == number:
                return item, earlier
            earlier.append(item)


class Client(QMPClient):
    """One connection."""

    def __init__(self, stopped: Callable[[], Question]) -> None:
        super().__init__(readbuflen=LINE_BYTES)
        self.ordered = Events(stopped)
        self._number = 0

    def ask(self) -> int:
        """Ask for the guest's status, now; the answer will be among the events, with this number."""
        self._number += 1
        question = {"execute": "query-status", "id": f"{_OURS}{self._number}"}
        if self._writer is not None:
            self._writer.write(json.dumps(question).encode() + b"\r\n")
        return self._number

    async def _on_message(self, msg: Message) -> None:
        identifier = msg.get("id")
        if isinstance(identifier, str) and identifier == f"{_OURS}{self._number}":
            self.ordered.add(Answer(self._number, msg))
        else:
            await super()._on_message(msg)
