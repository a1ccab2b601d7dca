"""Parts of the lab that need no namespaces: configuration, counters, files, processes, the story."""

from __future__ import annotations

import subprocess
import sys

import pytest

from colo_bridge import config
from colo_bridge.errors import OperatorError
from colo_bridge.lab import configuration, failover, files, process
from colo_bridge.lab.bench import _medians
from colo_bridge.lab.counters import add_up
from colo_bridge.lab.demo.story import Story, Timing, Transfer
from colo_bridge.lab.ftp import FtpMode
from colo_bridge.lab.layout import Mode
from colo_bridge.lab.options import Options
from colo_bridge.lab.shape import Shape


def test_settings_go_into_the_daemons_file() -> None:
    settings = ["queue.bypass_when_dead=true", "compare.timeout=1.5", "compare.tagged=pass", "nic.queue=3"]
    options = Options(backend="legacy", settings=(*settings, 'checkpoint.command=["/bin/true"]'))
    made = config.parse(configuration.make(options, *Shape.ONE_HOST.hosts))
    assert made.queue.bypass_when_dead
    assert made.compare.timeout == 1.5
    assert made.compare.tagged == "pass"
    assert made.nic[0].queue == 3
    assert made.firewall.backend == "legacy"
    assert made.checkpoint.command == ("/bin/true",)


@pytest.mark.parametrize("arbiter", [False, True])
def test_what_only_an_arbiter_could_tell_is_accepted_where_there_is_one(
    arbiter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Shape.TWO_HOSTS.hosts[1]
    made = config.parse(configuration.make(Options(shape=Shape.TWO_HOSTS, arbiter=arbiter), host))
    monkeypatch.setattr(failover.configuration, "current", lambda _: made)
    monkeypatch.setattr(failover, "ask", lambda path, verb, seconds, words: {verb: words})
    assert failover.fail_over(host) == {"failover": {"fenced": True, "accept_loss": arbiter}}


@pytest.mark.parametrize(
    "setting", ["nonsense", "queue.bypas=true", "queue.length=x", "role.x=1", "guest=a", "nic.queue"]
)
def test_a_wrong_setting_is_refused(setting: str) -> None:
    with pytest.raises(OperatorError):
        configuration.make(Options(settings=(setting,)), *Shape.ONE_HOST.hosts)


def test_counters_of_several_rounds() -> None:
    rounds = [{"sent": 2, "held_most": 9, "held_now": 1}, {"sent": 3, "held_most": 4, "held_now": 0}]
    assert add_up(rounds) == {"sent": 5, "held_most": 9, "held_now": 0}
    assert add_up([]) == {}


def test_files_are_as_long_and_as_told(tmp_path) -> None:
    file = tmp_path / "file"
    digest = files.make(file, 2_500_000, 7)
    assert file.stat().st_size == 2_500_000
    assert files.sha256(file) == digest == files.make(tmp_path / "again", 2_500_000, 7)
    before, after = files.flip_byte(file, 1_234_567)
    assert before != after
    assert file.read_bytes()[1_234_567] == after
    assert files.sha256(file) != digest


def test_more_room_than_there_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "_MEMORY", tmp_path)
    monkeypatch.setattr(files, "_DISK", tmp_path)
    with pytest.raises(OperatorError, match="GB free"):
        files.directory(10**18)


def test_files_in_use_are_not_touched(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "_MEMORY", tmp_path / "absent")
    monkeypatch.setattr(files, "_DISK", tmp_path)
    (files.directory(1) / "file").touch()
    with pytest.raises(OperatorError, match="another demo"):
        files.directory(1)
    files.remove()
    assert files.directory(1).is_dir()


def test_a_process_is_ended_politely_or_for_good() -> None:
    stubborn = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(); sys.stdout.flush(); signal.pause()"
    )
    child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout
    child.stdout.readline()
    found = process.identify(child.pid)
    assert found
    assert not process.wait_ended(found, 0.05)
    process.end(found, grace=0.05)
    assert not process.is_running(found)
    child.stdout.close()


def test_a_pid_used_again_is_another_process() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        found = process.identify(child.pid)
        assert found
        process.end(process.ProcessId(found.pid, found.started - 1))
        assert process.is_running(found)
    finally:
        child.kill()
        child.wait()
    assert process.identify(child.pid) is None


def test_medians_compare_the_modes_and_leave_wrong_rounds_out() -> None:
    runs = [_run("native", 10.0), _run("protected", 4.0), _run("native", 20.0), _run("protected", 6.0)]
    runs.append(_run("protected", 99.0) | {"correct": False})
    medians = _medians(runs)
    assert medians["get"] == {"native_gbps": 15.0, "protected_gbps": 5.0, "ratio": pytest.approx(1 / 3)}
    assert set(medians["rr"]) == {"native_p50_us", "protected_p50_us", "ratio"}
    assert _medians([])["put"]["ratio"] is None


def test_the_story_compares_transfers_and_fails_on_one_failure() -> None:
    story = Story()
    transfer = Transfer("get", "small.bin", 1_000_000_000, FtpMode.PASSIVE)
    story.timings += [Timing(transfer, Mode.NATIVE, 1.0), Timing(transfer, Mode.PROTECTED, 2.0)]
    (row,) = story.throughput()
    assert (row["transfer"], row["native_gbps"], row["ratio"]) == ("GET 1000 MB, passive", 8.0, 0.5)
    story.expect(1, "fine", True)
    assert story.ok
    story.expect(2, "not so", False, "why")
    assert not story.document()["ok"]


def _run(mode: str, gbps: float) -> dict[str, object]:
    return {"mode": mode, "get_gbps": gbps, "put_gbps": gbps, "rr_p50_us": gbps, "correct": True}
