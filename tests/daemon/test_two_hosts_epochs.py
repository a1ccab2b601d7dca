"""Both daemons of a guest whose hypervisors make the checkpoints: what belongs to which state of the replicas."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.checkpoint.replica import News
from tests.daemon import hosts as rig
from tests.daemon.hosts import TO_GUEST, Host, Hosts, named, play, settle, two_hosts
from tests.packets import read_tcp, tcp

pytestmark = pytest.mark.usefixtures("quickly")
quickly = rig.quickly

QMP = '[checkpoint]\nprovider = "qmp"\nqmp = "/nowhere/qmp"'


def tells(host: Host, *news: News) -> None:
    """A hypervisor says these, as its provider hands them on."""
    daemon = host.daemon
    for each in news:
        if host.config.role == "primary" and each is News.STOPPED:
            daemon._far.stopped(True)
        daemon._far.told(each)
        if host.config.role == "primary" and each not in (News.STOPPED, News.PAUSED):
            daemon._far.goes_on()


def checkpoint(host: Host) -> None:
    tells(host, News.STOPPED, News.PAUSED, News.RESUMED)


@contextlib.asynccontextmanager
async def in_colo(directory: Path, **options: Any) -> AsyncIterator[Hosts]:
    """Both sides count alike, and no checkpoint is made yet."""
    async with two_hosts(directory, sections=QMP, **options) as hosts:
        for host in (hosts.a, hosts.b):
            await host.start()
            host.daemon._far._ask_hypervisor = lambda answered: answered()
            tells(host, News.JOINED)
        await hosts.until(lambda: hosts.a.daemon._far.epoch.alignment.value == "aligned")
        yield hosts


@contextlib.asynccontextmanager
async def synchronised(directory: Path, **options: Any) -> AsyncIterator[Hosts]:
    async with in_colo(directory, **options) as hosts:
        for host in (hosts.b, hosts.a):
            checkpoint(host)
        await hosts.protected()
        yield hosts


def test_until_the_first_checkpoint_everything_waits_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as hosts:
            held = await hosts.held(named("held"), tcp(seq=7, ack=1, payload=b"in mid-stream"))
            hosts.tap.put(named("held"))
            await hosts.until(lambda: hosts.a.counter("stale_packets") == 1)
            assert (hosts.a.state, hosts.b.state) == ("unsynchronised", "unsynchronised")
            assert hosts.a.status["checkpoint"]["reasons"] == {"link": 1}
            for host in (hosts.b, hosts.a):
                checkpoint(host)
            await hosts.released(*held)
            await hosts.protected()
            await hosts.both_send(tcp(seq=20, ack=1, payload=b"goes on"))

    play(scenario)


def test_invariant_7_what_the_secondary_sent_before_its_checkpoint_is_not_compared_after_the_primarys(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            checkpoint(hosts.a)
            (packet,) = await hosts.held(named("the same bytes, of two states"))
            hosts.tap.put(named("the same bytes, of two states"))
            await hosts.until(lambda: hosts.a.counter("stale_packets") == 1)
            await settle()
            assert packet not in hosts.queue.accepted
            checkpoint(hosts.b)
            hosts.tap.put(named("the same bytes, of two states"))
            await hosts.released(packet)

    play(scenario)


def test_invariant_7_what_the_secondary_sends_ahead_waits_for_the_primarys_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            old = await hosts.held(named("ours"))
            tells(hosts.a, News.STOPPED, News.PAUSED)
            checkpoint(hosts.b)
            hosts.tap.put(named("ahead"))
            await settle()
            assert hosts.a.counter("secondary_packets") == hosts.a.counter("stale_packets") == 0
            (new,) = hosts.queue.put(named("ahead"))
            tells(hosts.a, News.RESUMED)
            await hosts.released(*old, new)
            assert hosts.a.counter("released_by_checkpoint_packets") == 1

    play(scenario)


def test_invariant_7_what_clients_sent_before_a_checkpoint_does_not_reach_the_secondary_after_it(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            checkpoint(hosts.b)
            hosts.a.ports[0].mirror.put(named("part of the state already"))
            await hosts.until(lambda: hosts.b.counter("discarded_ingress") == 1)
            checkpoint(hosts.a)
            assert await hosts.client_sends(named("new")) == named("new")
            assert hosts.tap.sent == [named("new")]

    play(scenario)


def test_after_a_checkpoint_the_numbers_are_the_primarys(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            await hosts.connect()
            for host in (hosts.b, hosts.a):
                checkpoint(host)
            await hosts.until(lambda: hosts.b.daemon._far.epoch.delivers["net0"])
            assert read_tcp(await hosts.client_sends(tcp(**TO_GUEST, seq=101, ack=1001, payload=b"?"))).ack == 1001
            await hosts.both_send(tcp(seq=1001, ack=102, payload=b"!"))

    play(scenario)


@pytest.mark.parametrize("news", [News.SPOILED, News.GOES_ON, News.LOST])
def test_a_secondary_that_loses_count_is_no_standby_until_the_next_checkpoint(tmp_path: Path, news: News) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            (held,) = await hosts.held(named("held"))
            tells(hosts.b, news)
            assert hosts.b.state != "standby"
            hosts.tap.put(named("held"))
            await hosts.until(lambda: hosts.b.counter("discarded_egress") == 1)
            await hosts.a.enters("unsynchronised")
            assert held not in hosts.queue.accepted
            if news is News.LOST:
                tells(hosts.b, News.JOINED)
            await hosts.until(lambda: hosts.a.daemon._far.epoch.alignment.value == "aligned")
            for host in (hosts.b, hosts.a):
                checkpoint(host)
            await hosts.protected()
            assert held in hosts.queue.accepted

    play(scenario)


def test_a_link_that_is_cut_needs_another_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            (held,) = await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.a.enters("lost")
            await hosts.b.enters("alone")
            hosts.cable.mend()
            await hosts.until(lambda: hosts.a.daemon._far.epoch.alignment.value == "aligned")
            assert (hosts.a.state, held in hosts.queue.accepted) == ("unsynchronised", False)
            for host in (hosts.b, hosts.a):
                checkpoint(host)
            await hosts.protected()
            assert held in hosts.queue.accepted

    play(scenario)


def test_what_was_kept_does_not_outlive_the_state_that_sent_it(tmp_path: Path) -> None:
    """The link is cut, but not what the hypervisors have between them."""

    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            hosts.cable.cut()
            await hosts.b.enters("alone")
            hosts.tap.put(named("of a state that is gone"))
            await hosts.until(lambda: not hosts.tap.waiting)
            checkpoint(hosts.b)
            hosts.tap.put(named("of the state that goes live"))
            await hosts.until(lambda: not hosts.tap.waiting)
            await hosts.fail_over()
            await hosts.until(lambda: hosts.uplink.sent)
            assert hosts.uplink.sent[0] == named("of the state that goes live")
            assert named("of a state that is gone") not in hosts.uplink.sent

    play(scenario)


def test_solo_ends_with_protect_and_a_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            await hosts.a.ask("solo")
            for host in (hosts.b, hosts.a):
                checkpoint(host)
            await settle()
            assert hosts.a.state == "solo"
            await hosts.a.ask("protect")
            for host in (hosts.b, hosts.a):
                checkpoint(host)
            await hosts.protected()

    play(scenario)


def test_a_checkpoint_lets_nothing_out_of_a_primary_that_has_yielded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            await hosts.held(named("held"))
            await hosts.fail_over()
            await hosts.a.enters("yielded")
            checkpoint(hosts.a)
            hosts.queue.put(named("later"))
            await hosts.until(lambda: hosts.queue.dropped == [1, 2])
            assert hosts.queue.accepted == []

    play(scenario)


def test_a_live_guest_is_not_stopped_by_what_its_hypervisor_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            tells(hosts.b, News.STOPPED)
            await hosts.fail_over()
            tells(hosts.b, News.LOST, News.STOPPED)
            hosts.tap.put(named("live"))
            await hosts.until(lambda: named("live") in hosts.uplink.sent)

    play(scenario)
