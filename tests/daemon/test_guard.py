"""The guard: what it says of faults, what it counts, and what ends it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from colo_bridge.daemon import guard as guard_module
from colo_bridge.daemon.guard import Guard
from colo_bridge.errors import KernelError
from colo_bridge.kernel.fault import Fault
from tests.daemon.fakes import FakeProtection

SECONDS = 10
RULE = Fault("rule", "the rule is gone")
HOOK = Fault("hook", "the hook is off")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_INTERVAL", 0.001)


@pytest.fixture
def nic() -> Iterator[FakeProtection]:
    made = FakeProtection()
    yield made
    made.close()


def watch(nics: list[FakeProtection], *steps: Callable[[Guard], object]) -> Guard:
    """Run a guard; do each step and wait for a check that began after it."""
    guard = Guard([(f"net{number}", nic) for number, nic in enumerate(nics)])

    async def scenario() -> None:
        running = asyncio.create_task(guard.run())
        for step in steps:
            step(guard)
            seen = guard.checks
            while guard.checks < seen + 2 and not running.done():
                await asyncio.sleep(0.001)
        if running.done():
            running.result()
        running.cancel()

    try:
        asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    finally:
        guard.close()
    return guard


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


def nothing(_: Guard) -> None:
    """Only wait for a check."""


def test_all_in_force(nic: FakeProtection, caplog: pytest.LogCaptureFixture) -> None:
    nic.kernel = {"queue_dropped": 3}
    guard = watch([nic], nothing)
    assert guard.checks >= 2
    assert (guard.faults, guard.unprotected_checks, guard.kernel) == ((), 0, {"queue_dropped": 3})
    assert nic.times("mend") == 0
    assert errors(caplog) == []


def test_a_fault_is_said_once_counted_each_time_and_mended(
    nic: FakeProtection, caplog: pytest.LogCaptureFixture
) -> None:
    nic.mends = False
    nic.faults = [RULE]
    guard = watch([nic], nothing, nothing)
    assert guard.faults == (("net0", RULE),)
    assert guard.unprotected_checks == guard.checks >= 4
    assert nic.times("mend") >= 3
    assert errors(caplog) == ["UNPROTECTED: nic net0: rule: the rule is gone"]


def test_a_mended_fault_lasts_until_a_later_check_is_clean(
    nic: FakeProtection, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[object, ...]] = []
    mend = nic.mend

    def note_and_mend(_: object) -> None:
        seen.append(guard_of[0].faults)
        mend()

    guard_of: list[Guard] = []
    nic.mend = note_and_mend
    nic.faults = [HOOK]
    caplog.set_level(logging.INFO)
    guard = watch([nic], guard_of.append)
    assert seen == [(("net0", HOOK),)]
    assert (guard.faults, guard.unprotected_checks) == ((), 1)
    assert [record.message for record in caplog.records if "protected again" in record.message]


def test_a_fault_that_comes_back_is_said_again(nic: FakeProtection, caplog: pytest.LogCaptureFixture) -> None:
    watch([nic], lambda _: nic.faults.append(RULE), lambda _: nic.faults.append(RULE))
    assert len(errors(caplog)) == 2


def test_a_second_fault_is_said_beside_the_first(nic: FakeProtection, caplog: pytest.LogCaptureFixture) -> None:
    nic.mends = False
    guard = watch([nic], lambda _: nic.faults.append(RULE), lambda _: nic.faults.append(HOOK))
    assert {fault for _, fault in guard.faults} == {RULE, HOOK}
    assert len(errors(caplog)) == 2


def test_every_nic_is_looked_at_and_the_kernels_numbers_are_added_up(caplog: pytest.LogCaptureFixture) -> None:
    nics = [FakeProtection(RULE, mends=False), FakeProtection(HOOK, mends=False)]
    for number, nic in enumerate(nics):
        nic.kernel = {"queue_dropped": number + 1, f"only_{number}": 5}
    guard = watch(nics, nothing)
    assert guard.faults == (("net0", RULE), ("net1", HOOK))
    assert guard.kernel == {"queue_dropped": 3, "only_0": 5, "only_1": 5}
    assert len(errors(caplog)) == 2
    for nic in nics:
        nic.close()


@pytest.mark.parametrize("error", [KernelError("gone"), OSError("gone")])
def test_counters_that_cannot_be_read_are_no_fault(nic: FakeProtection, error: Exception) -> None:
    def counters() -> dict[str, int]:
        raise error

    nic.counters = counters
    guard = watch([nic], nothing)
    assert (guard.faults, guard.kernel) == ((), {})


def test_a_check_that_the_system_refuses_is_a_fault(nic: FakeProtection) -> None:
    def refuse() -> list[Fault]:
        raise OSError("out of descriptors")

    nic.check = refuse
    guard = watch([nic], nothing)
    assert guard.faults == (("net0", Fault("check", "could not be made: out of descriptors")),)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KernelError("refused")])
def test_a_check_that_fails_unexpectedly_ends_the_guard_loudly(nic: FakeProtection, error: Exception) -> None:
    """Whoever awaits it hears of it: a guard that is silent would be taken for one that finds nothing."""
    nic.error = error
    with pytest.raises(type(error)):
        watch([nic], nothing)


def test_checks_run_in_a_thread_of_their_own(nic: FakeProtection) -> None:
    threads: set[str] = set()
    nic.check = lambda: threads.add(threading.current_thread().name) or []
    watch([nic], nothing)
    assert len(threads) == 1
    assert threads.pop().startswith("guard")


def test_close_waits_for_a_check_under_way(nic: FakeProtection) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def check() -> list[Fault]:
        begun.set()
        go_on.wait(SECONDS)
        ended.set()
        return []

    nic.check = check
    guard = Guard([("net0", nic)])

    async def scenario() -> None:
        running = asyncio.create_task(guard.run())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        running.cancel()
        threading.Timer(0.02, go_on.set).start()
        guard.close()

    asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    assert ended.is_set()


class FakeMonitor:
    """Tells what a test puts into `changes`."""

    def __init__(self) -> None:
        self.changes: list[set[str] | None] = []
        self._here, self._there = socket.socketpair()

    def tell(self, names: set[str] | None) -> None:
        self.changes.append(names)
        self._there.send(b"!")

    def fileno(self) -> int:
        return self._here.fileno()

    def read(self) -> set[str] | None:
        self._here.recv(1)
        return self.changes.pop(0)

    def close(self) -> None:
        self._here.close()
        self._there.close()


def follow(monkeypatch: pytest.MonkeyPatch, nic: FakeProtection, *changes: set[str] | None, mended: list[int]) -> Guard:
    """Run a guard that checks no more than once on its own, and tell it of changes."""
    monkeypatch.setattr(guard_module, "_INTERVAL", SECONDS)
    monitor = FakeMonitor()
    monkeypatch.setattr(guard_module, "LinkMonitor", lambda: monitor)
    guard = Guard([("net0", nic)], lambda: mended.append(nic.times("mend_devices")))

    async def scenario() -> None:
        tasks = [asyncio.create_task(work) for work in (guard.run(), guard.follow_devices())]
        while not guard.checks:
            await asyncio.sleep(0.001)
        nic.faults = [RULE]
        for names in changes:
            monitor.tell(names)
        await asyncio.wait(tasks, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()

    try:
        asyncio.run(asyncio.wait_for(scenario(), SECONDS))
    finally:
        guard.close()
    return guard


@pytest.mark.parametrize("names", [{"p0"}, {"x0", "p0"}, None])
def test_a_change_of_a_device_is_mended_said_and_counted_and_checked_at_once(
    nic: FakeProtection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, names: set[str] | None
) -> None:
    mended: list[int] = []
    guard = follow(monkeypatch, nic, names, mended=mended)
    assert (guard.checks, guard.faults, guard.unprotected_checks) == (2, (), 1)
    assert mended == [1]
    assert errors(caplog) == ["UNPROTECTED: nic net0: rule: the rule is gone"]


def test_a_change_of_a_device_that_is_not_ours_is_nothing(nic: FakeProtection, monkeypatch: pytest.MonkeyPatch) -> None:
    mended: list[int] = []
    guard = follow(monkeypatch, nic, {"x0"}, {"x1"}, mended=mended)
    assert (guard.checks, nic.times("mend_devices"), mended) == (1, 0, [])


def test_what_the_system_refuses_for_a_while_ends_nothing(nic: FakeProtection, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        nic.log.append("refused")
        raise OSError("out of descriptors")

    nic.mend = nic.mend_devices = refuse
    guard = follow(monkeypatch, nic, {"p0"}, mended=[])
    assert nic.times("refused") == 2
    assert guard.faults == (("net0", RULE),)


def test_a_look_at_devices_that_fails_unexpectedly_ends_the_guard_loudly(
    nic: FakeProtection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[Fault]:
        raise RuntimeError("a bug")

    nic.mend_devices = fail
    with pytest.raises(RuntimeError):
        follow(monkeypatch, nic, {"p0"}, mended=[])
