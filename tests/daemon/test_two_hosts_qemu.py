"""Both daemons with a QEMU each that does as it is told: from its machine protocol to what leaves and what is said."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.checkpoint.providers import monitor
from colo_bridge.daemon import secondary
from colo_bridge.errors import PeerError
from tests.checkpoint.fake_qemu import FakeQemu
from tests.daemon import hosts as rig
from tests.daemon.hosts import TO_GUEST, Hosts, free_port, named, play, settle, two_hosts
from tests.packets import read_tcp, tcp

pytestmark = pytest.mark.usefixtures("quickly", "at_once")
quickly = rig.quickly


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(monitor, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(monitor, "ALONE_PAUSE", 0.01)


class Pair:
    """Two hosts and their QEMUs."""

    def __init__(self, hosts: Hosts, primary: FakeQemu, secondary: FakeQemu) -> None:
        self.hosts = hosts
        self.primary, self.secondary = primary, secondary

    def phases(self) -> tuple[str, str]:
        return self.hosts.a.status["checkpoint"]["replicas"]["primary"], self.hosts.b.status["replica"]

    async def stop(self) -> None:
        """A checkpoint begins."""
        self.secondary.stop()
        self.primary.stop()
        await self.hosts.until(lambda: self.phases() == ("paused", "paused"))

    async def checkpoint(self) -> None:
        await self.stop()
        self.secondary.go_on()
        self.primary.go_on()
        await self.hosts.until(lambda: self.phases() == ("colo", "colo"))

    async def heard(self) -> None:
        """All that the primary's QEMU has said until now."""
        reached: list[bool] = []
        self.hosts.a.daemon._protector.comparison.checkpoints.fence(lambda: reached.append(True))
        await self.hosts.until(lambda: reached)

    async def asked(self, times: int) -> None:
        await self.hosts.until(lambda: self.primary.asked >= times)


@contextlib.asynccontextmanager
async def in_colo(directory: Path, checkpoint: str = "", **options: Any) -> AsyncIterator[Pair]:
    """Protected."""
    qemus = [FakeQemu(directory / f"{name}.qmp") for name in ("a", "b")]
    of_a, of_b = (f'[checkpoint]\nprovider = "qmp"\nqmp = "{qemu.path}"\n{checkpoint}' for qemu in qemus)
    async with two_hosts(directory, a=of_a, b=of_b, **options) as hosts:
        pair = Pair(hosts, *qemus)
        for qemu, host in zip(qemus, (hosts.a, hosts.b), strict=True):
            await qemu.start()
            await host.start()
        await pair.asked(1)
        await pair.checkpoint()
        await hosts.protected()
        try:
            yield pair
        finally:
            for qemu in qemus:
                await qemu.die()


def test_what_diverges_leaves_with_the_checkpoint_that_is_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as pair:
            hosts = pair.hosts
            held = await hosts.held(named("one"))
            hosts.tap.put(named("other"))
            await pair.asked(2)
            await pair.checkpoint()
            await hosts.released(*held)
            await hosts.both_send(named("the same"))
            assert (hosts.a.status["epoch"], hosts.b.status["epoch"]) == (2, 2)

    play(scenario)


def test_a_checkpoint_that_the_secondary_cannot_use_is_followed_by_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as pair:
            # It went on before its daemon could ask why it stopped.
            pair.secondary.event("STOP")
            pair.secondary.event("RESUME")
            pair.primary.stop()
            await pair.hosts.until(lambda: pair.phases() == ("paused", "colo"))
            pair.primary.go_on()
            await pair.hosts.a.enters("unsynchronised")
            await pair.asked(2)
            await pair.checkpoint()
            await pair.hosts.protected()
            await pair.hosts.both_send(named("the same"))

    play(scenario)


def test_a_daemon_that_loses_its_qemu_and_finds_it_again_needs_another_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as pair:
            for qemu in (pair.primary, pair.secondary):
                asked = pair.primary.asked
                qemu.drop()
                await pair.asked(asked + 1)
                await pair.checkpoint()
                await pair.hosts.protected()

    play(scenario)


@pytest.mark.parametrize("stands_still", [False, True])
def test_without_the_secondarys_qemu_the_primary_goes_on_alone_and_is_told_so_if_it_waits(
    tmp_path: Path, stands_still: bool
) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path, link="secondary_timeout = 1.0") as pair:
            held = await pair.hosts.held(named("held"))
            if stands_still:
                await pair.stop()
            await pair.secondary.die()
            await pair.hosts.a.enters("solo")
            await pair.hosts.released(*held)
            await pair.hosts.until(lambda: pair.primary.alone == stands_still)

    play(scenario)


def test_a_pause_that_nobody_ends_is_the_loss_of_the_secondary(tmp_path: Path) -> None:
    async def scenario() -> None:
        timing = "pause_timeout = 0.1\nretry_interval = 0.05"
        async with in_colo(tmp_path, timing, link="secondary_timeout = 1.0") as pair:
            held = await pair.hosts.held(named("held"))
            await pair.stop()
            await pair.hosts.a.enters("unsynchronised")
            assert not set(held) & set(pair.hosts.queue.accepted)
            await pair.hosts.a.enters("solo")
            await pair.hosts.until(lambda: pair.primary.alone)
            await pair.hosts.released(*held)

    play(scenario)


def test_a_pause_that_begins_once_all_passes_is_ended_as_well(tmp_path: Path) -> None:
    async def scenario() -> None:
        timing = "pause_timeout = 0.1\nretry_interval = 0.05"
        async with in_colo(tmp_path, timing) as pair:
            await pair.hosts.a.ask("solo")
            assert pair.primary.alone == 0
            await pair.stop()
            await pair.hosts.until(lambda: pair.primary.alone)

    play(scenario)


def test_a_secondary_without_its_qemu_does_not_go_live(tmp_path: Path) -> None:
    """Whoever wants it to; and not with another guest, unless that is accepted."""

    async def scenario() -> None:
        by_itself = 'on_primary_lost = "arbiter"\nprimary_timeout = 0.05'
        arbiter = '[arbiter]\ncommand = ["true"]'
        async with in_colo(tmp_path, sections=arbiter, link_b=by_itself) as pair:
            b = pair.hosts.b
            await pair.secondary.die()
            await b.enters("unsynchronised")
            pair.hosts.cable.cut()
            await b.enters("alone")
            for words in ({}, {"fenced": True, "accept_loss": True}):
                with pytest.raises(PeerError, match=r"this side's QEMU does not answer.*see that it runs"):
                    await b.ask("failover", **words)
            pair.secondary.migration = ""
            await pair.secondary.start()
            await pair.hosts.until(lambda: b.status["replica"] == "running")
            await b.until(lambda: "there again" in b.status["reason"])
            await settle()
            assert (b.state, b.counter("arbiter_asked")) == ("alone", 0)
            with pytest.raises(PeerError, match="the replicas were not synchronised"):
                await b.ask("failover")
            assert (await b.ask("failover", accept_loss=True))["done"]

    play(scenario)


def test_a_daemon_that_has_not_reached_its_qemu_yet_does_not_go_live(tmp_path: Path) -> None:
    async def scenario() -> None:
        qemu = FakeQemu(tmp_path / "b.qmp")
        follows = f'[checkpoint]\nprovider = "qmp"\nqmp = "{qemu.path}"'
        async with two_hosts(tmp_path, sections=follows) as hosts:
            await hosts.b.start()
            with pytest.raises(PeerError, match="this side's QEMU does not answer"):
                await hosts.fail_over()
            await qemu.start()
            await hosts.b.until(lambda: hosts.b.status["replica"] != "offline")
            assert (await hosts.fail_over())["done"]
            await qemu.die()

    play(scenario)


def test_a_checkpoint_that_does_not_begin_is_asked_for_as_long_as_the_secondary_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        timing, link = "timeout = 0.1\nretry_interval = 0.05", 'secondary_timeout = 1.0\non_secondary_lost = "closed"'
        async with in_colo(tmp_path, timing, link=link) as pair:
            hosts = pair.hosts
            await hosts.held(named("one"))
            hosts.tap.put(named("other"))
            await hosts.a.enters("closed")
            await pair.asked(pair.primary.asked + 2)
            await pair.checkpoint()
            await hosts.protected()

    play(scenario)


def test_what_protect_asks_for_is_tried_until_it_is_done(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path, "timeout = 0.1\nretry_interval = 0.05") as pair:
            await pair.hosts.a.ask("solo")
            protecting = asyncio.create_task(pair.hosts.a.ask("protect"))
            await pair.asked(pair.primary.asked + 3)
            assert pair.hosts.a.state == "solo"
            await pair.checkpoint()
            assert (await protecting)["done"]
            await pair.hosts.protected()

    play(scenario)


@pytest.mark.parametrize("end", ["lost", "solo"])
def test_what_protect_asks_for_is_given_up_with_its_secondary_or_by_the_operator(tmp_path: Path, end: str) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path, "timeout = 0.05\nretry_interval = 0.01") as pair:
            hosts = pair.hosts
            await hosts.a.ask("solo")
            protecting = asyncio.create_task(hosts.a.ask("protect"))
            await pair.asked(pair.primary.asked + 2)
            if end == "lost":
                hosts.cable.cut()
            else:
                await hosts.a.ask("solo")
            await hosts.a.until(lambda: hosts.a.status["checkpoint"]["state"] == "idle")
            asked = pair.primary.asked
            await settle()
            assert (hosts.a.state, pair.primary.asked) == ("solo", asked)
            assert not (await protecting)["done"]

    play(scenario)


@pytest.mark.parametrize("is_found", [False, True])
def test_a_pause_that_can_be_no_checkpoint_is_ended_as_well(tmp_path: Path, is_found: bool) -> None:
    async def scenario() -> None:
        timing = "pause_timeout = 0.1\nretry_interval = 0.05"
        async with in_colo(tmp_path, timing) as pair:
            await pair.hosts.a.ask("solo")
            primary = pair.primary
            if is_found:
                primary.status = "colo"
                primary.drop()
            else:
                # COLO was over, and is there again, which nobody has heard.
                primary.exit()
                await pair.hosts.until(lambda: primary.alone)
                primary.migration = "colo"
                primary.stop()
            told = primary.alone
            await pair.hosts.until(lambda: pair.phases()[0] == "doubtful")
            await pair.hosts.until(lambda: primary.alone > told)

    play(scenario)


def test_a_colo_that_ends_once_all_passes_is_acknowledged_so_that_another_can_begin(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as pair:
            await pair.hosts.a.ask("solo")
            pair.primary.exit()
            await pair.hosts.until(lambda: pair.primary.alone)
            # Another one begins, and ends likewise.
            pair.primary.stop("finish-migrate")
            pair.primary.go_on()
            await pair.heard()
            pair.primary.stop("finish-migrate")
            pair.primary.migration = "colo"
            pair.primary.go_on()
            await pair.hosts.until(lambda: pair.phases()[0] == "colo")
            pair.primary.exit()
            await pair.hosts.until(lambda: pair.primary.alone == 2)

    play(scenario)


def test_a_colo_that_ends_while_packets_are_held_is_not_acknowledged_before_they_leave(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as pair:
            pair.primary.exit()
            await pair.hosts.a.enters("lost")
            await settle()
            assert pair.primary.alone == 0
            await pair.hosts.a.ask("solo")
            await pair.hosts.until(lambda: pair.primary.alone)

    play(scenario)


def test_a_secondary_that_goes_live_tells_its_qemu_that_it_is_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as pair:
            await pair.stop()
            await pair.hosts.fail_over()
            await pair.hosts.until(lambda: pair.secondary.alone == 1)

    play(scenario)


@pytest.mark.parametrize(("has_loaded", "number"), [(True, 1001), (False, 5001)])
def test_a_checkpoint_that_ends_after_the_decision_to_go_live_tells_which_numbers_the_guest_has(
    tmp_path: Path, has_loaded: bool, number: int
) -> None:
    async def scenario() -> None:
        async with in_colo(tmp_path) as pair:
            hosts = pair.hosts
            await hosts.connect()
            await pair.stop()
            pair.secondary.has_loaded = has_loaded
            await hosts.fail_over()
            hosts.tap.put(tcp(seq=number, ack=101, payload=b"from the survivor"))
            await hosts.until(lambda: any(b"survivor" in frame for frame in hosts.uplink.sent))
            assert [read_tcp(frame).seq for frame in hosts.uplink.sent if b"survivor" in frame] == [1001]
            hosts.uplink.put(tcp(**TO_GUEST, seq=101, ack=1018))
            await hosts.until(lambda: read_tcp(hosts.tap.sent[-1]).ack == number + 17)

    play(scenario)


def test_a_guest_whose_qemu_cannot_be_told_that_it_is_alone_is_served_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(secondary, "_PATIENCE", 0.05)
    monkeypatch.setattr(monitor, "ANSWER_SECONDS", 0.2)

    async def scenario() -> None:
        port = free_port()
        async with in_colo(tmp_path, link_b=f'listen = "127.0.0.1:{port}"') as pair:
            hosts = pair.hosts
            pair.secondary.silent.add("x-colo-lost-heartbeat")
            await hosts.fail_over()
            hosts.tap.put(named("alone"))
            await hosts.until(lambda: named("alone") in hosts.uplink.sent)
            await hosts.until(lambda: f"the link listens at 127.0.0.1:{port}" in caplog.text)
            pair.secondary.silent.clear()
            await hosts.until(lambda: pair.secondary.alone == 1)
            await hosts.until(lambda: hosts.b.status["checkpoint"]["replicas"] == {"primary": "running"})

    play(scenario)
