"""The command provider and the driver, with real processes."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop

from colo_bridge.checkpoint.coordinator import Coordinator, Outcome, Policy
from colo_bridge.checkpoint.providers import execute
from colo_bridge.checkpoint.providers.command import CommandProvider
from colo_bridge.checkpoint.providers.driver import Driver
from colo_bridge.checkpoint.providers.execute import LINE_LENGTH, OUTPUT_LINES
from colo_bridge.config import CheckpointConfig


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    return asyncio.run if request.param == "asyncio" else uvloop.run


def provider(*command: str, timeout: float = 10.0) -> CommandProvider:
    return CommandProvider("web", CheckpointConfig(command=command, timeout=timeout))


def shell(script: str, timeout: float = 10.0) -> CommandProvider:
    return provider("/bin/sh", "-c", script, timeout=timeout)


def is_gone(pid: int) -> bool:
    """Dead, or a zombie that somebody else has to wait for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_exit_status_decides(run):
    assert run(provider("/bin/true").checkpoint("content", {}))
    assert not run(provider("/bin/false").checkpoint("content", {}))


def test_a_command_copies_no_state():
    assert not provider("/bin/true").synchronises_state


def test_a_command_that_does_not_exist_has_failed(run, caplog):
    caplog.set_level(logging.INFO)
    assert not run(provider("/no/such/command").checkpoint("content", {}))
    assert "/no/such/command" in caplog.text


def test_the_command_sees_little_and_what_it_needs(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    seen = tmp_path / "seen"
    detail = {"connection": "10.77.0.1:40000 10.77.0.2:80; rm -rf /", "sequence": "7"}
    assert run(shell(f"env >{seen}").checkpoint("content", detail))
    variables = dict(line.split("=", 1) for line in seen.read_text().splitlines())
    assert variables["COLO_GUEST"] == "web"
    assert variables["COLO_REASON"] == "content"
    assert variables["COLO_CONNECTION"] == detail["connection"]
    assert variables["COLO_SEQUENCE"] == "7"
    assert set(variables) - {"PWD", "SHLVL", "_"} == {
        "PATH", "LANG", "COLO_GUEST", "COLO_REASON", "COLO_CONNECTION", "COLO_SEQUENCE",
    }  # fmt: skip


def test_arguments_are_not_read_by_a_shell(run, tmp_path):
    path = tmp_path / "$HOME; *"
    assert run(provider("/usr/bin/touch", str(path)).checkpoint("content", {}))
    assert path.exists()


def test_the_command_has_no_input_and_a_session_of_its_own(run, tmp_path):
    seen = tmp_path / "seen"
    assert run(shell(f"cat; ps -o sid= -p $$ >{seen}; echo $$ >>{seen}").checkpoint("content", {}))
    session, process = map(int, seen.read_text().split())
    assert session == process != os.getsid(0)


def test_ambient_capabilities_do_not_reach_the_command(run, tmp_path, caplog):
    """From a process that has CAP_NET_ADMIN as an ambient capability, and nothing because of its user."""
    caplog.set_level(logging.INFO)
    seen = tmp_path / "seen"
    body = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r});"
        "import asyncio; from colo_bridge.checkpoint.providers.command import CommandProvider as P;"
        "from colo_bridge.config import CheckpointConfig as C;"
        f"c = C(command=('/bin/cp', '/proc/self/status', {str(seen)!r}));"
        "assert asyncio.run(P('web', c).checkpoint('content', {}))"
    )
    ambient = ["--securebits=+noroot", "--inh-caps=-all,+net_admin", "--ambient-caps=+net_admin"]
    outer = ["/usr/bin/setpriv", *ambient, sys.executable, "-c", body]
    assert run(provider(*outer).checkpoint("content", {}))
    capabilities = dict(re.findall(r"^Cap(\w+):\t([0-9a-f]+)$", seen.read_text(), re.MULTILINE))
    assert {kind: int(capabilities[kind], 16) for kind in ("Inh", "Prm", "Eff", "Amb")} == dict.fromkeys(
        ("Inh", "Prm", "Eff", "Amb"), 0
    )


def test_on_time_out_the_whole_process_group_is_killed(run, tmp_path, caplog):
    pids = tmp_path / "pids"
    began = time.monotonic()
    slow = shell(f"sleep 60 & echo $$ $! >{pids}; trap '' TERM; wait; sleep 60", timeout=0.5)
    assert not run(slow.checkpoint("content", {}))
    assert time.monotonic() - began < 5
    wait_until(lambda: all(is_gone(int(pid)) for pid in pids.read_text().split()))
    assert "killed after 0.5 s" in caplog.text


@pytest.mark.parametrize("cancels", [False, True])
def test_what_cannot_be_killed_is_not_waited_for(run, tmp_path, monkeypatch, caplog, cancels):
    """As while the kernel does something for it that does not end."""
    caplog.set_level(logging.WARNING)
    pid_file = tmp_path / "pid"
    monkeypatch.setattr(execute, "KILL_SECONDS", 0.1)
    kill = os.killpg
    monkeypatch.setattr(execute.os, "killpg", lambda *_: None)

    async def scenario() -> None:
        script = f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60"
        attempt = asyncio.create_task(shell(script, timeout=60 if cancels else 1.0).checkpoint("content", {}))
        while not pid_file.exists():
            await asyncio.sleep(0.01)
        if cancels:
            attempt.cancel()
        await asyncio.wait([attempt])
        assert attempt.cancelled() if cancels else attempt.result() is False
        pid = int(pid_file.read_text())
        assert not is_gone(pid)
        assert f"checkpoint command: process {pid} does not end by SIGKILL: it is left behind" in caplog.text
        kill(pid, signal.SIGKILL)
        while f"checkpoint command: process {pid} has ended" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists()

    run(asyncio.wait_for(scenario(), 20))


def test_cancelling_kills_it_too(run, tmp_path):
    pid_file = tmp_path / "pid"

    async def cancelled() -> None:
        attempt = asyncio.create_task(
            shell(f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; sleep 60").checkpoint("content", {})
        )
        while not pid_file.exists():
            await asyncio.sleep(0.01)
        attempt.cancel()
        await asyncio.wait([attempt])
        assert attempt.cancelled()

    run(cancelled())
    wait_until(lambda: is_gone(int(pid_file.read_text())))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_command_does_not_outlive_a_daemon_that_is_killed(loop, tmp_path):
    pid_file = tmp_path / "pid"
    body = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r});"
        f"import {loop}; from colo_bridge.checkpoint.providers.command import CommandProvider as P;"
        "from colo_bridge.config import CheckpointConfig as C;"
        f"c = C(command=('/bin/sh', '-c', 'echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60'));"
        f"{loop}.run(P('web', c).checkpoint('content', {{}}))"
    )
    with subprocess.Popen([sys.executable, "-c", body]) as daemon:
        wait_until(pid_file.exists, 20.0)
        daemon.kill()
    wait_until(lambda: is_gone(int(pid_file.read_text())))


def test_output_is_logged_and_bounded(run, caplog):
    caplog.set_level(logging.INFO)
    script = f"yes 'a line' | head -n {OUTPUT_LINES + 50}; printf 'x%.0s' $(seq 200000); printf '\\033[2Jend'"
    assert run(shell(script).checkpoint("content", {}))
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("checkpoint command: a line") == OUTPUT_LINES
    assert "checkpoint command: 50 more lines of output left out" in lines
    assert max(map(len, lines)) < LINE_LENGTH + 50


def test_control_characters_do_not_reach_the_log(run, caplog):
    caplog.set_level(logging.INFO)
    assert run(provider("/usr/bin/printf", r"\033[2Jred\377").checkpoint("content", {}))
    assert "checkpoint command: ?[2Jred" in caplog.text


def test_a_process_left_behind_does_not_delay_the_end(run, tmp_path):
    pid_file = tmp_path / "pid"
    began = time.monotonic()
    assert run(shell(f"sleep 5 & echo $! >{pid_file}").checkpoint("content", {}))
    assert time.monotonic() - began < 4
    os.kill(int(pid_file.read_text()), 9)


def drive(run, command: CommandProvider, policy: Policy, until: int) -> tuple[Coordinator, list[Outcome]]:
    """Request one checkpoint and step until `until` outcomes were reported."""
    coordinator, outcomes = Coordinator(policy), []

    async def scenario() -> None:
        driver = Driver(coordinator, command, outcomes.append)
        coordinator.request("content", time.monotonic(), {"connection": "a"})
        while len(outcomes) < until:
            driver.step()
            await asyncio.sleep(0.005)
        await driver.close()

    run(asyncio.wait_for(scenario(), 20))
    return coordinator, outcomes


def test_the_driver_reports_success(run):
    coordinator, outcomes = drive(run, provider("/bin/true"), Policy(10, 1), 1)
    assert outcomes == [Outcome.DONE]
    assert coordinator.epoch == 1


def test_the_driver_tries_again_until_it_succeeds(run, tmp_path):
    script = f"echo x >>{tmp_path}/n; [ $(wc -l <{tmp_path}/n) -ge 3 ]"
    coordinator, outcomes = drive(run, shell(script), Policy(10, 0.01), 3)
    assert outcomes == [Outcome.FAILED, Outcome.FAILED, Outcome.DONE]
    assert coordinator.counters.requested == 1


def test_the_driver_stops_what_takes_too_long(run):
    _, outcomes = drive(run, shell("sleep 60", timeout=60), Policy(0.2, 10), 1)
    assert outcomes == [Outcome.TIMED_OUT]


def test_closing_the_driver_ends_the_command_without_a_report(run, tmp_path):
    pid_file, outcomes = tmp_path / "pid", []

    async def scenario() -> None:
        coordinator = Coordinator(Policy(10, 1))
        driver = Driver(
            coordinator, shell(f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; sleep 60"), outcomes.append
        )
        coordinator.request("content", time.monotonic())
        driver.step()
        while not pid_file.exists():
            await asyncio.sleep(0.01)
        await driver.close()

    run(scenario())
    assert outcomes == []
    wait_until(lambda: is_gone(int(pid_file.read_text())))
