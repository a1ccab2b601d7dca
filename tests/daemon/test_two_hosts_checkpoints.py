"""For how long the primary's daemon tries a checkpoint: as long as somebody waits for it, and there is a secondary."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from colo_bridge.checkpoint.cause import Cause
from colo_bridge.cli.main import main
from tests.checkpoint.test_providers import is_gone
from tests.daemon import hosts as rig
from tests.daemon.hosts import Hosts, joined, named, play, settle

pytestmark = pytest.mark.usefixtures("quickly")
quickly = rig.quickly

CLOSED = 'on_secondary_lost = "closed"'


class Script:
    """A checkpoint's command that notes each run, and ends as its second part says."""

    def __init__(self, directory: Path, then: str, keys: str = "") -> None:
        self._runs = directory / "runs"
        command = json.dumps(["/bin/sh", "-c", f"echo $$ $COLO_REASON >>{self._runs}; {then}"])
        self.section = f"[checkpoint]\ncommand = {command}\nretry_interval = 0.01\n{keys}"

    @property
    def runs(self) -> list[list[str]]:
        """Of each the process and the reason."""
        return [line.split() for line in self._runs.read_text().splitlines()] if self._runs.exists() else []

    async def ran(self, hosts: Hosts, times: int) -> None:
        """So many times more."""
        wanted = len(self.runs) + times
        await hosts.a.until(lambda: len(self.runs) >= wanted)

    async def rests(self, hosts: Hosts) -> None:
        await hosts.a.until(lambda: hosts.a.status["checkpoint"]["state"] == "idle")
        before = self.runs
        await settle()
        assert self.runs == before


async def diverge(hosts: Hosts) -> None:
    hosts.queue.put(named("one"))
    hosts.tap.put(named("other"))
    await hosts.a.until(lambda: hosts.a.status["checkpoint"]["state"] != "idle")


@pytest.mark.parametrize("end", ["solo", "closed", "yielded"])
def test_what_was_asked_for_is_given_up_once_nobody_waits_for_it(tmp_path: Path, end: str) -> None:
    async def scenario() -> None:
        script = Script(tmp_path, "false")
        async with joined(tmp_path, sections=script.section, link_a=CLOSED) as hosts:
            await diverge(hosts)
            await script.ran(hosts, 3)
            match end:
                case "solo":
                    await hosts.a.ask("solo")
                case "closed":
                    hosts.lose_patience()
                    hosts.cable.cut()
                case "yielded":
                    await hosts.fail_over()
            await hosts.a.enters(end)
            await script.rests(hosts)
            checkpoints = hosts.a.status["checkpoints"]
            assert (checkpoints["withdrawn"], checkpoints["requested"]) == (1, 1)

    play(scenario)


def test_the_attempt_that_runs_is_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        script = Script(tmp_path, "sleep 60")
        async with joined(tmp_path, sections=script.section) as hosts:
            await diverge(hosts)
            await hosts.a.until(lambda: script.runs)
            ((process, _),) = script.runs
            await hosts.a.ask("solo")
            await hosts.a.until(lambda: is_gone(int(process)))
            await script.rests(hosts)

    play(scenario)


@pytest.mark.parametrize(
    ("state", "said"), [("solo", "checkpoint failed"), ("protected", "checkpoint failed; it will be tried again")]
)
def test_what_an_operator_asks_for_while_all_passes_is_tried_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str, said: str
) -> None:
    async def scenario() -> None:
        script = Script(tmp_path, "false")
        async with joined(tmp_path, sections=script.section) as hosts:
            if state == "solo":
                await hosts.a.ask("solo")
            command = ["checkpoint", "--guest", "web", "--run-dir", hosts.a.config.run_dir]
            assert await asyncio.to_thread(main, command) == 1
            assert capsys.readouterr().out == f"{said}\n"
            if state == "solo":
                await script.rests(hosts)
                assert len(script.runs) == 1
            else:
                await script.ran(hosts, 1)

    play(scenario)


def test_what_is_wanted_before_the_guest_is_known_to_be_back_is_asked_for(tmp_path: Path) -> None:
    """The epochs may be in line again sooner than anybody looks after the guest."""

    async def scenario() -> None:
        script = Script(tmp_path, "true")
        async with joined(tmp_path, sections=script.section) as hosts:
            protector = hosts.a.daemon._protector
            protector.secondary_lost("the replicas are no longer in COLO")
            protector._perform(protector.membership.guest_lost("it does not answer", time.monotonic()))
            assert hosts.a.state == "closed"
            protector.checkpoint_wanted(Cause.START)
            await hosts.a.until(lambda: [reason for _, reason in script.runs] == ["start"])

    play(scenario)


def test_while_all_passes_nothing_is_asked_for_because_the_last_one_was_long_ago(tmp_path: Path) -> None:
    async def scenario() -> None:
        script = Script(tmp_path, "true", "period = 0.02")
        async with joined(tmp_path, sections=script.section) as hosts:
            await script.ran(hosts, 2)
            await hosts.a.ask("solo")
            await script.rests(hosts)
            # Back to comparing, where no checkpoint is needed for that.
            hosts.cable.cut()
            await hosts.a.ask("resume")
            hosts.cable.mend()
            await hosts.protected()
            await script.ran(hosts, 2)
            assert script.runs[-1][1] == "period"

    play(scenario)
