"""Both daemons of a guest whose hypervisors make the checkpoints: what belongs to which state of the replicas."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from colo_bridge.checkpoint.replica import News
from colo_bridge.daemon.checkpoints import Checkpoints
from tests.daemon import hosts as rig
from tests.daemon.hosts import TO_GUEST, Host, checkpoint, in_colo, named, play, settle, synchronised, tells
from tests.packets import read_tcp, tcp

pytestmark = pytest.mark.usefixtures("quickly")
quickly = rig.quickly


def test_until_the_first_checkpoint_everything_waits_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as hosts:
            held = await hosts.held(named("held"), tcp(seq=7, ack=1, payload=b"in mid-stream"))
            hosts.tap.put(named("held"))
            await hosts.until(lambda: hosts.a.counter("stale_packets") == 1)
            assert (hosts.a.state, hosts.b.state) == ("unsynchronised", "unsynchronised")
            assert hosts.a.status["checkpoint"]["reasons"] == {"link": 1}
            checkpoint(hosts.b, hosts.a)
            await hosts.released(*held)
            await hosts.protected()
            await hosts.both_send(tcp(seq=20, ack=1, payload=b"goes on"))

    play(scenario)


def test_after_a_checkpoint_the_numbers_are_the_primarys(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            await hosts.connect()
            checkpoint(hosts.b, hosts.a)
            await hosts.until(lambda: hosts.b.far.epoch.delivers["net0"])
            assert read_tcp(await hosts.client_sends(tcp(**TO_GUEST, seq=101, ack=1001, payload=b"?"))).ack == 1001
            await hosts.both_send(tcp(seq=1001, ack=102, payload=b"!"))

    play(scenario)


@pytest.mark.parametrize("news", [News.SPOILED, News.GOES_ON])
def test_a_secondary_that_loses_count_is_no_standby_until_the_next_checkpoint(tmp_path: Path, news: News) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            (held,) = await hosts.held(named("held"))
            tells(hosts.b, news)
            hosts.tap.put(named("held"))
            await hosts.until(lambda: hosts.b.counter("discarded_egress") == 1)
            await hosts.a.enters("unsynchronised")
            await hosts.b.enters("unsynchronised")
            assert held not in hosts.queue.accepted
            await hosts.aligned()
            checkpoint(hosts.b, hosts.a)
            await hosts.protected()
            assert held in hosts.queue.accepted

    play(scenario)


def test_a_secondary_whose_hypervisor_leaves_colo_is_lost_and_still_a_good_successor(tmp_path: Path) -> None:
    """No checkpoint can come that it does not know of, and nothing leaves the primary that it has not sent."""

    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            (held,) = await hosts.held(named("held"))
            tells(hosts.b, News.LOST)
            await hosts.a.enters("lost")
            await settle()
            assert (hosts.b.state, hosts.b.status["risks"]) == ("standby", [])
            assert held not in hosts.queue.accepted
            tells(hosts.b, News.JOINED)
            await hosts.aligned()
            checkpoint(hosts.b, hosts.a)
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
            await hosts.aligned()
            assert (hosts.a.state, held in hosts.queue.accepted) == ("unsynchronised", False)
            checkpoint(hosts.b, hosts.a)
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
            checkpoint(hosts.b, hosts.a)
            await settle()
            assert hosts.a.state == "solo"
            protect = asyncio.create_task(hosts.a.ask("protect"))
            await hosts.until(lambda: hosts.a.status["checkpoint"]["reasons"].get("protect"))
            assert not protect.done()
            checkpoint(hosts.b, hosts.a)
            assert (await protect)["state"] == "protected"

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


# The primary's own hypervisor.


def quits(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    """As it answered before, and does not any more."""
    answers(monkeypatch, True)
    host.daemon._protector._tick()
    answers(monkeypatch, False)
    tells(host, News.LOST)


def answers(monkeypatch: pytest.MonkeyPatch, does: bool) -> None:
    monkeypatch.setattr(Checkpoints, "hypervisor_answers", does)


def test_a_primary_whose_guest_is_gone_lets_the_secondary_take_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its daemon lives and the link is up, but it must not win the arbiter for a guest that is dead."""

    async def scenario() -> None:
        by_itself = 'on_primary_lost = "arbiter"\nprimary_timeout = 0.05'
        arbiter = '[arbiter]\ncommand = ["true"]'
        async with synchronised(tmp_path, a=arbiter, b=arbiter, link_b=by_itself) as hosts:
            await hosts.held(named("held"))
            quits(monkeypatch, hosts.a)
            await hosts.a.enters("closed")
            await hosts.b.enters("live")
            await hosts.a.enters("yielded")
            assert (hosts.queue.accepted, hosts.a.counter("arbiter_asked"), hosts.a.counter("solo")) == ([], 0, 0)

    play(scenario)


def test_a_primary_whose_guest_is_there_again_waits_for_the_secondary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            quits(monkeypatch, hosts.a)
            await hosts.a.enters("closed")
            await hosts.b.enters("alone")
            answers(monkeypatch, True)
            await hosts.a.enters("waiting")
            await hosts.b.enters("unsynchronised")
            tells(hosts.a, News.JOINED)
            await hosts.aligned()
            checkpoint(hosts.b, hosts.a)
            await hosts.protected()

    play(scenario)


def test_where_colo_has_ended_the_secondary_may_take_over_until_the_primary_goes_on_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with synchronised(tmp_path) as hosts:
            hosts.lose_patience(0.3)
            tells(hosts.a, News.LOST)
            await hosts.a.enters("lost")
            await settle()
            assert hosts.b.state == "standby"
            await hosts.a.enters("solo")
            await hosts.b.enters("unsynchronised")

    play(scenario)
