"""The unit under a real systemd, PID 1 of private namespaces (see `with-systemd` beside this file)."""

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def play(scenario: str, backend: str = "auto") -> None:
    finished = subprocess.run(
        [HERE / "with-systemd", HERE / "setup.sh", "bash", f"/mnt/tests/systemd/{scenario}"],
        env={**os.environ, "BACKEND": backend},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout


def test_the_unit_file_is_valid():
    play("verify.sh")


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_a_clean_stop_takes_out_what_was_put_in(backend):
    play("clean_stop.sh", backend)


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_after_a_kill_the_rules_stay_and_the_restarted_daemon_takes_over(backend):
    play("killed.sh", backend)


def test_what_a_failure_left_is_removed_by_cleanup():
    play("cleanup.sh")


def test_a_changed_file_is_taken_over_by_the_running_daemon():
    play("reload.sh")


def test_a_hung_daemon_is_replaced():
    play("hung.sh")


def test_a_missing_guest_port_is_named_and_waited_for():
    play("missing_port.sh")
