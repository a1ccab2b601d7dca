"""Two hosts in one event loop: real daemons of either role and a real link, between ports without a kernel."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.checkpoint.replica import News
from colo_bridge.config import Config, parse
from colo_bridge.daemon import comparison, guard, link_of, protector, secondary, taking_over
from colo_bridge.daemon.client import ask
from colo_bridge.daemon.ending import HANDLED_SIGNALS
from colo_bridge.daemon.primary import Primary
from colo_bridge.daemon.secondary import Secondary
from colo_bridge.errors import ColoBridgeError
from colo_bridge.link.protocol.backoff import Backoff
from tests.daemon.fakes import FakeProtection, FakeTap, close_all
from tests.packets import read_tcp, tcp, udp

SECONDS = 20
TO_GUEST = {"source": "10.0.0.9", "destination": "10.0.0.2", "sport": 5000, "dport": 80}
QMP = '[checkpoint]\nprovider = "qmp"\nqmp = "/nowhere/qmp"'
BEATS = "heartbeat_interval = 0.05\nheartbeat_timeout = 10.0"


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Timers that nobody waits for, and signals that nothing ends with."""
    monkeypatch.setattr(guard, "_INTERVAL", 0.01)
    for module in (comparison, protector):
        monkeypatch.setattr(module, "TICK", 0.01)
    monkeypatch.setattr(comparison, "AGE", 0.02)
    monkeypatch.setattr(protector, "_TELL", 0.02)
    for name in ("_TELL", "_TELL_COUNTERS"):
        monkeypatch.setattr(secondary, name, 0.02)
    monkeypatch.setattr(secondary, "_TICK", 0.01)
    monkeypatch.setattr(taking_over, "AGAIN", 0.02)
    monkeypatch.setattr(secondary, "_KEEP", 0.02)
    monkeypatch.setattr(link_of, "Backoff", lambda longest: Backoff(first=0.01, longest=0.02))
    before = {number: signal.signal(number, signal.SIG_IGN) for number in HANDLED_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


class SecondaryPorts(FakeProtection):
    """Of a secondary on its own host: `uplink` once it is live; `obstacle` is why it cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self.uplink: FakeTap | None = None
        self.obstacle: ColoBridgeError | None = None

    def go_live(self) -> None:
        self._called("go live")
        if self.obstacle is not None:
            raise self.obstacle
        if self.uplink is None:
            self.uplink = FakeTap()

    def close(self) -> None:
        super().close()
        if self.uplink is not None:
            close_all((self.uplink,))


class Cable:
    """What the secondary dials: leads to the primary while it is whole; once cut, connections end and none begin."""

    def __init__(self, to: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._to = to
        self.whole = True
        self._connections = 0
        self._forgotten: set[int] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def lay(self) -> None:
        self._server = await asyncio.start_server(self._connected, sock=self._listener)

    def cut(self) -> None:
        self.whole = False
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self.whole = True

    def forget_connection(self, number: int) -> None:
        """What is sent on it arrives no more, and nobody is told; they are counted from 0 since the cable was laid."""
        self._forgotten.add(number)

    def forget(self) -> None:
        """It was never laid."""
        self._listener.close()

    async def close(self) -> None:
        self.cut()
        self._server.close()
        while self._writers:
            await asyncio.sleep(0.001)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._connections = self._connections, self._connections + 1
        if not self.whole:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(self._carry(number, reader, back), self._carry(number, there, writer))

    async def _carry(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                while self.whole and (data := await reader.read(1 << 16)):
                    if number not in self._forgotten:
                        writer.write(data)
                        await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()


class Host:
    """One daemon, which can be stopped and started again; its ports stay."""

    def __init__(self, config: Config, ports: list[Any]) -> None:
        self.config = config
        self.ports = ports
        self._running: asyncio.Task[None] | None = None

    async def start(self, spoil: Callable[[Any], None] = lambda _: None) -> None:
        """`spoil` may change the daemon before it runs."""
        self.daemon: Any = Primary(self.config) if self.config.role == "primary" else Secondary(self.config)
        spoil(self.daemon)
        names = [nic.name for nic in self.config.nic]
        self._running = asyncio.create_task(self.daemon.run(list(zip(names, self.ports, strict=True))))
        await self.until(lambda: self.state != "starting")

    async def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled(), running

    @property
    def far(self) -> Any:
        """The other side, as this daemon sees it."""
        return self.daemon._protector._far if self.config.role == "primary" else self.daemon._far

    @property
    def state(self) -> str:
        return str(self.daemon.state)

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.status()
        return found

    def counter(self, name: str) -> int:
        return int(self.status["counters"][name])

    async def ask(self, verb: str, **arguments: object) -> dict[str, Any]:
        """As an operator does, by the control socket."""
        answer: dict[str, Any] = await asyncio.to_thread(
            functools.partial(ask, self.config.control_socket, verb, arguments=arguments)
        )
        return answer

    def alive(self) -> None:
        if self._running is not None and self._running.done():
            self._running.result()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(SECONDS / 2):
            while not condition():
                self.alive()
                await asyncio.sleep(0.001)

    async def enters(self, state: str) -> None:
        await self.until(lambda: self.state == state)


class Hosts:
    """Host A with the primary, host B with the secondary, and what clients and guests do."""

    def __init__(self, a: Config, b: Config, cable: Cable) -> None:
        self.a = Host(a, [FakeProtection() for _ in a.nic])
        self.b = Host(b, [SecondaryPorts() for _ in b.nic])
        self.cable = cable

    @property
    def queue(self) -> Any:
        """What the primary sends."""
        return self.a.ports[0].queue

    @property
    def tap(self) -> Any:
        """What the secondary sends, and in `sent` what it gets."""
        return self.b.ports[0].secondary

    @property
    def uplink(self) -> Any:
        return self.b.ports[0].uplink

    async def until(self, condition: Callable[[], object]) -> None:
        def also_alive() -> object:
            self.b.alive()
            return condition()

        await self.a.until(also_alive)

    def lose_patience(self, secondary_timeout: float = 0.05) -> None:
        """From now on the primary holds for so many seconds; before, it could run out while the other side joins."""
        membership = self.a.daemon._protector.membership
        membership.policy = replace(membership.policy, secondary_timeout=secondary_timeout)

    async def protected(self) -> None:
        await self.until(lambda: (self.a.state, self.b.state) == ("protected", "standby"))

    async def aligned(self) -> None:
        await self.until(lambda: self.a.far.epoch.alignment.value == "aligned")

    async def released(self, *ids: int) -> None:
        await self.until(lambda: set(ids) <= set(self.queue.accepted))

    async def held(self, *frames: bytes) -> list[int]:
        """The primary sends these, and nothing of them leaves."""
        before = self.a.counter("primary_packets")
        ids: list[int] = self.queue.put(*frames)
        await self.until(lambda: self.a.counter("primary_packets") == before + len(frames))
        assert not set(ids) & set(self.queue.accepted)
        return ids

    async def both_send(self, frame: bytes, replica: bytes | None = None) -> int:
        """What both send leaves."""
        (packet,) = self.queue.put(frame)
        self.tap.put(replica or frame)
        await self.released(packet)
        return int(packet)

    async def client_sends(self, frame: bytes) -> bytes:
        """What the secondary gets of it."""
        count = len(self.tap.sent)
        self.a.ports[0].mirror.put(frame)
        await self.until(lambda: len(self.tap.sent) > count)
        return bytes(self.tap.sent[-1])

    async def connect(self) -> None:
        """A connection with numbers of its own on each side: 100 the client's, 1000 the primary's, 5000 B's."""
        await self.client_sends(tcp(**TO_GUEST, seq=100, flags="S"))
        await self.both_send(tcp(seq=1000, ack=101, flags="S"), tcp(seq=5000, ack=101, flags="S"))
        acknowledged = await self.client_sends(tcp(**TO_GUEST, seq=101, ack=1001))
        assert read_tcp(acknowledged).ack == 5001

    async def fail_over(self) -> dict[str, Any]:
        answer = await self.b.ask("failover", fenced=True, accept_loss=True)
        await self.until(lambda: self.uplink is not None)
        return answer


def tells(host: Host, *news: News) -> None:
    """A hypervisor says these, as its provider hands them on."""
    is_primary = host.config.role == "primary"
    for each in news:
        if is_primary and each is News.STOPPED:
            host.far.stopped(True)
        host.far.told(each)
        if is_primary and each not in (News.STOPPED, News.PAUSED):
            host.far.goes_on()


def checkpoint(*hosts: Host) -> None:
    """As their hypervisors tell of it, one after the other."""
    for host in hosts:
        tells(host, News.STOPPED, News.PAUSED, News.RESUMED)


def _answers(secondary: Secondary) -> None:
    """Its hypervisor does."""
    secondary._membership.guest_found(0.0)


@contextlib.asynccontextmanager
async def in_colo(directory: Path, **options: Any) -> AsyncIterator[Hosts]:
    """Both sides count alike, and no checkpoint is made yet."""
    async with two_hosts(directory, sections=QMP, **options) as hosts:
        for host in (hosts.a, hosts.b):
            await host.start(_answers if host is hosts.b else lambda _: None)
            host.far._ask_hypervisor = lambda answered: answered()
            tells(host, News.JOINED)
        await hosts.until(lambda: hosts.a.far.epoch.alignment.value == "aligned")
        yield hosts


@contextlib.asynccontextmanager
async def synchronised(directory: Path, **options: Any) -> AsyncIterator[Hosts]:
    async with in_colo(directory, **options) as hosts:
        checkpoint(hosts.b, hosts.a)
        await hosts.protected()
        yield hosts


async def settle() -> None:
    """Whatever is on its way arrives: several turns of every timer of these tests."""
    await asyncio.sleep(0.1)


def named(text: str) -> bytes:
    return udp(payload=text.encode())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def configurations(
    directory: Path,
    *,
    a: str = "",
    b: str = "",
    link: str = "secondary_timeout = 10.0",
    link_a: str = "",
    link_b: str = "",
    sections: str = "",
    nics: int = 1,
    beats: str = BEATS,
    guest: str = "web",
    places: tuple[str, str] = ("a", "b"),
) -> tuple[Config, Config, Cable]:
    """`a` and `b` are sections of one side, `link_a` and `link_b` keys of its [link]; the rest is for both.

    `places`: the hosts of the primary and of the secondary.
    """
    port = free_port()
    cable = Cable(port)
    place_a, place_b = f'listen = "127.0.0.1:{port}"', f'peer = "127.0.0.1:{cable.port}"'
    configs = []
    for role, name, place, more, keys in (
        ("primary", places[0], place_a, a, link_a),
        ("secondary", places[1], place_b, b, link_b),
    ):
        head = f'role = "{role}"\nguest = "{guest}"\nrun_dir = "{directory}/{name}"\nevidence = false'
        ports = 'primary_port = "p{0}"\nqueue = {0}' if role == "primary" else 'secondary_port = "s{0}"\nbridge = "br0"'
        cards = [f'[[nic]]\nname = "net{n}"\n{ports.format(n)}' for n in range(nics)]
        table = f'[link]\nidentity = "host-{name}"\n{place}\n{beats}\n{link}\n{keys}'
        configs.append(parse("\n".join((head, *cards, table, sections, more))))
    return configs[0], configs[1], cable


@contextlib.asynccontextmanager
async def two_hosts(directory: Path, **options: Any) -> AsyncIterator[Hosts]:
    """Nothing is started yet."""
    a, b, cable = configurations(directory, **options)
    hosts = Hosts(a, b, cable)
    await cable.lay()
    try:
        yield hosts
    finally:
        for host in (hosts.b, hosts.a):
            await host.stop()
        await cable.close()
        for ports in (*hosts.a.ports, *hosts.b.ports):
            ports.close()


@contextlib.asynccontextmanager
async def joined(directory: Path, **options: Any) -> AsyncIterator[Hosts]:
    """Protected."""
    async with two_hosts(directory, **options) as hosts:
        await hosts.a.start()
        await hosts.b.start()
        await hosts.protected()
        yield hosts


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(_awaited(scenario), SECONDS))


async def _awaited(scenario: Callable[[], Awaitable[None]]) -> None:
    await scenario()
