"""The arbiter's commands, with real processes: one after the other, with what they need to decide."""

import asyncio
import logging
import time
import tomllib
from pathlib import Path

import pytest
import uvloop

from colo_bridge import config
from colo_bridge.checkpoint.providers.execute import Command
from colo_bridge.daemon.arbiter import Arbiter
from colo_bridge.link.protocol.messages import Role
from colo_bridge.membership.actions import AskArbiter, Claim, GiveBack
from tests.checkpoint.test_providers import is_gone, wait_until
from tests.test_config_link import PRIMARY

TWO_HOSTS = Path(__file__).parents[2] / "docs" / "two-hosts.md"
ASK = AskArbiter(Claim.SOLO, "the secondary is lost")
RETURN = GiveBack("both replicas are compared")


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    return asyncio.run if request.param == "asyncio" else uvloop.run


class Asked:
    """An arbiter with shell scripts for commands, and what it has answered."""

    def __init__(self, command, give_back="", *, role=Role.PRIMARY, path="x", identity="host-a", timeout=10.0):
        section = {"command": ("/bin/sh", "-c", command, str(path)), "timeout": timeout}
        if give_back:
            section["give_back"] = ("/bin/sh", "-c", give_back, str(path))
        parsed = config.parse(PRIMARY)
        link = parsed.link.model_copy(update={"identity": identity})
        updated = parsed.model_copy(update={"arbiter": config.ArbiterConfig(**section), "link": link})
        self.answers = []
        self.arbiter = Arbiter(updated, role, self.answers.append)

    async def carry_out(self, *actions):
        """What is answered to these."""
        expected = len(self.answers) + sum(isinstance(action, AskArbiter) for action in actions)
        for action in actions:
            self.arbiter.carry_out(action)
        await asyncio.wait([self.arbiter._work])
        while len(self.answers) < expected:
            await asyncio.sleep(0)
        return self.answers


def test_there_is_one_where_a_command_is_configured():
    assert Asked("true").arbiter.exists
    assert not Arbiter(config.parse(PRIMARY), Role.PRIMARY, print).exists


@pytest.mark.parametrize(("command", "won"), [("exit 0", True), ("exit 1", False), ("kill -9 $$", False)])
def test_the_exit_status_decides(run, command, won):
    assert run(Asked(command).carry_out(ASK)) == [won]


def test_no_answer_in_time_is_a_no(run, caplog):
    began = time.monotonic()
    assert run(Asked("sleep 60", timeout=0.3).carry_out(ASK)) == [False]
    assert time.monotonic() - began < 5
    assert "arbiter.command killed after 0.3 s" in caplog.text


def test_a_bug_is_a_no(run, monkeypatch, caplog):
    async def fail(*_):
        raise ValueError("embedded null byte")

    asked = Asked("true", "true")

    async def scenario():
        with monkeypatch.context() as patch:
            patch.setattr(Command, "run", fail)
            assert await asked.carry_out(ASK, RETURN, ASK) == [False, False]
        assert (await asked.carry_out(ASK))[-1] is True

    run(scenario())
    assert "embedded null byte" in caplog.text


@pytest.mark.parametrize("role", list(Role))
def test_the_command_learns_who_asks_for_what_and_why(run, tmp_path, role):
    claim = Claim.SOLO if role is Role.PRIMARY else Claim.FAILOVER
    asked = Asked(f"env >{tmp_path}/asked", f"env >{tmp_path}/given", role=role)
    run(asked.carry_out(AskArbiter(claim, "why"), RETURN))
    for name, action, reason in (("asked", claim.value, "why"), ("given", "give-back", RETURN.reason)):
        variables = dict(line.split("=", 1) for line in (tmp_path / name).read_text().splitlines())
        own = {name: value for name, value in variables.items() if name.startswith("COLO_")}
        assert own == {
            "COLO_GUEST": "web",
            "COLO_ROLE": role.value,
            "COLO_IDENTITY": "host-a",
            "COLO_ACTION": action,
            "COLO_REASON": reason,
        }


def test_what_they_print_is_logged(run, caplog):
    caplog.set_level(logging.INFO)
    run(Asked("echo fenced", "echo free").carry_out(ASK, RETURN))
    assert "arbiter.command: fenced" in caplog.text
    assert "arbiter.give_back: free" in caplog.text


def test_all_is_done_in_order_and_never_at_once(run, tmp_path):
    script = f"echo $COLO_ACTION begins >>{tmp_path}/log; sleep 0.1; echo $COLO_ACTION ends >>{tmp_path}/log"
    assert run(Asked(script, script).carry_out(ASK, RETURN, ASK)) == [True, True]
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [f"{what} {how}" for what in ("solo", "give-back", "solo") for how in ("begins", "ends")]


def test_where_nothing_has_to_be_given_back_nothing_is_run(run, tmp_path):
    assert run(Asked(f"echo $COLO_ACTION >>{tmp_path}/log").carry_out(RETURN, ASK)) == [True]
    assert (tmp_path / "log").read_text() == "solo\n"


@pytest.mark.parametrize(("succeeds", "given"), [(True, ["1"]), (False, ["1", "3"])])
def test_a_question_waits_for_one_thing_that_is_given_back_or_two(run, tmp_path, succeeds, given):
    """What is wanted while the first one runs is replaced by what is wanted later, and left out if that succeeds."""
    log, begun, go_on = tmp_path / "log", tmp_path / "begun", tmp_path / "go_on"
    wait = f"echo $COLO_REASON >>{log}; touch {begun}; while [ ! -e {go_on} ]; do sleep 0.01; done"
    asked = Asked(f"echo asked >>{log}", f"{wait}; {'true' if succeeds else 'false'}")

    async def scenario():
        asked.arbiter.carry_out(GiveBack("1"))
        while not begun.exists():
            await asyncio.sleep(0.01)
        for reason in ("2", "3"):
            asked.arbiter.carry_out(GiveBack(reason))
        asked.arbiter.carry_out(ASK)
        go_on.touch()
        await asked.carry_out()
        assert log.read_text().split() == [*given, "asked"]

    run(asyncio.wait_for(scenario(), 20))


def test_nothing_is_given_back_again_before_something_was_asked_for(run, tmp_path):
    asked = Asked("false", f"echo $COLO_REASON >>{tmp_path}/log")

    async def scenario():
        for reason in ("1", "2"):
            await asked.carry_out(GiveBack(reason))
        await asked.carry_out(ASK)
        # Who is refused, or killed, may have won something all the same.
        for reason in ("3", "4"):
            await asked.carry_out(GiveBack(reason))

    run(scenario())
    assert (tmp_path / "log").read_text().split() == ["1", "3"]


def test_an_answer_may_ask_again_at_once(run):
    async def scenario():
        asked = Asked("true")
        questions = iter([ASK, ASK])

        def answered(won):
            asked.answers.append(won)
            for question in questions:
                asked.arbiter.carry_out(question)
                break

        asked.arbiter._answered = answered
        asked.arbiter.carry_out(ASK)
        while len(asked.answers) < 3:
            await asyncio.sleep(0.01)

    run(asyncio.wait_for(scenario(), 20))


def test_closing_kills_what_runs_and_nothing_is_answered(run, tmp_path):
    pid_file = tmp_path / "pid"
    asked = Asked(f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; sleep 60")

    async def scenario():
        asked.arbiter.carry_out(ASK)
        asked.arbiter.carry_out(ASK)
        while not pid_file.exists():
            await asyncio.sleep(0.01)
        await asked.arbiter.close()
        await asyncio.sleep(0.05)

    run(scenario())
    assert asked.answers == []
    wait_until(lambda: is_gone(int(pid_file.read_text())))


def documented():
    """The two scripts of the manual's test-and-set."""
    lines = TWO_HOSTS.read_text(encoding="utf-8").partition("    [arbiter]\n")[2].partition("\n\n")[0]
    section = tomllib.loads("\n".join(line.strip() for line in lines.splitlines()))
    assert section["command"][3] == section["give_back"][3] == "/shared/web"
    return section["command"][2], section["give_back"][2]


def test_the_documented_test_and_set_has_one_winner(run, tmp_path):
    """Both ask at once, again and again; what one holds the other can't free."""

    async def scenario():
        place = tmp_path / "right"
        sides = [Asked(*documented(), path=place, identity=name) for name in ("host-a", "host-b")]
        for _ in range(6):
            sides.reverse()
            await asyncio.gather(*(side.carry_out(ASK) for side in sides))
            loser, winner = sorted(sides, key=lambda side: side.answers[-1])
            assert (loser.answers[-1], winner.answers[-1]) == (False, True)
            await loser.carry_out(RETURN)
            assert (await winner.carry_out(ASK))[-1] is True
            assert (await loser.carry_out(ASK))[-1] is False
            await winner.carry_out(RETURN)
            assert (await loser.carry_out(ASK, RETURN))[-1] is True
            assert not place.is_symlink()

    run(scenario())
