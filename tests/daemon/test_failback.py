"""A guest that has gone live takes a secondary of its own: daemons of three hosts in one event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.daemon.record import LIVE, OVERTAKEN, SURVIVOR
from colo_bridge.errors import PeerError
from tests.daemon import hosts as rig
from tests.daemon.hosts import Host, Hosts, SecondaryPorts, free_port, joined, named, play, settle
from tests.packets import arp, read_tcp, tcp

quickly = rig.quickly
pytestmark = pytest.mark.usefixtures("quickly")
FROM_CLIENT = {"source": "10.0.0.9", "destination": "10.0.0.2", "sport": 6000, "dport": 80}
TO_CLIENT = {"dport": 6000}


class Three(Hosts):
    """B is live, and C wants to be its secondary; `hosts.tap` is B's guest's, `new` C's."""

    c: Host

    @property
    def new(self) -> Any:
        return self.c.ports[0].secondary

    async def enter(self, b: str, c: str) -> None:
        await self.b.enters(b)
        await self.c.enters(c)

    async def protect(self) -> None:
        await self.b.until(lambda: self.b.status["link"]["up"])
        await self.c.enters("unsynchronised")
        await self.b.ask("protect")
        await self.enter("protected", "standby")

    async def guest_sends(self, frame: bytes) -> None:
        """And it is read."""
        before = self.b.counter("primary_packets")
        self.tap.put(frame)
        await self.b.until(lambda: self.b.counter("primary_packets") == before + 1)

    async def leaves(self, frame: bytes) -> None:
        await self.b.until(lambda: frame in self.uplink.sent)

    def word(self, host: Host) -> str:
        return (Path(host.config.run_dir) / "web.role").read_text(encoding="ascii").strip()


@contextlib.asynccontextmanager
async def failed_over(
    directory: Path, link: str = "secondary_timeout = 10.0", *, nics: int = 1
) -> AsyncIterator[Three]:
    port = free_port()
    async with joined(directory, link=link, link_b=f'listen = "127.0.0.1:{port}"', nics=nics) as hosts:
        await hosts.connect()
        await hosts.a.stop()
        await hosts.b.enters("alone")
        await hosts.fail_over()
        hosts.__class__ = Three
        config = hosts.b.config.model_dump() | {"run_dir": f"{directory}/c"}
        config["link"] |= {"identity": "host-c", "listen": "", "peer": f"127.0.0.1:{port}"}
        hosts.c = Host(type(hosts.b.config).model_validate(config), [SecondaryPorts() for _ in range(nics)])
        await hosts.c.start()
        try:
            yield hosts
        finally:
            await hosts.c.stop()
            for ports in hosts.c.ports:
                ports.close()


def test_a_live_guest_is_compared_with_its_new_secondary(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with failed_over(tmp_path) as hosts:
            assert hosts.b.state == "live"
            await hosts.protect()
            status = hosts.b.status
            assert (status["role"], status["live"], status["link"]["peer"]) == ("primary", True, "host-c")
            await hosts.guest_sends(named("equal"))
            assert named("equal") not in hosts.uplink.sent
            hosts.new.put(named("equal"))
            await hosts.leaves(named("equal"))
            await hosts.guest_sends(named("one"))
            hosts.new.put(named("other"))
            await hosts.b.until(lambda: hosts.b.status["divergences"]["datagram"] == 1)
            assert named("one") not in hosts.uplink.sent

    play(scenario)


def test_old_connections_pass_in_the_numbers_that_clients_know_and_new_ones_are_compared(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with failed_over(tmp_path) as hosts:
            await hosts.protect()
            hosts.tap.put(tcp(seq=5001, ack=101, payload=b"old"))
            await hosts.b.until(lambda: any(b"old" in frame for frame in hosts.uplink.sent))
            assert [read_tcp(frame).seq for frame in hosts.uplink.sent if b"old" in frame] == [1001]
            hosts.uplink.put(tcp(**FROM_CLIENT, seq=300, flags="S"))
            await hosts.b.until(lambda: hosts.new.sent)
            await hosts.guest_sends(tcp(**TO_CLIENT, seq=20, ack=301, flags="S"))
            hosts.new.put(tcp(**TO_CLIENT, seq=70, ack=301, flags="S"))
            await hosts.leaves(tcp(**TO_CLIENT, seq=20, ack=301, flags="S"))
            hosts.uplink.put(tcp(**FROM_CLIENT, seq=301, ack=21))
            await hosts.b.until(lambda: len(hosts.new.sent) > 1)
            assert read_tcp(hosts.new.sent[-1]).ack == 71
            assert hosts.b.status["unsynchronised_connections"] == 1

    play(scenario)


def test_connections_from_before_the_first_failover_survive_the_second(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with failed_over(tmp_path) as hosts:
            await hosts.protect()
            await hosts.b.stop()
            await hosts.c.enters("alone")
            hosts.new.put(tcp(seq=5001, ack=101, payload=b"kept"), named("kept"))
            await hosts.c.until(lambda: not hosts.new.waiting)
            await hosts.c.ask("failover", fenced=True)
            ports = hosts.c.ports[0]
            hosts.new.put(tcp(seq=5001, ack=101, payload=b"repeated"))
            await hosts.c.until(lambda: any(b"repeated" in frame for frame in ports.uplink.sent))
            assert [read_tcp(frame).seq for frame in ports.uplink.sent if b"repeated" in frame] == [1001]
            assert named("kept") in ports.uplink.sent
            assert not any(b"kept" in frame for frame in ports.uplink.sent if frame != named("kept"))
            ports.uplink.put(tcp(**FROM_CLIENT | {"sport": 5000}, seq=101, ack=1009))
            await hosts.c.until(lambda: hosts.new.sent)
            assert read_tcp(hosts.new.sent[-1]).ack == 5009

    play(scenario)


def test_a_survivor_that_was_compared_holds_what_its_guest_sends_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with failed_over(tmp_path) as hosts:
            assert hosts.word(hosts.b) == LIVE
            await hosts.protect()
            assert hosts.word(hosts.b) == SURVIVOR
            await hosts.b.stop()
            await hosts.c.stop()
            sent = len(hosts.uplink.sent)
            await hosts.b.start()
            assert hosts.b.state == "waiting"
            await hosts.b.until(lambda: "primary_packets" in hosts.b.status["counters"])
            await hosts.guest_sends(named("held"))
            await settle()
            assert named("held") not in hosts.uplink.sent[sent:]

    play(scenario)


def test_a_survivor_whose_secondary_is_lost_does_what_a_primary_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with failed_over(tmp_path, link="secondary_timeout = 0.3") as hosts:
            await hosts.protect()
            await hosts.c.stop()
            await hosts.b.enters("solo")
            hosts.tap.put(named("alone"))
            await hosts.leaves(named("alone"))
            assert hosts.word(hosts.b) == LIVE

    play(scenario)


def test_a_survivor_yields_to_its_secondary_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with failed_over(tmp_path) as hosts:
            await hosts.protect()
            assert (await hosts.c.ask("failover", fenced=True))["done"]
            await hosts.enter("yielded", "live")
            answer = await hosts.b.ask("failover")
            assert (answer["done"], answer["state"]) == (False, "yielded")
            assert answer["reason"].startswith("the other side has gone live")
            assert hosts.word(hosts.b) == OVERTAKEN
            sent = len(hosts.uplink.sent)
            hosts.tap.put(arp(), named("too late"))
            await hosts.b.until(lambda: hosts.b.counter("blocked_packets") == 2)
            await hosts.b.stop()
            await hosts.b.start()
            assert hosts.b.state == "yielded"
            hosts.tap.put(named("too late"), arp())
            await hosts.b.until(lambda: hosts.b.counter("blocked_packets") == 2)
            assert hosts.uplink.sent[sent:] == []

    play(scenario)


def test_what_a_primary_is_told_a_secondary_hears_once_it_is_live(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with failed_over(tmp_path) as hosts:
            for verb in ("protect", "solo", "passthrough-list"):
                with pytest.raises(PeerError, match="this daemon is the secondary"):
                    await hosts.c.ask(verb)
            assert (await hosts.b.ask("passthrough-list"))["rules"] == []
            await hosts.c.stop()
            await hosts.b.until(lambda: not hosts.b.status["link"]["up"])
            with pytest.raises(PeerError, match="no secondary is there"):
                await hosts.b.ask("protect")

    play(scenario)
