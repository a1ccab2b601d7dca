"""Both ends of the link on real sockets, with owners that write down what they are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from colo_bridge.link.address import Address
from colo_bridge.link.client import LinkClient
from colo_bridge.link.end import LinkEnd
from colo_bridge.link.protocol.actions import Closed, Timing
from colo_bridge.link.protocol.backoff import Backoff
from colo_bridge.link.protocol.messages import Hello, Message
from colo_bridge.link.server import LinkServer
from colo_bridge.link.session import LinkSettings
from tests.link.sides import PRIMARY, SECONDARY

HERE = Address("127.0.0.1", 0)
SETTINGS = LinkSettings(("net0", "net1"), Timing(interval=0.1, timeout=1.0, greeting=2.0))


class Owner:
    """A daemon's part."""

    def __init__(self, own: Hello) -> None:
        self.own = own
        self.told: list = []
        self.peer: Hello | None = None
        self.downs: list[Closed] = []
        self.rooms = 0

    def hello(self) -> Hello:
        return self.own

    def link_up(self, peer: Hello) -> None:
        self.peer = peer

    def link_down(self, closed: Closed) -> None:
        self.downs.append(closed)

    def link_packets(self, nic: str, buffer: bytearray, frames: list) -> None:
        assert self.peer is not None, "nothing comes before the link is up"
        self.told += [(nic, bytes(buffer[body:end])) for _, body, end in frames]

    def link_barrier(self, stream: str, epoch: int) -> None:
        assert self.peer is not None, "nothing comes before the link is up"
        self.told.append((stream, epoch))

    def link_message(self, message: Message) -> None:
        assert self.peer is not None, "nothing comes before the link is up"
        self.told.append(message)

    def link_room(self, nic: str) -> None:
        self.rooms += 1


class PausingOwner(Owner):
    """Pauses a NIC's stream at each barrier; `link` is this side's end."""

    link: LinkEnd

    def link_barrier(self, stream, epoch):
        super().link_barrier(stream, epoch)
        if stream != "control":
            self.link.pause(stream)


class Ends:
    """`primary` listens, `secondary` dials."""

    def __init__(
        self,
        settings=SETTINGS,
        primary=PRIMARY,
        secondary=SECONDARY,
        server=None,
        client=None,
        listen: Address = HERE,
        insecure: bool = False,
    ) -> None:
        self.primary, self.secondary = Owner(primary), Owner(secondary)
        self.settings = settings
        self.insecure = insecure
        self.server = LinkServer(listen, settings, self.primary, server, insecure)
        self.client = self.dialling(client)

    def dialling(self, credentials=None, address: Address | None = None, owner: Owner | None = None) -> LinkClient:
        address = address or self.server.address
        backoff = Backoff(first=0.05, longest=0.4)
        return LinkClient(address, self.settings, owner or self.secondary, credentials, self.insecure, backoff)

    def up(self) -> bool:
        return self.server.up and self.client.up


@contextlib.asynccontextmanager
async def running(**options) -> AsyncIterator[Ends]:
    ends = Ends(**options)
    ends.server.start()
    ends.client.start()
    try:
        yield ends
    finally:
        await ends.client.close()
        await ends.server.close()


@contextlib.asynccontextmanager
async def linked(**options) -> AsyncIterator[Ends]:
    async with running(**options) as ends:
        await until(ends.up)
        yield ends


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def packet(contents: bytes) -> bytes:
    return bytes(12) + contents


def other(hello: Hello, **changes) -> Hello:
    return replace(hello, **changes)
