"""Checkpoints by QEMU's machine protocol: real sockets and the real library, and a QEMU that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from colo_bridge.checkpoint.coordinator import Coordinator, Outcome, Policy, State
from colo_bridge.checkpoint.providers import monitor
from colo_bridge.checkpoint.providers.driver import Driver
from colo_bridge.checkpoint.providers.qmp import QmpProvider
from colo_bridge.config import CheckpointConfig
from tests.checkpoint.fake_qemu import FakeQemu

SECONDS = 15


class Rig:
    """Two QEMUs, the provider with its driver, and what its listener heard."""

    def __init__(self, directory: Path, policy: Policy, secondary: bool) -> None:
        self.primary, self.secondary = FakeQemu(directory / "primary.qmp"), FakeQemu(directory / "secondary.qmp")
        config = CheckpointConfig(
            provider="qmp",
            qmp_primary=str(self.primary.path),
            qmp_secondary=str(self.secondary.path) if secondary else "",
        )
        self.heard: list[str] = []
        self.outcomes: list[Outcome] = []
        self.provider = QmpProvider(config, self)
        self.coordinator = Coordinator(policy)
        self.driver = Driver(self.coordinator, self.provider, self.outcomes.append)

    def stopped(self, primary: bool) -> None:
        self.heard.append("primary stopped" if primary else "secondary stopped")

    def goes_on(self) -> None:
        self.heard.append("goes on")

    def paused(self) -> None:
        self.heard.append("paused")
        self.driver.paused()

    def resumed(self) -> None:
        self.heard.append("resumed")
        self.driver.resumed()

    def wanted(self, reason: str) -> None:
        self.heard.append(reason)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.driver.step()
            await asyncio.sleep(0.001)

    async def until_heard(self, *what: str) -> None:
        """And nothing else; what was heard is forgotten."""
        await self.until(lambda: len(self.heard) >= len(what))
        assert self.heard == list(what)
        self.heard.clear()

    async def until_phase(self, phase: str) -> None:
        await self.until(lambda: self.provider.phases()["primary"] == phase)

    async def begin_checkpoint(self) -> None:
        self.primary.stop()
        await self.until_heard("primary stopped", "paused")


@contextlib.asynccontextmanager
async def following(rig: Rig, *, both: bool = True) -> AsyncIterator[None]:
    await rig.primary.start()
    if both:
        await rig.secondary.start()
    tasks = [asyncio.create_task(work) for work in rig.provider.watch()]
    try:
        yield
        assert not any(task.done() for task in tasks), tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await rig.driver.close()
        await rig.primary.die()
        await rig.secondary.die()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(monitor, "LONGEST_PAUSE", 0.05)


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Rig]:
    """Play a scenario with replicas in COLO that are followed."""
    loop: Any = asyncio.run if request.param == "asyncio" else uvloop.run

    def playing(scenario: Callable[[Rig], Any], policy: Policy | None = None, *, secondary: bool = False) -> Rig:
        rig = Rig(tmp_path, policy or Policy(timeout=10.0, retry_interval=0.01), secondary)

        async def run() -> None:
            async with following(rig, both=secondary):
                await rig.until_heard("goes on", "start")
                await scenario(rig)

        loop(asyncio.wait_for(run(), SECONDS))
        return rig

    return playing


def test_a_checkpoint_is_asked_for_and_done_when_the_primary_goes_on(play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.driver.request("content")
        await rig.until(lambda: rig.primary.asked == 1)
        assert rig.coordinator.state is State.ASKED
        await rig.begin_checkpoint()
        assert rig.coordinator.state is State.PAUSED
        rig.primary.go_on()
        await rig.until_heard("resumed")
        assert rig.outcomes == [Outcome.DONE]
        assert rig.coordinator.state is State.IDLE

    rig = play(scenario)
    assert rig.provider.synchronises_state
    assert rig.primary.asked == 1


def test_a_hundred_checkpoints_are_told_in_order(play) -> None:
    async def scenario(rig: Rig) -> None:
        for number in range(1, 101):
            rig.driver.request("content")
            await rig.until(lambda asked=number: rig.primary.asked == asked)
            await rig.begin_checkpoint()
            rig.primary.go_on()
            await rig.until_heard("resumed")
        assert rig.coordinator.epoch == 100

    play(scenario)


def test_a_checkpoint_that_nobody_asked_for_is_one(play) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin_checkpoint()
        assert rig.coordinator.state is State.PAUSED
        rig.primary.go_on()
        await rig.until_heard("resumed")
        assert (rig.outcomes, rig.primary.asked) == ([Outcome.DONE], 0)
        assert rig.coordinator.counters.reasons == {"hypervisor": 1}

    play(scenario)


def test_a_checkpoint_under_way_is_not_asked_for_again(play) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin_checkpoint()
        rig.driver.request("content")
        rig.primary.go_on()
        await rig.until_heard("resumed")
        assert rig.coordinator.state is State.IDLE

    assert play(scenario).primary.asked == 0


@pytest.mark.parametrize("status", ["paused", "finish-migrate", "io-error"])
def test_an_operators_stop_and_cont_releases_nothing(play, status: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.primary.stop(status)
        await rig.until_heard("primary stopped", "goes on")
        rig.primary.go_on()
        await rig.until_heard("goes on")
        await rig.until_phase("colo")
        assert rig.outcomes == []
        await rig.begin_checkpoint()

    play(scenario)


def test_a_request_while_an_operator_has_stopped_the_guest_waits_for_cont(play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.primary.stop("paused")
        await rig.until_heard("primary stopped", "goes on")
        rig.driver.request("timeout")
        await asyncio.sleep(0.05)
        assert rig.primary.asked == 0
        rig.primary.go_on()
        await rig.until(lambda: rig.primary.asked == 1)

    play(scenario)


def test_a_primary_that_went_on_before_its_packets_were_read_has_made_no_checkpoint(play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.driver.request("content")
        await rig.until(lambda: rig.primary.asked == 1)
        before = time.time()
        await rig.begin_checkpoint()
        rig.primary.go_on(at=before)
        await rig.until_heard("goes on", "spoiled")
        await rig.until(lambda: rig.primary.asked == 2)
        await rig.begin_checkpoint()
        rig.primary.go_on()
        await rig.until_heard("resumed")
        assert (rig.outcomes, rig.provider.spoiled) == ([Outcome.DONE], 1)

    play(scenario)


def test_a_status_that_comes_after_the_guest_went_on_proves_nothing(play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.primary.event("STOP")
        rig.primary.event("RESUME")
        await rig.until_heard("primary stopped", "goes on", "spoiled")
        assert rig.outcomes == []

    play(scenario)


def test_a_status_that_is_about_a_later_pause_proves_nothing(play) -> None:
    async def scenario(rig: Rig) -> None:
        # An operator's stop and cont, and a checkpoint behind it, before QEMU can answer.
        rig.primary.event("STOP")
        rig.primary.event("RESUME", at=time.time() + 1)
        rig.primary.stop()
        await rig.until_heard("primary stopped", "goes on", "spoiled", "primary stopped", "paused")
        assert rig.outcomes == []

    play(scenario)


def test_an_event_without_a_time_proves_nothing(play) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin_checkpoint()
        rig.primary.go_on(at=0.0)
        await rig.until_heard("goes on", "spoiled")

    play(scenario)


@pytest.mark.parametrize("paused", [False, True])
def test_the_end_of_colo_is_a_state_and_the_next_beginning_is_noticed(play, paused: bool, caplog) -> None:
    async def scenario(rig: Rig) -> None:
        rig.driver.request("content")
        await rig.until(lambda: rig.primary.asked == 1)
        if paused:
            await rig.begin_checkpoint()
        rig.primary.exit()
        await rig.until_heard("goes on")
        assert rig.provider.phases() == {"primary": "exited"}
        await rig.until(lambda: rig.outcomes == [Outcome.FAILED])
        # Lost-heartbeat lets it run on alone.
        rig.primary.go_on()
        await asyncio.sleep(0.03)
        assert (rig.heard, rig.primary.asked, rig.outcomes) == ([], 1, [Outcome.FAILED])
        # Later it gets a new secondary.
        rig.primary.stop("finish-migrate")
        await rig.until_heard("primary stopped", "goes on")
        rig.primary.migration = "colo"
        rig.primary.go_on()
        await rig.until_heard("goes on", "goes on", "start")
        await rig.until(lambda: rig.primary.asked == 2)

    play(scenario)
    assert "the primary has left COLO: error" in caplog.text


@pytest.mark.parametrize("paused", [False, True])
def test_a_lost_connection_is_a_state_and_made_again(play, paused: bool, caplog) -> None:
    caplog.set_level(logging.INFO)

    async def scenario(rig: Rig) -> None:
        rig.driver.request("content")
        await rig.until(lambda: rig.primary.asked == 1)
        if paused:
            await rig.begin_checkpoint()
        await rig.primary.die()
        await rig.until_heard("goes on")
        assert rig.provider.phases() == {"primary": "offline"}
        await rig.until(lambda: rig.outcomes == [Outcome.FAILED])
        await asyncio.sleep(0.1)
        rig.primary.status = "running"
        await rig.primary.start()
        await rig.until_heard("goes on", "start")
        await rig.until(lambda: rig.primary.asked == 2)

    play(scenario)
    lost = [record for record in caplog.records if "no connection to the primary's QEMU" in record.getMessage()]
    # Once that it was lost, once that it cannot be made.
    assert 1 <= len(lost) <= 2
    assert all(record.levelno == logging.ERROR for record in lost)


def test_whoever_connects_in_the_middle_of_a_checkpoint_does_not_count_it(play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.primary.status = "colo"
        rig.primary.drop()
        await rig.until_heard("goes on", "primary stopped", "paused")
        rig.primary.go_on()
        await rig.until_heard("goes on", "spoiled")

    play(scenario)


def test_what_qemu_refuses_is_tried_again(play, caplog) -> None:
    async def scenario(rig: Rig) -> None:
        rig.primary.refuses.add("migrate-set-parameters")
        rig.driver.request("content")
        await rig.until(lambda: rig.outcomes == [Outcome.FAILED])
        rig.primary.refuses.clear()
        await rig.until(lambda: rig.primary.asked == 1)

    play(scenario)
    assert "checkpoint refused: the primary's QEMU refused migrate-set-parameters: not now" in caplog.text


def test_a_qemu_without_the_parameter_is_refused(play, caplog) -> None:
    async def scenario(rig: Rig) -> None:
        rig.primary.parameters.clear()
        rig.driver.request("content")
        await rig.until(lambda: rig.outcomes)

    play(scenario)
    assert "checkpoint refused: this QEMU knows no x-checkpoint-delay" in caplog.text


def test_a_qemu_that_does_not_answer_is_lost(play, monkeypatch, caplog) -> None:
    async def scenario(rig: Rig) -> None:
        monkeypatch.setattr(monitor, "ANSWER_SECONDS", 0.1)
        rig.primary.silent.add("query-status")
        rig.primary.stop()
        await rig.until_heard("primary stopped", "goes on")
        assert rig.provider.phases() == {"primary": "offline"}
        rig.primary.silent.clear()
        rig.primary.status = "running"
        await rig.until_heard("goes on", "start")

    play(scenario)
    assert "the primary's QEMU did not answer query-status within 0.1 s" in caplog.text


def test_a_qemu_that_answers_nothing_when_it_is_asked_is_lost(play, monkeypatch) -> None:
    async def scenario(rig: Rig) -> None:
        monkeypatch.setattr(monitor, "ANSWER_SECONDS", 0.1)
        rig.primary.silent.update(("query-status", "query-migrate-parameters"))
        rig.driver.request("content")
        await rig.until_phase("offline")

    play(scenario)


def test_what_happens_before_an_answer_comes_is_told_in_order(play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.primary.defers.add("query-status")
        for name in ("STOP", "RESUME", "STOP", "RESUME", "STOP"):
            rig.primary.event(name)
        await rig.until(lambda: rig.primary.deferred)
        rig.primary.catch_up()
        # It is asked about the second pause, and goes on after the third.
        await rig.until(lambda: rig.primary.deferred)
        rig.primary.event("RESUME")
        rig.primary.defers.clear()
        rig.primary.catch_up()
        await rig.until_heard(*3 * ("primary stopped", "goes on", "spoiled"))
        await rig.until_phase("colo")
        await rig.begin_checkpoint()

    play(scenario)


def test_a_checkpoint_that_does_not_begin_times_out_and_is_asked_for_again(play) -> None:
    async def scenario(rig: Rig) -> None:
        rig.driver.request("content")
        await rig.until(lambda: rig.primary.asked == 2)
        assert rig.outcomes == [Outcome.TIMED_OUT]

    play(scenario, Policy(timeout=0.05, retry_interval=0.01))


def test_a_pause_without_an_end_times_out_and_a_late_end_is_one(play) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin_checkpoint()
        await rig.until(lambda: rig.outcomes == [Outcome.NOT_RESUMED])
        await asyncio.sleep(0.05)
        assert rig.primary.asked == 0
        rig.primary.go_on()
        await rig.until_heard("resumed")
        assert rig.outcomes[-1] is Outcome.DONE
        assert rig.coordinator.state is State.IDLE

    play(scenario, Policy(timeout=10.0, retry_interval=0.01, pause_timeout=0.05))


# With the secondary's QEMU too.


@pytest.mark.parametrize("first", ["primary", "secondary"])
def test_whichever_replica_goes_on_first_the_primary_ends_it(play, first: str) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.until(lambda: rig.provider.phases()["secondary"] == "colo")
        rig.secondary.stop()
        await rig.until_heard("secondary stopped")
        await rig.begin_checkpoint()
        if first == "secondary":
            rig.secondary.go_on()
            await rig.until(lambda: rig.provider.phases()["secondary"] == "colo")
            assert rig.heard == []
        rig.primary.go_on()
        await rig.until_heard("resumed")
        rig.secondary.go_on()
        await rig.until(lambda: rig.provider.phases()["secondary"] == "colo")
        assert rig.heard == []

    play(scenario, secondary=True)


def test_a_secondary_that_is_heard_only_after_the_primary_has_gone_on_is_read_again(play) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.until(lambda: rig.provider.phases()["secondary"] == "colo")
        # Its events wait behind the answer to a question.
        rig.secondary.defers.add("query-migrate")
        rig.secondary.go_on()
        await rig.until(lambda: rig.secondary.deferred)
        rig.secondary.stop()
        await rig.begin_checkpoint()
        rig.secondary.go_on()
        rig.primary.go_on(at=time.time() + 1)
        await rig.until_heard("resumed")
        rig.secondary.defers.clear()
        rig.secondary.catch_up()
        await rig.until_heard("secondary stopped", "goes on")

    play(scenario, secondary=True)


def test_a_secondary_that_is_heard_before_the_primary_has_stopped_is_read_once_the_primary_goes_on(play) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.until(lambda: rig.provider.phases()["secondary"] == "colo")
        for _ in range(2):
            rig.secondary.stop()
            await rig.until(lambda: rig.provider.phases()["secondary"] == "paused")
            rig.secondary.go_on()
            await rig.until(lambda: rig.provider.phases()["secondary"] == "colo")
            await rig.until_heard("secondary stopped")
            await rig.begin_checkpoint()
            rig.primary.go_on()
            await rig.until_heard("resumed")

    play(scenario, secondary=True)


def test_a_secondary_that_dies_in_the_pause_leaves_it_to_the_primary(play) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.until(lambda: rig.provider.phases()["secondary"] == "colo")
        rig.secondary.stop()
        await rig.until_heard("secondary stopped")
        await rig.begin_checkpoint()
        await rig.secondary.die()
        await rig.until(lambda: rig.provider.phases() == {"primary": "paused", "secondary": "offline"})
        assert rig.heard == []
        rig.primary.exit()
        await rig.until_heard("goes on")

    play(scenario, secondary=True)


def test_a_secondary_that_is_stopped_by_an_operator_is_read_on(play) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.until(lambda: rig.provider.phases()["secondary"] == "colo")
        rig.secondary.stop("paused")
        await rig.until_heard("secondary stopped", "goes on")

    play(scenario, secondary=True)
