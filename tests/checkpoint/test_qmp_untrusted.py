"""A QEMU that says what it may not: that is its own fault, and ends nothing but that connection."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from colo_bridge.checkpoint.providers import monitor
from colo_bridge.checkpoint.providers.monitor import Monitor
from colo_bridge.checkpoint.providers.pauses import Pauses
from colo_bridge.checkpoint.providers.qmp_client import LINE_BYTES, WAITING
from colo_bridge.checkpoint.providers.qmp_message import Event, QemuError, event_of, in_one_line, parse, refusal_of
from colo_bridge.checkpoint.replica import News, Phase, Replica
from colo_bridge.errors import KernelError, PeerError
from tests.checkpoint.fake_qemu import FakeQemu

SECONDS = 20
LOOPS = (asyncio.run, uvloop.run)
LONGEST_LINE = 1_200
NONSENSE = [
    b"\0\xff\r\n",
    b"\r\n",
    b"[]\r\n",
    b"7\r\n",
    b"{}\r\n",
    b'{"id": []}\r\n',
    b'{"id": [], "return": {}}\r\n',
    b'{"id": "x", "error": 7}\r\n',
    b'{"id": "x", "error": {"class": "GenericError"}}\r\n',
    b'{"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}\r\n',
    b'{"event": 7, "timestamp": {"seconds": 1, "microseconds": 0}}\r\n',
    b'{"event": "RESUME"}\r\n',
    b'{"event": "RESUME", "timestamp": 7}\r\n',
    b'{"event": "RESUME", "timestamp": {"seconds": 1.5, "microseconds": 0}}\r\n',
    b'{"event": "RESUME", "timestamp": {"seconds": %s, "microseconds": 0}}\r\n' % (b"9" * 400),
    b'{"event": "RESUME", "timestamp": {"seconds": %s, "microseconds": 0}}\r\n' % (b"9" * 5_000),
    b"[" * 100_000 + b"\r\n",
    b"[" * 500 + b"]" * 500 + b"\r\n",
    b"x" * (LINE_BYTES + 1),
]


class Followed:
    """A monitor and its QEMU; `fails` is what the listener raises at the next news of that kind."""

    def __init__(self, directory: Path) -> None:
        self.qemu = FakeQemu(directory / "qmp")
        self.replica = Replica()
        self.heard: list[News] = []
        self.fails: dict[News, Exception] = {}
        self.monitor = Monitor("primary", str(self.qemu.path), self.replica, self._told)

    def _told(self, news: News) -> None:
        self.heard.append(news)
        if (error := self.fails.get(news)) is not None:
            raise error

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                assert not self.running.done(), self.running
                await asyncio.sleep(0.001)

    async def active(self) -> None:
        await self.until(lambda: self.replica.phase is Phase.ACTIVE)

    async def anew(self) -> None:
        """Another connection is made."""
        await self.until(lambda: News.LOST in self.heard)
        await self.active()

    async def checkpoint(self) -> None:
        self.heard.clear()
        self.qemu.stop()
        await self.until(lambda: self.heard == [News.STOPPED, News.PAUSED])
        self.qemu.go_on()
        await self.until(lambda: self.heard == [News.STOPPED, News.PAUSED, News.RESUMED])

    async def ended_by(self) -> BaseException | None:
        async with asyncio.timeout(SECONDS):
            await asyncio.wait([self.running])
        return self.running.exception()


@contextlib.asynccontextmanager
async def followed(directory: Path) -> AsyncIterator[Followed]:
    rig = Followed(directory)
    await rig.qemu.start()
    rig.running = asyncio.create_task(rig.monitor.run())
    try:
        yield rig
    finally:
        rig.running.cancel()
        await asyncio.wait([rig.running])
        await rig.qemu.die()


@pytest.fixture(autouse=True, scope="module")
def _quickly() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "FIRST_PAUSE", 0.002)
        patch.setattr(monitor, "LONGEST_PAUSE", 0.01)
        yield


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Followed], Awaitable[None]]], None]:
    def playing(scenario: Callable[[Followed], Awaitable[None]]) -> None:
        async def run() -> None:
            async with followed(tmp_path) as rig:
                await scenario(rig)

        request.param(run())

    return playing


def blames(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of lost connections: each in one line that is not long."""
    lines = [record.getMessage() for record in caplog.records if "no connection to the" in record.getMessage()]
    assert all(line.isprintable() and len(line) < LONGEST_LINE for line in lines), lines
    return lines


@pytest.mark.parametrize("words", NONSENSE, ids=range(len(NONSENSE)))
def test_whatever_qemu_says_only_that_connection_ends(play, caplog, words: bytes) -> None:
    async def scenario(rig: Followed) -> None:
        await rig.active()
        rig.qemu.say(words)
        await rig.anew()
        await rig.checkpoint()

    play(scenario)
    (line,) = blames(caplog)
    assert line.startswith("no connection to the primary's QEMU at /")
    assert line.endswith("; trying again")


@pytest.mark.parametrize("words", NONSENSE, ids=range(len(NONSENSE)))
def test_a_greeting_that_is_none_is_told_once(play, caplog, words: bytes) -> None:
    async def scenario(rig: Followed) -> None:
        greeting, rig.qemu.greeting = rig.qemu.greeting, words
        rig.qemu.drop()
        await rig.until(lambda: rig.qemu.connections > 3)
        rig.qemu.greeting = greeting
        await rig.active()
        await rig.checkpoint()

    play(scenario)
    assert len(blames(caplog)) == 1


def test_what_is_said_instead_of_the_first_answer_is_told(play, caplog) -> None:
    async def scenario(rig: Followed) -> None:
        rig.qemu.defers.add("query-status")
        await rig.until(lambda: rig.qemu.deferred)
        rig.qemu.say(b"nonsense\r\n")
        await rig.until(lambda: blames(caplog))
        rig.qemu.defers.clear()
        await rig.active()

    play(scenario)
    assert "QEMU said what is no message of its protocol: b'nonsense" in blames(caplog)[0]


@pytest.mark.parametrize("command", ["query-status", "query-migrate"])
@pytest.mark.parametrize("result", [7, [], None, {"status": 7}, {"status": ["\x1b[2J"] * 100}])
def test_an_answer_without_what_was_asked_for_ends_the_connection(play, caplog, command: str, result: Any) -> None:
    async def scenario(rig: Followed) -> None:
        await rig.active()
        rig.qemu.results[command] = result
        rig.qemu.event("STOP")
        rig.qemu.event("RESUME")
        await rig.until(lambda: News.LOST in rig.heard)
        rig.qemu.results.clear()
        await rig.active()
        await rig.checkpoint()

    play(scenario)
    assert blames(caplog)[0].endswith("the primary's QEMU gave an answer without status; trying again")


def test_a_qemu_that_says_more_than_can_be_looked_at_is_not_listened_to(play, caplog) -> None:
    async def scenario(rig: Followed) -> None:
        await rig.active()
        rig.qemu.silent.add("query-status")
        for _ in range(WAITING):
            rig.qemu.event("STOP")
            rig.qemu.event("RESUME")
        await rig.until(lambda: News.LOST in rig.heard)
        rig.qemu.silent.clear()
        await rig.active()
        await rig.checkpoint()

    play(scenario)
    assert any("QEMU says more than can be looked at" in line for line in blames(caplog))


def test_a_qemu_that_stops_and_goes_on_without_end_is_followed(play) -> None:
    """There is always something to be looked at before the answer to what is asked about it."""

    async def scenario(rig: Followed) -> None:
        await rig.active()
        for _ in range(20):
            rig.qemu.event("STOP")
            rig.qemu.event("RESUME")
        for _ in range(300):
            told = len(rig.heard)
            rig.qemu.event("STOP")
            rig.qemu.event("RESUME")
            await rig.until(lambda told=told: len(rig.heard) >= told + 2)
        await rig.until(lambda: len(rig.heard) == 1 + 2 * 320)
        assert rig.heard == [News.JOINED, *320 * (News.STOPPED, News.SPOILED)]
        await rig.checkpoint()

    play(scenario)


def test_the_end_of_colo_is_logged_once_however_often_it_is_said(play, caplog) -> None:
    async def scenario(rig: Followed) -> None:
        await rig.active()
        for _ in range(100):
            rig.qemu.exit("error")
        reached: list[bool] = []
        rig.monitor.fence(lambda: reached.append(True))
        await rig.until(lambda: reached)

    play(scenario)
    assert caplog.text.count("the primary has left COLO: error") == 1


# Whatever it says.

_names = st.sampled_from(["STOP", "RESUME", "COLO_EXIT", "RESET"])
_numbers = st.integers() | st.integers(0, 2_000_000_000) | st.just(10**400)
_anything = st.recursive(
    st.none() | st.booleans() | _numbers | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
_identifiers = st.sampled_from([f"colo-bridge#{number}" for number in range(1, 5)] + ["__qmp#00001"]) | _anything
_moments = st.fixed_dictionaries({"seconds": _numbers, "microseconds": _numbers}) | _anything
_errors = st.fixed_dictionaries({"class": st.text(), "desc": st.text()}) | _anything
_events = st.fixed_dictionaries({"event": _names | _anything, "timestamp": _moments}, optional={"data": _anything})
_answers = st.fixed_dictionaries({"id": _identifiers}, optional={"return": _anything, "error": _errors})
_lines = st.one_of(
    (_events | _answers | _anything).map(lambda message: json.dumps(message).encode() + b"\r\n"),
    st.builds(lambda depth, end: b"[" * depth + b"]" * depth + end, st.integers(0, 3_000), st.just(b"\r\n")),
    st.builds(lambda depth: b'{"id": "x", "return": ' + b"[" * depth + b"]" * depth + b"}\r\n", st.integers(0, 3_000)),
    st.builds(lambda depth: b'{"event": "COLO_EXIT", "timestamp": {"seconds": 1, "microseconds": 1}, "data": '
              b'{"reason": ' + b"[" * depth + b"]" * depth + b"}}\r\n", st.integers(0, 3_000)),
    st.binary(max_size=50).map(lambda text: text + b"\n"),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(_lines, max_size=8), st.none() | _anything, st.booleans(), st.sampled_from(LOOPS))
def test_the_daemon_outlives_whatever_qemu_says(lines: list[bytes], result: Any, asked: bool, run: Any) -> None:
    """Answers, events and neither, in a row; what it answers to questions meanwhile; then it comes to its senses."""

    async def scenario(directory: Path) -> None:
        async with followed(directory) as rig:
            await rig.active()
            if asked:
                rig.qemu.results.update(dict.fromkeys(("query-status", "query-migrate"), result))
            for line in lines:
                rig.qemu.say(line)
                await asyncio.sleep(0)
            await asyncio.sleep(0.002)
            rig.qemu.results.clear()
            # Another QEMU: whatever this one's guest is taken to do, that begins anew.
            rig.qemu.drop()
            await rig.until(lambda: News.LOST in rig.heard)
            rig.qemu.migration = "colo"
            await rig.active()
            await rig.checkpoint()

    with tempfile.TemporaryDirectory() as directory:
        run(scenario(Path(directory)))


@given(st.binary(max_size=200) | _lines)
def test_what_is_no_message_is_told_so_and_everything_else_fits(line: bytes) -> None:
    try:
        message = parse(line)
    except QemuError as error:
        assert str(error).isprintable() and len(str(error)) < LONGEST_LINE
        return
    assert str(message).isprintable() or any(not name.isprintable() for name in message)
    assert len(str(message)) <= LONGEST_LINE
    if "event" in message:
        assert isinstance(event_of(message), Event)
    else:
        assert refusal_of(message) is None or in_one_line(refusal_of(message)) == refusal_of(message)


def test_what_a_message_means() -> None:
    stop = parse(b'{"event": "STOP", "timestamp": {"seconds": 2, "microseconds": 500000}}\r\n')
    assert event_of(stop) == Event("STOP", 2.5, "")
    unknown = parse(b'{"event": "STOP", "timestamp": {"seconds": -1, "microseconds": -1}}\r\n')
    assert event_of(unknown).at < 0
    end = parse(
        b'{"event": "COLO_EXIT", "timestamp": {"seconds": 2, "microseconds": 0}, "data": {"reason": "a\\nb"}}\r\n'
    )
    assert event_of(end).reason == "a b"
    assert refusal_of(parse(b'{"id": "x", "error": {"class": "GenericError", "desc": ""}}\r\n')) == ""
    assert refusal_of(parse(b'{"id": "x", "return": {}}\r\n')) is None


# What is no fault of QEMU's.


@pytest.mark.parametrize(
    "error", [ValueError("ours"), OSError("ours"), PeerError("ours"), KernelError("ours"), EOFError()]
)
@pytest.mark.parametrize("news", [News.JOINED, News.STOPPED, News.PAUSED, News.RESUMED])
def test_an_error_of_our_own_is_not_taken_for_qemus(play, caplog, error: Exception, news: News) -> None:
    async def scenario(rig: Followed) -> None:
        rig.fails[news] = error
        if news is not News.JOINED:
            await rig.active()
            rig.qemu.stop()
        if news is News.RESUMED:
            await rig.until(lambda: News.PAUSED in rig.heard)
            rig.qemu.go_on()
        assert await rig.ended_by() is error

    play(scenario)
    assert blames(caplog) == []


def test_an_error_of_our_own_behind_a_fence_is_not_taken_for_qemus_either(play, caplog) -> None:
    async def scenario(rig: Followed) -> None:
        await rig.active()
        error = ValueError("ours")

        def fail() -> None:
            raise error

        rig.monitor.fence(fail)
        assert await rig.ended_by() is error

    play(scenario)
    assert blames(caplog) == []


# When it is connected to again.


def test_connections_that_do_not_stand_are_made_ever_more_rarely() -> None:
    pauses = Pauses(0.1, 5.0)
    assert [pauses.ended(0.0) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    pauses.stands(10.0)
    assert pauses.ended(14.9) == 5.0
    pauses.stands(20.0)
    assert [pauses.ended(25.0), pauses.ended(99.0)] == [0.1, 0.2]


def test_a_qemu_that_talks_nonsense_after_each_greeting_is_not_connected_to_without_a_pause(play, monkeypatch) -> None:
    monkeypatch.setattr(monitor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(monitor, "LONGEST_PAUSE", 0.08)

    async def scenario(rig: Followed) -> None:
        times = []
        for number in range(1, 6):
            await rig.until(lambda number=number: rig.qemu.connections == number and rig.replica.phase is Phase.ACTIVE)
            times.append(time.monotonic())
            rig.qemu.say(b"[]\r\n")
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert all(gap >= pause for gap, pause in zip(gaps, (0.01, 0.02, 0.04, 0.08), strict=True)), gaps

    play(scenario)
