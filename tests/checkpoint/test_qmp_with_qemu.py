"""The connection to a real QEMU, which has no guest: it stops and goes on, refuses, dies and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from qemu.qmp import QMPClient

from colo_bridge.checkpoint.providers import monitor
from colo_bridge.checkpoint.providers.monitor import Monitor
from colo_bridge.checkpoint.replica import News, Replica
from colo_bridge.errors import PeerError
from tests import qemu

SECONDS = 20


class Followed:
    """A QEMU with two sockets, one for the monitor under test and one for its operator."""

    def __init__(self, directory: Path) -> None:
        self.path, self._operators = directory / "qmp", directory / "operator"
        self.news: list[News] = []
        self.replica = Replica()
        self.monitor = Monitor("primary", str(self.path), self.replica, self.news.append)

    def running(self) -> contextlib.AbstractContextManager[Any]:
        sockets = (f"unix:{path},server=on,wait=off" for path in (self.path, self._operators))
        return qemu.running(*(word for socket in sockets for word in ("-qmp", socket)))

    async def operator(self, *commands: str) -> None:
        client = QMPClient()
        await client.connect(str(self._operators))
        for command in commands:
            await client.execute(command)
        await client.disconnect()

    async def until_phase(self, phase: str) -> None:
        while self.replica.phase.value != phase:
            await asyncio.sleep(0.005)

    async def until_news(self, *news: News) -> None:
        while len(self.news) < len(news):
            await asyncio.sleep(0.005)
        assert self.news == list(news)
        self.news.clear()


@contextlib.asynccontextmanager
async def following(followed: Followed) -> AsyncIterator[None]:
    task = asyncio.create_task(followed.monitor.run())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    loop: Any = asyncio.run if request.param == "asyncio" else uvloop.run

    def playing(scenario: Callable[[Followed], Any]) -> None:
        followed = Followed(tmp_path)

        async def run() -> None:
            async with following(followed):
                await scenario(followed)

        loop(asyncio.wait_for(run(), SECONDS))

    return playing


def test_an_operators_stop_and_cont_are_no_checkpoint(play) -> None:
    async def scenario(followed: Followed) -> None:
        with followed.running():
            await followed.until_phase("running")
            for _ in range(3):
                await followed.operator("stop")
                await followed.until_news(News.STOPPED, News.GOES_ON)
                await followed.until_phase("halted")
                await followed.operator("cont")
                await followed.until_news(News.GOES_ON)
                await followed.until_phase("running")

    play(scenario)


def test_a_qemu_that_dies_is_followed_again_when_it_is_back(play, caplog) -> None:
    caplog.set_level(logging.INFO)

    async def scenario(followed: Followed) -> None:
        with pytest.raises(AssertionError, match="QEMU ended by itself"), followed.running() as process:
            await followed.until_phase("running")
            process.kill()
            process.wait()
            await followed.until_news(News.LOST)
        with followed.running():
            await followed.until_phase("running")
            assert followed.news == []

    play(scenario)
    assert caplog.text.count("the primary's QEMU is connected; the guest is running") == 2


def test_qemu_takes_what_begins_a_checkpoint_and_says_what_it_refuses(play) -> None:
    async def scenario(followed: Followed) -> None:
        with followed.running():
            await followed.until_phase("running")
            execute = followed.monitor.execute
            parameters: Any = await execute("query-migrate-parameters")
            delay = {"x-checkpoint-delay": parameters["x-checkpoint-delay"]}
            assert delay["x-checkpoint-delay"] > 0
            assert await execute("migrate-set-parameters", delay) == {}
            with pytest.raises(PeerError, match=r"QEMU refused migrate-set-parameters: .*x-checkpoint-delay"):
                await execute("migrate-set-parameters", {"x-checkpoint-delay": "soon"})

    play(scenario)


def test_a_socket_that_somebody_else_uses_is_said(play, monkeypatch, caplog) -> None:
    monkeypatch.setattr(monitor, "ANSWER_SECONDS", 0.3)

    async def scenario(followed: Followed) -> None:
        with followed.running():
            await followed.until_phase("running")
            second = Monitor("other", str(followed.path), Replica(), lambda _: None)
            task = asyncio.create_task(second.run())
            while "QEMU does not greet" not in caplog.text:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    play(scenario)
    assert "does somebody else use it?" in caplog.text
