"""Several cards of one guest, and several guests on the same two hosts: each by itself, also when a side is lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.errors import KernelError, PeerError
from tests.daemon import hosts as rig
from tests.daemon.hosts import TO_GUEST, Hosts, joined, play
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
