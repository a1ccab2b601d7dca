"""The secondary's QEMU, and what two hosts need of the primary's: real sockets and the real library, a fake QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from colo_bridge.checkpoint.providers import monitor
from colo_bridge.checkpoint.providers.qmp import QmpProvider
from colo_bridge.checkpoint.providers.standby import Standby
from colo_bridge.checkpoint.replica import News
from colo_bridge.config import CheckpointConfig
from tests.checkpoint.fake_qemu import FakeQemu

SECONDS = 15
NOTHING_ELSE = 0.03


class Heard:
    """Who is told of both kinds, in one list."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.qemu = FakeQemu(directory / "qmp")
        self.heard: list[object] = []
        config = CheckpointConfig(provider="qmp", qmp=str(self.qemu.path))
        self.primary = QmpProvider(config, self, self.heard.append)
        self.secondary = Standby(config, self.heard.append)
        self.side: QmpProvider | Standby = self.primary if kind == "primary" else self.secondary

    def stopped(self, primary: bool) -> None:
        self.heard.append("read to the end" if primary else "?")

    def goes_on(self) -> None:
        self.heard.append("goes on")

    def paused(self) -> None:
        self.heard.append("paused")

    def resumed(self) -> None:
        self.heard.append("resumed")

    def wanted(self, reason: str) -> None:
        self.heard.append(reason)

    async def until_heard(self, *what: object) -> None:
        """And nothing else; what was heard is forgotten."""
        await until(lambda: len(self.heard) >= len(what))
        assert self.heard == list(what)
        self.heard.clear()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def following(rig: Heard) -> AsyncIterator[None]:
    await rig.qemu.start()
    tasks = [asyncio.create_task(work) for work in rig.side.watch()]
    try:
        yield
        assert not any(task.done() for task in tasks), tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await rig.qemu.die()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(monitor, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(monitor, "ALONE_PAUSE", 0.01)


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Heard]:
    loop: Any = asyncio.run if request.param == "asyncio" else uvloop.run

    def playing(scenario: Callable[[Heard], Any], kind: str = "secondary") -> Heard:
        rig = Heard(tmp_path, kind)

        async def run() -> None:
            async with following(rig):
                if kind == "secondary":
                    await rig.until_heard(News.JOINED)
                else:
                    await rig.until_heard(News.JOINED, "goes on", "start")
                await scenario(rig)

        loop(asyncio.wait_for(run(), SECONDS))
        return rig

    return playing


def test_all_news_of_the_secondary_are_told_in_order(play) -> None:
    async def scenario(rig: Heard) -> None:
        rig.qemu.stop()
        await rig.until_heard(News.STOPPED, News.PAUSED)
        assert rig.secondary.phase == "paused"
        rig.qemu.go_on()
        await rig.until_heard(News.RESUMED)
        rig.qemu.exit()
        await rig.until_heard(News.LOST)
        assert rig.secondary.phase == "exited"

    play(scenario)


def test_what_the_primary_sent_is_read_before_its_stop_is_told_and_everything_else_is_told_first(play) -> None:
    async def scenario(rig: Heard) -> None:
        rig.qemu.stop()
        await rig.until_heard("read to the end", News.STOPPED, News.PAUSED, "paused")
        rig.qemu.go_on()
        await rig.until_heard(News.RESUMED, "resumed")
        rig.qemu.exit()
        await rig.until_heard(News.LOST, "goes on")

    play(scenario, "primary")


@pytest.mark.parametrize("kind", ["primary", "secondary"])
def test_a_fence_is_reached_behind_everything_that_was_said_before_its_answer(play, kind: str) -> None:
    async def scenario(rig: Heard) -> None:
        rig.side.fence(lambda: rig.heard.append("reached"))
        await rig.until_heard("reached")
        # While the fence is passed on these are on their way.
        rig.qemu.stop()
        rig.qemu.go_on()
        rig.side.fence(lambda: rig.heard.append("reached"))
        await until(lambda: "reached" in rig.heard)
        told = [news for news in rig.heard if isinstance(news, News)]
        assert told == [News.STOPPED, News.SPOILED]
        assert rig.heard[-1] == "reached"

    play(scenario, kind)


def test_a_fence_is_not_reached_without_an_answer(play, monkeypatch) -> None:
    async def scenario(rig: Heard) -> None:
        monkeypatch.setattr(monitor, "ANSWER_SECONDS", 0.1)
        rig.qemu.silent.add("query-status")
        rig.side.fence(lambda: rig.heard.append("reached"))
        await rig.until_heard(News.LOST)
        rig.qemu.silent.clear()
        await rig.until_heard(News.JOINED)
        await asyncio.sleep(NOTHING_ELSE)
        assert rig.heard == []

    play(scenario)


def test_a_secondary_is_told_that_it_is_alone(play, caplog) -> None:
    caplog.set_level(logging.INFO)

    async def scenario(rig: Heard) -> None:
        await rig.secondary.end_colo()
        assert rig.qemu.alone == 1

    play(scenario)
    assert "the secondary's QEMU was told that it is alone" in caplog.text


def test_a_secondary_whose_qemu_cannot_be_reached_is_told_when_it_can(play, caplog) -> None:
    async def scenario(rig: Heard) -> None:
        await rig.qemu.die()
        await rig.until_heard(News.LOST)
        telling = asyncio.create_task(rig.secondary.end_colo())
        await until(lambda: "it is to be told that it is alone" in caplog.text)
        await rig.qemu.start()
        await telling
        assert rig.qemu.alone == 1

    play(scenario)


def test_a_qemu_that_is_alone_already_may_refuse_to_hear_it(play, caplog) -> None:
    async def scenario(rig: Heard) -> None:
        rig.qemu.refuses.add("x-colo-lost-heartbeat")
        await rig.secondary.end_colo()

    play(scenario)
    assert "refused x-colo-lost-heartbeat" in caplog.text


def test_a_primary_is_told_that_it_is_alone_only_if_it_waits_for_the_secondary(play) -> None:
    async def scenario(rig: Heard) -> None:
        rig.primary.lost_heartbeat()
        await asyncio.sleep(NOTHING_ELSE)
        assert rig.qemu.alone == 0
        rig.qemu.stop()
        await until(lambda: "paused" in rig.heard)
        rig.primary.lost_heartbeat()
        rig.primary.lost_heartbeat()
        await until(lambda: rig.qemu.alone == 1)
        await until(lambda: rig.primary.phases() == {"primary": "exited"})
        rig.primary.lost_heartbeat()
        await asyncio.sleep(NOTHING_ELSE)
        assert rig.qemu.alone == 1

    play(scenario, "primary")


def test_a_primary_whose_secondary_has_gone_in_mid_run_is_told_as_well(play) -> None:
    async def scenario(rig: Heard) -> None:
        rig.qemu.exit()
        await until(lambda: rig.primary.phases() == {"primary": "exited"})
        rig.primary.lost_heartbeat()
        await until(lambda: rig.qemu.alone == 1)

    play(scenario, "primary")
