"""From arming to taking out again: what stays in force, and what does not, however it ends."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from colo_bridge.cli import toml
from colo_bridge.config import Config, parse
from colo_bridge.daemon import guard, runner
from colo_bridge.daemon.control import ControlServer
from colo_bridge.daemon.ending import HANDLED_SIGNALS
from colo_bridge.errors import KernelError, OperatorError
from tests.daemon.fakes import FakeProtection

REFUSED = KernelError("the kernel refuses")


@pytest.fixture(autouse=True)
def _harmless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No change of the interpreter outlives a test, and no signal ends it."""
    monkeypatch.setattr(guard, "_INTERVAL", 0.005)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    interval = sys.getswitchinterval()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in HANDLED_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sys.setswitchinterval(interval)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    cards = [
        f'[[nic]]\nname = "net{index}"\nprimary_port = "p{index}"\nsecondary_port = "s{index}"\nqueue = {index}'
        for index in range(2)
    ]
    return parse("\n".join(('role = "primary"', 'guest = "web"', f'run_dir = "{tmp_path}/run"', *cards)))


@pytest.fixture
def nics(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeProtection]]:
    """The protections that the runner makes, in the order of the configuration."""
    made = [FakeProtection(), FakeProtection()]
    rest = iter(made)
    monkeypatch.setattr(runner, "NicProtection", lambda guest, nic, config: next(rest))
    yield made
    for protection in made:
        protection.close()


def on_check(nic: FakeProtection, action: Callable[[], object]) -> None:
    """Do something as soon as the daemon serves: at its first check."""
    check = nic.check

    def first() -> list:
        nic.check = check
        action()
        return check()

    nic.check = first


def terminate() -> None:
    """From another thread, as `systemctl stop` would: to the one that runs the loop."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)


def calls(nics: list[FakeProtection]) -> list[list[str]]:
    return [[call for call in nic.log if call != "check"] for nic in nics]


def test_a_clean_stop_takes_everything_out(config: Config, nics: list[FakeProtection]) -> None:
    on_check(nics[0], terminate)
    assert runner.run(config) == 0
    assert calls(nics) == [["arm", "disarm"], ["arm", "disarm"]]
    assert not config.control_socket.exists()


def test_a_clean_stop_takes_out_what_a_killed_daemon_had_left(config: Config, nics: list[FakeProtection]) -> None:
    nics[0].taken_over = True
    on_check(nics[0], terminate)
    assert runner.run(config) == 0
    assert calls(nics) == [["arm", "disarm"], ["arm", "disarm"]]


def test_nothing_is_disarmed_before_the_last_check_has_ended(config: Config, nics: list[FakeProtection]) -> None:
    """What a check or a mending found missing it would put there again."""
    on_check(nics[1], terminate)
    runner.run(config)
    assert all(nic.log[-1] == "disarm" for nic in nics)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KernelError("refused")])
def test_an_error_while_serving_leaves_the_diversion_in_force(
    config: Config, nics: list[FakeProtection], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    on_check(nics[1], lambda: setattr(nics[1], "error", error))
    with pytest.raises(type(error)):
        runner.run(config)
    assert calls(nics) == [["arm"], ["arm"]]
    assert "the diversion stays in force" in caplog.text
    assert not config.control_socket.exists()


def test_a_second_nic_that_fails_takes_the_first_back(config: Config, nics: list[FakeProtection]) -> None:
    nics[1].error = REFUSED
    with pytest.raises(KernelError):
        runner.run(config)
    assert calls(nics) == [["arm", "disarm"], ["arm"]]
    assert not config.control_socket.exists()


def test_but_not_what_a_killed_daemon_had_left(config: Config, nics: list[FakeProtection]) -> None:
    nics[0].taken_over = True
    nics[1].error = REFUSED
    with pytest.raises(KernelError):
        runner.run(config)
    assert calls(nics) == [["arm"], ["arm"]]


def test_a_first_nic_that_fails_leaves_the_second_alone(config: Config, nics: list[FakeProtection]) -> None:
    nics[0].error = REFUSED
    with pytest.raises(KernelError):
        runner.run(config)
    assert calls(nics) == [["arm"], []]


def test_the_control_path_is_claimed_before_anything_is_armed(config: Config, nics: list[FakeProtection]) -> None:
    other = ControlServer(config.control_socket, {})
    other.claim()
    try:
        with pytest.raises(OperatorError, match="already running"):
            runner.run(config)
        assert calls(nics) == [[], []]
        assert config.control_socket.exists()
    finally:
        other.release()


def test_the_control_path_is_ours_while_arming(config: Config, nics: list[FakeProtection]) -> None:
    seen: list[bool] = []
    nics[0].arm = lambda: seen.append(config.control_socket.is_socket())
    nics[1].error = REFUSED
    with pytest.raises(KernelError):
        runner.run(config)
    assert seen == [True]


def test_a_run_directory_that_cannot_be_made_is_the_operators_fault(
    config: Config, nics: list[FakeProtection], tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OperatorError, match="control socket"):
        runner.run(config)
    assert calls(nics) == [[], []]


def test_a_dead_daemons_socket_is_replaced(config: Config, nics: list[FakeProtection]) -> None:
    dead = ControlServer(config.control_socket, {})
    dead.claim()
    assert dead._listener is not None
    dead._listener.close()
    on_check(nics[0], terminate)
    assert runner.run(config) == 0
    assert not config.control_socket.exists()


def test_the_checking_thread_gives_way_sooner(config: Config, nics: list[FakeProtection]) -> None:
    seen: list[float] = []
    on_check(nics[0], lambda: (seen.append(sys.getswitchinterval()), terminate()))
    runner.run(config)
    assert seen[0] <= 0.001


def test_every_nic_is_taken_out_also_if_one_fails(config, nics):
    def refuse():
        nics[1].log.append("disarm")
        raise REFUSED

    nics[1].disarm = refuse
    on_check(nics[0], terminate)
    with pytest.raises(KernelError):
        runner.run(config)
    assert calls(nics) == [["arm", "disarm"], ["arm", "disarm"]]


def test_a_signal_while_arming_stops_in_order(config, nics):
    arm = nics[0].arm
    nics[0].arm = lambda: (arm(), terminate())
    assert runner.run(config) == 0
    assert calls(nics) == [["arm", "disarm"], ["arm", "disarm"]]


def test_sighup_while_it_arms_waits_until_the_file_can_be_read_again(
    config: Config, nics: list[FakeProtection], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    arm, check = nics[0].arm, nics[0].check

    def arm_and_hang_up() -> None:
        arm()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGHUP)

    def check_until_reloaded() -> list:
        if "was read again: no key has changed" in caplog.text:
            terminate()
        return check()

    nics[0].arm, nics[0].check = arm_and_hang_up, check_until_reloaded
    file = tmp_path / "web.toml"
    file.write_text(toml.dump(config.model_dump(exclude_none=True)), encoding="utf-8")
    assert runner.run(config, file) == 0
