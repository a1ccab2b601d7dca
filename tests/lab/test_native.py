"""The lab without a daemon: its links, running things in it, and that nothing of it stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from colo_bridge.lab import lifecycle, process, workload
from colo_bridge.lab.layout import GUEST_ADDRESS, GUEST_IPV6_ADDRESS, RUN_DIR, Role
from colo_bridge.lab.shape import Shape
from tests.lab.helpers import COMMAND, SERVICE, colo, devices, inside, lab, nothing_is_left, wait_until


@pytest.fixture(scope="class")
def native() -> Iterator[None]:
    with lab("--native"):
        yield


@pytest.mark.usefixtures("native")
class TestUp:
    def test_the_host_has_the_guest_ports_and_nothing_else(self) -> None:
        assert devices(Role.HOST) == {"lo", "cb-br0", "cb-c0", "cb-p0", "cb-s0"}

    def test_the_secondary_is_down_and_on_no_bridge(self) -> None:
        (port,) = json.loads(inside(Role.HOST, "ip", "-j", "link", "show", "cb-s0"))
        assert "UP" not in port["flags"]
        assert "master" not in port

    def test_the_guests_are_twins(self) -> None:
        addresses = [inside(guest, "ip", "-br", "address", "show", "eth0").split()[2:] for guest in _guests()]
        cards = [inside(guest, "ip", "-br", "link", "show", "eth0").split()[2] for guest in _guests()]
        assert addresses == [["10.77.0.2/24", "fd77::2/64"]] * 2
        assert cards[0] == cards[1]

    @pytest.mark.parametrize("role", [Role.CLIENT, Role.PRIMARY, Role.SECONDARY])
    def test_nobody_has_addresses_of_its_own_or_neighbours_that_it_was_given(self, role: Role) -> None:
        assert "fe80:" not in inside(role, "ip", "-6", "address", "show", "eth0")
        assert "tentative" not in inside(role, "ip", "-6", "address", "show", "eth0")
        assert inside(role, "ip", "neighbour", "show").count("PERMANENT") == 0

    def test_the_hosts_own_devices_are_silent(self) -> None:
        assert "inet6" not in inside(Role.HOST, "ip", "address", "show", "scope", "link")

    def test_the_state_is_for_root_alone(self) -> None:
        assert RUN_DIR.stat().st_mode & 0o777 == 0o700

    def test_a_second_up_is_refused(self) -> None:
        again = colo("lab", "up", "--native")
        assert again.returncode == 2
        assert "already up" in again.stderr
        assert "lab down" in again.stderr
        assert devices(Role.CLIENT) == {"lo", "eth0"}

    def test_status_says_native(self) -> None:
        status = colo("lab", "status", "--json")
        assert status.returncode == 0
        assert json.loads(status.stdout)["lab"] == "native"


@pytest.mark.usefixtures("native")
class TestExec:
    def test_the_exit_status_is_handed_on(self) -> None:
        assert colo("lab", "exec", "client", "--", "sh", "-c", "exit 7").returncode == 7
        assert colo("lab", "exec", "both", "--", "sh", "-c", '[ "$CB_ROLE" = primary ] || exit 9').returncode == 9
        assert colo("lab", "exec", "both", "--", "true").returncode == 0

    def test_a_signal_that_ends_a_command_shows(self) -> None:
        assert colo("lab", "exec", "both", "--", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL

    def test_input_and_output_pass(self) -> None:
        assert colo("lab", "exec", "primary", "--", "cat", input="hello").stdout == "hello"

    @pytest.mark.parametrize("role", Shape.ONE_HOST.roles)
    def test_a_command_knows_where_it_is(self, role: Role) -> None:
        done = colo(
            "lab", "exec", role, "--", "sh", "-c", 'cd "$CB_DIR" && pwd && echo $CB_ROLE && readlink /proc/self/ns/net'
        )
        directory, name, namespace = done.stdout.splitlines()
        assert (directory, name) == (f"{RUN_DIR}/{role}", role)
        assert namespace == f"net:[{role.namespace_file.stat().st_ino}]"

    def test_signals_are_forwarded_to_both(self) -> None:
        script = 'trap "exit 5" TERM; touch $CB_DIR/ready; sleep 60 & wait'
        child = subprocess.Popen([*COMMAND, "lab", "exec", "both", "--", "sh", "-c", script])
        try:
            wait_until(lambda: all((guest.directory / "ready").exists() for guest in _guests()), 10, "both are ready")
            child.terminate()
            assert child.wait(10) == 5
        finally:
            child.kill()
            child.wait()

    def test_an_exec_without_a_command_is_refused(self) -> None:
        assert colo("lab", "exec", "client").returncode == 2
        assert colo("lab", "exec", "--detach", "client", "--", "no-such-program").returncode == 2

    def test_an_exec_in_a_place_that_another_lab_has_is_refused(self) -> None:
        done = colo("lab", "exec", "host-a", "--", "true")
        assert done.returncode == 2
        assert "client, host, primary, secondary" in done.stderr

    def test_the_service_serves_the_client(self) -> None:
        workload.start_service()
        for address in (GUEST_ADDRESS, GUEST_IPV6_ADDRESS):
            assert workload.client(["get", "--host", address, "--bytes", "3000000", "--verify"])["correct"]
            assert workload.client(["put", "--host", address, "--bytes", "3000000", "--verify"])["correct"]
            assert workload.client(["turns", "--host", address, "--count", "100"])["correct"]


class TestDown:
    def test_detached_commands_end_with_the_lab(self) -> None:
        with lab("--native"):
            done = colo("lab", "exec", "--detach", "both", "--", *SERVICE, "serve")
            started = [process.identify(int(line)) for line in done.stdout.split()]
            assert len(started) == 2
            assert {entry["pid"] for entry in lifecycle.status()["processes"]} == {
                found.pid for found in started if found
            }
            assert colo("lab", "down").returncode == 0
        assert not any(found and process.is_running(found) for found in started)
        assert nothing_is_left()

    def test_twice_is_once(self) -> None:
        assert colo("lab", "down").returncode == 0
        assert colo("lab", "down").returncode == 0
        assert json.loads(colo("lab", "status", "--json").stdout)["lab"] == "down"

    def test_what_a_crash_left_is_removed(self) -> None:
        with lab("--native"):
            done = colo("lab", "exec", "--detach", "primary", "--", "sleep", "600")
            forgotten = process.identify(int(done.stdout))
            assert forgotten
            for file in (RUN_DIR / "mode", *(RUN_DIR / "processes").iterdir()):
                file.unlink()
            assert lifecycle.status()["lab"] == "incomplete"
            assert colo("lab", "up", "--native").returncode == 2
            assert colo("lab", "down").returncode == 0
        assert not process.is_running(forgotten)
        assert nothing_is_left()

    def test_exec_without_a_lab_is_refused(self) -> None:
        done = colo("lab", "exec", "client", "--", "true")
        assert done.returncode == 2
        assert "lab up" in done.stderr


class TestFailure:
    def test_a_wrong_setting_makes_nothing(self) -> None:
        done = colo("lab", "up", "--set", "queue.lenght=5")
        assert done.returncode == 2
        assert "length" in done.stderr
        assert nothing_is_left()

    def test_a_daemon_that_does_not_start_leaves_nothing(self) -> None:
        done = colo("lab", "up", "--one-host", "--set", "nic.secondary_port=cb-nosuch0")
        assert done.returncode == 1
        assert "daemon" in done.stderr
        assert "Traceback" not in done.stderr
        assert nothing_is_left()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_an_interrupted_up_leaves_nothing(self, number: signal.Signals) -> None:
        child = subprocess.Popen([*COMMAND, "lab", "up", "--one-host", "--native"], stderr=subprocess.DEVNULL)
        wait_until(lambda: Role.HOST.namespace_file.exists() or child.poll() is not None, 10, "the lab is half-made")
        child.send_signal(number)
        status = child.wait(10)
        # It may have been ready just before the signal came.
        assert status in (128 + number, -number) or (status == 0 and colo("lab", "down").returncode == 0)
        assert nothing_is_left()

    def test_without_root_one_sentence(self) -> None:
        # Everything is imported before the privileges go: the interpreter may be root's alone.
        script = (
            "import os, sys; from colo_bridge.cli import lab_commands; from colo_bridge.cli.main import main; "
            "os.setuid(65534); sys.exit(main(['lab', 'up']))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "root" in done.stderr
        assert "Traceback" not in done.stderr


def _guests() -> tuple[Role, Role]:
    return Role.PRIMARY, Role.SECONDARY
