"""Several cards of one guest, and several guests on the same two hosts: each by itself, also when a side is lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.daemon.record import LIVE, YIELDED, Record
from colo_bridge.errors import KernelError, PeerError
from tests.daemon import hosts as rig
from tests.daemon.hosts import TO_GUEST, Host, Hosts, joined, named, play, settle
from tests.daemon.test_failback import failed_over
from tests.packets import read_tcp, tcp

pytestmark = pytest.mark.usefixtures("quickly")
quickly = rig.quickly

CARDS = (0, 1)
ISN = (1000, 2000)
"""Of the primary's guest on each card; the secondary's is higher by 4,000."""


def address(card: int) -> str:
    return f"10.0.{card}.2"


async def connect(hosts: Hosts, card: int) -> None:
    """A connection on this card, in which the replicas have numbers of their own."""
    a, b = hosts.a.ports[card], hosts.b.ports[card]
    to_guest, from_guest = TO_GUEST | {"destination": address(card)}, {"source": address(card)}
    a.mirror.put(tcp(**to_guest, seq=100, flags="S"))
    await hosts.until(lambda: b.secondary.sent)
    (packet,) = a.queue.put(tcp(**from_guest, seq=ISN[card], ack=101, flags="S"))
    b.secondary.put(tcp(**from_guest, seq=ISN[card] + 4000, ack=101, flags="S"))
    await hosts.until(lambda: packet in a.queue.accepted)
    a.mirror.put(tcp(**to_guest, seq=101, ack=ISN[card] + 1))
    await hosts.until(lambda: len(b.secondary.sent) > 1)


async def guest_sends(hosts: Hosts, card: int, text: bytes) -> None:
    """The secondary's, on its connection; and it is read."""
    tap = hosts.b.ports[card].secondary
    tap.put(tcp(source=address(card), seq=ISN[card] + 4001, ack=101, payload=text))
    await hosts.b.until(lambda: not tap.waiting)


def data(ports: Any) -> list[tuple[int, bytes]]:
    """What has left by the uplink on a connection: where, and what."""
    sent = ports.uplink.sent if ports.uplink is not None else []
    segments = [read_tcp(frame) for frame in sent if frame[12:14] == b"\x08\x00"]
    return [(segment.seq, bytes(segment.payload)) for segment in segments if segment.payload]


def announced(ports: Any) -> set[str]:
    """For which addresses, by gratuitous ARP."""
    sent = ports.uplink.sent if ports.uplink is not None else []
    return {".".join(map(str, frame[28:32])) for frame in sent if frame[12:14] == b"\x08\x06"}


@contextlib.asynccontextmanager
async def alone(directory: Path) -> AsyncIterator[Hosts]:
    """The secondary of a guest with two cards, a connection on each, misses its primary, and has kept what was sent."""
    async with joined(directory, nics=2) as hosts:
        for card in CARDS:
            await connect(hosts, card)
        hosts.cable.cut()
        await hosts.b.enters("alone")
        for card in CARDS:
            await guest_sends(hosts, card, b"kept on %d" % card)
        yield hosts


def test_each_card_has_a_way_of_its_own_after_a_failover(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with alone(tmp_path) as hosts:
            await hosts.fail_over()
            for card in CARDS:
                ports = hosts.b.ports[card]
                await hosts.until(lambda ports=ports: data(ports))
                assert data(ports) == [(ISN[card] + 1, b"kept on %d" % card)]
                await hosts.until(lambda ports=ports: announced(ports))
                assert announced(ports) == {address(card)}
                await guest_sends(hosts, card, b"live on %d" % card)
                await hosts.until(lambda ports=ports: len(data(ports)) > 1)
                assert data(ports)[1] == (ISN[card] + 1, b"live on %d" % card)
                ports.uplink.put(tcp(**TO_GUEST | {"destination": address(card)}, seq=101, ack=ISN[card] + 10))
                await hosts.until(lambda ports=ports: len(ports.secondary.sent) > 2)
                assert read_tcp(ports.secondary.sent[-1]).ack == ISN[card] + 4010

    play(scenario)


def test_every_card_that_has_no_way_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with alone(tmp_path) as hosts:
            for card in CARDS:
                hosts.b.ports[card].obstacle = KernelError(f"the bridge br{card} is missing")
            with pytest.raises(
                PeerError, match="nic net0: the bridge br0 is missing; nic net1: the bridge br1 is missing"
            ):
                await hosts.b.ask("failover", fenced=True)

    play(scenario)


@pytest.mark.parametrize("missing", CARDS)
def test_a_card_whose_bridge_is_missing_holds_no_other_one_up(tmp_path: Path, missing: int) -> None:
    async def scenario() -> None:
        async with alone(tmp_path) as hosts:
            without, other = hosts.b.ports[missing], hosts.b.ports[1 - missing]
            without.obstacle = KernelError("the bridge br0 is missing")
            with pytest.raises(PeerError, match=f"not on the network yet: nic net{missing}: the bridge br0 is missing"):
                await hosts.b.ask("failover", fenced=True)
            await hosts.until(lambda: data(other) and announced(other))
            assert (announced(other), without.uplink) == ({address(1 - missing)}, None)
            await guest_sends(hosts, missing, b"kept as well")
            without.obstacle = None
            await hosts.until(lambda: len(data(without)) == 2 and announced(without))
            assert data(without) == [(ISN[missing] + 1, b"kept on %d" % missing), (ISN[missing] + 1, b"kept as well")]
            assert hosts.b.counter("live_lost_packets") == 0

    play(scenario)


def test_each_card_is_compared_with_the_new_secondarys_and_survives_its_failover(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with failed_over(tmp_path, nics=2) as hosts:
            await hosts.protect()
            for card in CARDS:
                before = hosts.b.counter("primary_packets")
                for ports in hosts.b.ports:
                    ports.secondary.put(named(f"on {card}"))
                await hosts.b.until(lambda before=before: hosts.b.counter("primary_packets") == before + 2)
                hosts.c.ports[card].secondary.put(named(f"on {card}"))
                here, other = hosts.b.ports[card], hosts.b.ports[1 - card]
                await hosts.b.until(lambda here=here, card=card: named(f"on {card}") in here.uplink.sent)
                await settle()
                assert named(f"on {card}") not in other.uplink.sent
                hosts.c.ports[1 - card].secondary.put(named(f"on {card}"))
                await hosts.b.until(lambda other=other, card=card: named(f"on {card}") in other.uplink.sent)
            await hosts.b.stop()
            await hosts.c.enters("alone")
            assert (await hosts.c.ask("failover", fenced=True))["done"]
            for card in CARDS:
                ports = hosts.c.ports[card]
                ports.secondary.put(named(f"live on {card}"))
                await hosts.c.until(lambda ports=ports, card=card: named(f"live on {card}") in ports.uplink.sent)
                assert named(f"live on {card}") not in hosts.c.ports[1 - card].uplink.sent

    play(scenario)


# Several guests.


def word(host: Host) -> str:
    """What the host remembers of the guest."""
    return Record(host.config.run_dir, host.config.guest).read()


def test_of_two_guests_on_the_same_two_hosts_each_is_lost_and_taken_over_by_itself(tmp_path: Path) -> None:
    """Host A has the primary of the first guest and the secondary of the other."""

    async def scenario() -> None:
        async with joined(tmp_path) as web, joined(tmp_path, guest="db", places=("b", "a")) as db:
            assert (web.a.config.run_dir, web.b.config.run_dir) == (db.b.config.run_dir, db.a.config.run_dir)
            held = await db.held(named("held"))
            web.cable.cut()
            await web.a.enters("lost")
            await web.b.enters("alone")
            assert (db.a.state, db.b.state) == ("protected", "standby")
            await web.fail_over()
            web.cable.mend()
            await web.a.enters("yielded")
            assert (db.a.state, db.b.state) == ("protected", "standby")
            assert (word(web.a), word(web.b), word(db.a), word(db.b)) == (YIELDED, LIVE, "", "")
            db.tap.put(named("held"))
            await db.released(*held)
            # What is remembered of one guest is not taken for the other's.
            for host in (db.a, db.b):
                await host.stop()
                await host.start()
                await db.protected()
            await db.both_send(named("again"))
            assert (web.a.state, web.b.state) == ("yielded", "live")
            assert (await db.a.ask("solo"))["done"]
            await db.b.enters("unsynchronised")
            assert (db.a.state, web.b.state) == ("solo", "live")

    play(scenario)


def test_a_host_that_dies_is_the_loss_of_one_guests_primary_and_of_the_others_secondary(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as web, joined(tmp_path, guest="db", places=("b", "a")) as db:
            for host in (web.a, db.b):
                await host.stop()
            await web.b.enters("alone")
            await db.a.enters("lost")
            assert (await web.fail_over())["done"]
            assert (await db.a.ask("solo", fenced=True))["done"]
            web.tap.put(named("of the first"))
            await web.until(lambda: named("of the first") in web.uplink.sent)
            await db.released(*db.queue.put(named("of the other")))
            assert (web.b.counter("live_packets") > 0, db.a.counter("passed_packets")) == (True, 1)

    play(scenario)
