"""The invariants of a guest on two hosts, each under its name, with both real daemons and a real link.

1. Output commit.                                     6. Nothing is lost silently.
7. A checkpoint orders everything.                    8. What must stay in the kernel stays.
9. Protection is proved, not assumed.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.checkpoint.replica import News
from colo_bridge.daemon import runner
from colo_bridge.kernel.fault import Fault
from tests.daemon import hosts as rig
from tests.daemon.hosts import (
    Host,
    Hosts,
    checkpoint,
    joined,
    named,
    play,
    settle,
    synchronised,
    tells,
    two_hosts,
)
from tests.packets import tcp

pytestmark = pytest.mark.usefixtures("quickly")
quickly = rig.quickly


def account(hosts: Hosts) -> dict[str, int]:
    """What became of the primary's packets, as the daemon counts them."""
    counters = hosts.a.status["counters"]
    names = ("released_packets", "passed_packets", "blocked_packets", "dropped_packets", "held_packets_now")
    return {name: counters[name] for name in names if counters[name]}


# 1. Output commit.


def test_invariant_1_what_leaves_solo_is_counted_apart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.lose_patience()
            await hosts.both_send(named("both"))
            await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.a.enters("solo")
            await hosts.released(*hosts.queue.put(*(named(f"alone {n}") for n in range(100))))
            assert account(hosts) == {"released_packets": 2, "passed_packets": 100}
            assert hosts.a.counter("released_uncompared_packets") == 1

    play(scenario)


def test_invariant_1_nothing_leaves_a_closed_side(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, link_a='on_secondary_lost = "closed"') as hosts:
            hosts.lose_patience()
            await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.a.enters("closed")
            ids = hosts.queue.put(*(named(f"blocked {n}") for n in range(100)))
            await hosts.until(lambda: hosts.queue.dropped == ids)
            assert hosts.queue.accepted == hosts.a.ports[0].forward.sent == []
            assert account(hosts) == {"blocked_packets": 100, "held_packets_now": 1}

    play(scenario)


def test_invariant_1_nothing_of_a_secondary_reaches_clients_before_it_is_live(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.lose_patience()
            hosts.tap.put(named("while it stands by"))
            hosts.cable.cut()
            await hosts.b.enters("alone")
            hosts.tap.put(named("while it is alone"))
            await hosts.a.enters("solo")
            assert hosts.uplink is None
            assert hosts.b.ports[0].times("go live") == 0

    play(scenario)


# 6. Nothing is lost silently.


def test_invariant_6_every_packet_of_the_secondary_is_counted(tmp_path: Path) -> None:
    """Compared, stale, or without a link."""

    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.lose_patience()
            for count, text in enumerate(("compared", "compared too"), 1):
                hosts.tap.put(named(text))
                await hosts.until(lambda count=count: hosts.a.counter("secondary_packets") == count)
            await hosts.a.ask("solo")
            hosts.tap.put(named("stale"))
            await hosts.until(lambda: hosts.a.counter("stale_packets") == 1)
            hosts.cable.cut()
            await hosts.b.enters("alone")
            hosts.tap.put(named("without a link"))
            await hosts.until(lambda: hosts.b.counter("link_unlinked_packets") == 1)

    play(scenario)


# 7. A checkpoint orders everything.


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


# 8. What must stay in the kernel stays.


def stopped(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the runner does with a host's ports once its daemon has stopped in order."""
    ports = host.ports[0]
    monkeypatch.setattr(runner, "_serve", lambda *_: None)
    monkeypatch.setattr(runner.interpreter, "prepare", lambda: None)
    before = len(ports.log)
    runner._live(host.daemon, lambda *_: ports, host.config, None)
    return [call for call in ports.log[before:] if call != "check"]


@pytest.mark.parametrize(
    ("options", "verb", "calls", "said"),
    [
        ({}, "", ["arm", "disarm"], "nothing of ours is left in the kernel"),
        ({}, "failover", ["arm"], "the diversion stays in force"),
        ({"sections": '[arbiter]\ncommand = ["true"]'}, "", ["arm"], "the diversion stays in force"),
        ({"sections": '[arbiter]\ncommand = ["true"]'}, "solo", ["arm", "disarm"], "nothing of ours is left"),
    ],
    ids=["the other side cannot be live", "it is live", "it may become live", "it cannot, this side has won"],
)
def test_invariant_8_a_clean_stop_opens_nothing_where_the_other_side_may_be_live(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    verb: str,
    calls: list[str],
    said: str,
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with joined(tmp_path, **options) as hosts:
            if verb == "failover":
                await hosts.fail_over()
                await hosts.a.enters("yielded")
            elif verb:
                await hosts.a.ask(verb)
                await hosts.a.enters(verb)
            await hosts.a.stop()
            assert stopped(hosts.a, monkeypatch) == calls
            assert said in caplog.records[-1].message

    play(scenario)


@pytest.mark.parametrize(
    ("is_live", "said"),
    [(False, "nothing leaves it: the redirect of its port stays"), (True, "clients do not reach it until the daemon")],
)
def test_invariant_8_a_clean_stop_of_a_secondary_says_that_its_redirect_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_live: bool, said: str
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            if is_live:
                await hosts.fail_over()
            await hosts.b.stop()
            stopped(hosts.b, monkeypatch)
            assert said in caplog.records[-1].message
            assert "nothing of ours is left" not in caplog.text

    play(scenario)


# 9. Protection is proved, not assumed.


def test_invariant_9_a_secondary_is_no_standby_of_a_primary_that_is_not_diverted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            ports = hosts.a.ports[0]
            ports.mends = False
            ports.faults.append(Fault("rule", "the rule is gone"))
            await hosts.a.enters("unprotected")
            await hosts.b.enters("unsynchronised")
            ports.mends = True
            await hosts.protected()

    play(scenario)


def test_invariant_9_a_restart_begins_unsynchronised(tmp_path: Path) -> None:
    """Either daemon's: what was open before passes and is counted, what opens afterwards is compared."""

    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            for count, host in enumerate((hosts.a, hosts.b), 1):
                await hosts.connect() if host is hosts.a else None
                await host.stop()
                await host.start()
                await hosts.protected()
                (old,) = hosts.queue.put(tcp(seq=1001 + count, ack=101, payload=b"old"))
                await hosts.released(old)
                assert hosts.a.counter("unsynchronised_packets") == count
                await hosts.both_send(named(f"new {count}"))

    play(scenario)


def test_invariant_9_who_was_not_compared_yet_lets_nothing_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_hosts(tmp_path) as hosts:
            await hosts.a.start()
            assert hosts.a.state == "waiting"
            held = await hosts.held(named("held"))
            await settle()
            assert not set(held) & set(hosts.queue.accepted)

    play(scenario)
