"""The command line as an operator meets it: real processes, exit statuses, one sentence for each error."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import threading

import pytest

from colo_bridge import __version__, config
from colo_bridge.cli import logs, privileges
from colo_bridge.cli.main import main
from colo_bridge.daemon.control import ControlServer, refusing

GOOD = """
role = "primary"
guest = "web"
run_dir = "{run_dir}"
[[nic]]
primary_port = "cb-tno0"
secondary_port = "cb-tno1"
queue = 64999
"""
STATUS = {
    "guest": "web",
    "role": "primary",
    "state": "protected",
    "faults": [],
    "counters": {"held_packets_now": 3},
    "last_divergence": {"connection": "[bold]10.0.0.1:1[/bold]"},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "web.toml"
    path.write_text(GOOD.format(run_dir=tmp_path / "run"))
    return path


def colo_bridge(*arguments, wrapper=()):
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "colo_bridge", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def sentence(finished, exit_status=2) -> str:
    """The one line of an expected error."""
    assert finished.returncode == exit_status, finished.stderr
    assert finished.stdout == ""
    line = finished.stderr.removesuffix("\n")
    assert "\n" not in line
    assert line.startswith("colo-bridge: error: ")
    return line


@pytest.fixture
def daemon(file):
    """A control socket that answers `status` with the dictionary that is returned, and verbs with their arguments."""
    answer, ready, stop = dict(STATUS), threading.Event(), []

    def echo(request):
        state = request.pop("verb")
        return {"state": state, "reason": json.dumps(request) if request else "", "done": True, "problem": ""}

    def refuse(request):
        return {"state": "lost", "reason": "silence", "done": False, "problem": "the arbiter does not allow it"}

    async def serve():
        verbs = {
            "status": lambda request: answer,
            **dict.fromkeys(["failover", "solo", "resume"], echo),
            "drain": refuse,
            **refusing(["protect"], "no secondary is connected", "see its log"),
            "reload": lambda request: {"changed": answer["changed"]},
        }
        server = ControlServer(config.load(file).control_socket, verbs)
        await server.start()
        end = asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(end.set))
        loop = asyncio.get_running_loop()
        ready.set()
        await end.wait()
        await server.close()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    assert ready.wait(10)
    yield answer
    stop[0]()
    thread.join()


def test_version():
    assert colo_bridge("--version").stdout == f"colo-bridge {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "pki init",
        *["run", "check", "status", "checkpoint", "passthrough", "port", "cleanup", "compare", "replay", "pki", "lab"],
        *["failover", "solo", "resume", "protect", "drain", "reload"],
    ],
)
def test_every_command_explains_itself(command):
    finished = colo_bridge(*command.split(), "--help")
    assert finished.returncode == 0
    assert "usage: colo-bridge" in finished.stdout
    assert len(finished.stdout.splitlines()) > 5


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["run"], ["status"], ["status", "x.toml", "--guest", "web"], ["run", "a", "b"], ["compare"]],
)
def test_a_wrong_command_line_is_status_2(arguments):
    finished = colo_bridge(*arguments)
    assert finished.returncode == 2
    assert "usage:" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("command", ["run", "check", "status", "cleanup"])
def test_a_missing_file_is_one_sentence(command, tmp_path):
    assert "cannot read" in sentence(colo_bridge(command, tmp_path / "none.toml"))


@pytest.mark.parametrize("command", ["run", "check", "status", "cleanup"])
def test_an_unknown_key_is_one_sentence(command, file):
    file.write_text(file.read_text().replace("queue", "queu"))
    assert "unknown key nic[1].queu (did you mean queue?)" in sentence(colo_bridge(command, file))


@pytest.mark.parametrize("command", ["run", "cleanup"])
def test_a_missing_privilege_is_one_sentence(command, file):
    finished = colo_bridge(command, file, wrapper=["setpriv", "--bounding-set=-net_admin", "--"])
    assert "CAP_NET_ADMIN" in sentence(finished)


def test_a_missing_device_is_one_sentence(file):
    """In a network namespace of its own, where there is nothing but lo."""
    finished = colo_bridge("run", file, wrapper=["unshare", "--net"])
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    assert finished.stderr.count("colo-bridge: error: ") == 1
    assert "cb-tno" in finished.stderr.splitlines()[-1]


def test_check_prints_the_effective_configuration(file):
    finished = colo_bridge("check", file)
    assert finished.returncode == 0
    assert "timeout = 3.0" in finished.stdout
    assert config.parse(finished.stdout) == config.load(file)


def test_check_prints_what_both_hosts_must_have_alike(file):
    file.write_text(
        'role = "primary"\nguest = "web"\n[[nic]]\nprimary_port = "tap0"\nqueue = 700\n'
        '[link]\nlisten = "127.0.0.1:9000"\nidentity = "host-a"\n'
    )
    finished = colo_bridge("check", file)
    assert finished.stdout.startswith(f"# digest {config.load(file).digest()}: ")
    assert config.parse(finished.stdout) == config.load(file)


def test_a_reader_that_goes_away_is_no_traceback(file):
    finished = subprocess.run(
        ["bash", "-c", '"$0" -m colo_bridge check "$1" | true; exit "${PIPESTATUS[0]}"', sys.executable, file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in finished.stderr
    assert "Exception" not in finished.stderr


def test_status_without_a_daemon_is_1(file):
    finished = colo_bridge("status", file)
    assert finished.returncode == 1
    assert "not running" in finished.stdout


def test_status_of_a_dead_daemon_is_1(file):
    path = config.load(file).control_socket
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    finished = colo_bridge("status", file, "--json")
    assert finished.returncode == 1
    assert json.loads(finished.stdout)["state"] == "not running"


def test_status_of_a_protected_guest_is_0(file, daemon):
    finished = colo_bridge("status", file, "--json")
    assert finished.returncode == 0
    assert json.loads(finished.stdout) == STATUS


def test_status_of_an_unprotected_guest_is_3(file, daemon):
    daemon.update(state="unprotected", faults=["net0: the rule is gone", "net0: the bridge's hook is off"])
    finished = colo_bridge("status", file)
    assert finished.returncode == 3
    assert "net0: the rule is gone; net0: the bridge's hook is off" in finished.stdout


@pytest.mark.parametrize(
    ("state", "exit_status"),
    [
        *[("protected", 0), ("standby", 0), ("starting", 3), ("waiting", 3), ("lost", 3), ("alone", 3), ("asking", 3)],
        *[("unsynchronised", 3), ("solo", 4), ("drained", 4), ("live", 5), ("closed", 6), ("yielded", 6)],
    ],
)
def test_every_state_has_its_exit_status(state, exit_status, file, daemon, capsys):
    daemon["state"] = state
    assert (main(["status", str(file)]), state in capsys.readouterr().out) == (exit_status, True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["failover"], 'failover: {"fenced": false, "accept_loss": false}'),
        (["failover", "--fenced", "--accept-loss"], 'failover: {"fenced": true, "accept_loss": true}'),
        (["solo", "--fenced"], 'solo: {"fenced": true}'),
        (["resume"], "resume"),
    ],
)
def test_a_decision_is_handed_on_and_its_outcome_printed(arguments, line, file, daemon, capsys):
    assert main([*arguments, str(file)]) == 0
    assert main([*arguments, "--guest", "web", "--run-dir", config.load(file).run_dir]) == 0
    assert capsys.readouterr().out == f"{line}\n" * 2


def test_a_decision_that_comes_to_nothing_is_status_1(file, daemon, capsys):
    assert main(["drain", str(file)]) == 1
    assert capsys.readouterr().out == "lost: silence; not done: the arbiter does not allow it\n"


def test_a_decision_that_is_refused_is_one_sentence(file, daemon):
    assert "no secondary is connected (see its log)" in sentence(colo_bridge("protect", file), 1)


@pytest.mark.parametrize(
    ("changed", "line"),
    [([], "nothing has changed"), (["passthrough", "control.uids"], "taken over: passthrough, control.uids")],
)
def test_reload_says_what_was_taken_over(changed, line, file, daemon, capsys):
    daemon["changed"] = changed
    assert (main(["reload", str(file)]), capsys.readouterr().out) == (0, f"{line}\n")


@pytest.mark.parametrize("command", ["failover", "solo", "resume", "protect", "drain", "reload"])
def test_a_decision_without_a_daemon_is_one_sentence(command, file):
    assert "no daemon listens" in sentence(colo_bridge(command, file))


def test_status_by_name(file, daemon):
    finished = colo_bridge("status", "--guest", "web", "--run-dir", config.load(file).run_dir)
    assert finished.returncode == 0


def test_the_table_shows_everything_as_it_is(file, daemon):
    lines = [line.split() for line in colo_bridge("status", file).stdout.splitlines()]
    assert ["counters:", "held", "packets", "now", "3"] in lines
    assert ["faults", "none"] in lines
    assert ["last", "divergence:", "connection", "[bold]10.0.0.1:1[/bold]"] in lines


@pytest.mark.parametrize("command", [["add", "--protocol", "tcp"], ["del"], ["list"]])
def test_passthrough_without_a_daemon_is_one_sentence(command, file):
    name = [] if command == ["list"] else ["--name", "x"]
    verb, *arguments = command
    assert "no daemon listens" in sentence(colo_bridge("passthrough", verb, file, *arguments, *name))


def test_a_guests_name_is_no_path():
    assert "no name of a guest" in sentence(colo_bridge("status", "--guest", "../../tmp/x"))


@pytest.mark.parametrize("command", ["run", "cleanup"])
def test_nothing_is_touched_while_a_daemon_runs(command, file, daemon):
    assert "a daemon is already running for guest web" in sentence(colo_bridge(command, file))


def test_cleanup_where_nothing_was_left(file):
    finished = colo_bridge("cleanup", file, wrapper=["unshare", "--net"])
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == "nothing of guest web was left\n"


def test_capabilities_are_read_from_the_process_status():
    assert privileges.effective_capabilities("Name:\tx\nCapEff:\t0000000000003000\n") == 0x3000
    assert privileges.effective_capabilities("Name:\tx\n") == 0


def test_under_the_journal_every_line_has_its_priority():
    record = logging.LogRecord("colo_bridge.x", logging.WARNING, "", 0, "two\nlines", None, None)
    assert logs.JournalFormatter("%(name)s: %(message)s").format(record) == "<4>colo_bridge.x: two\n<4>lines"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("create", "much-too-long-name"), "no name of a device"),
        (("create", ".."), "no name of a device"),
        (("create", "cb-tno0", "--mac", "03:00:00:00:00:01"), "no address of a device"),
        (("create", "cb-tno0", "--owner", "nobody-of-this-name"), "there is no user"),
        (("delete",), "required: NAME"),
    ],
)
def test_port_refuses_what_makes_no_sense(arguments, complaint):
    finished = colo_bridge("port", *arguments)
    assert (finished.returncode, complaint in finished.stderr) == (2, True), finished.stderr


def test_port_needs_privileges():
    for verb in ("create", "delete"):
        finished = colo_bridge("port", verb, "cb-tno0", wrapper=["setpriv", "--bounding-set=-net_admin", "--"])
        assert "CAP_NET_ADMIN" in sentence(finished)


def test_port_is_made_once_and_deleted_once():
    script = '"$@" create cb-tno0 --owner 0 && ! "$@" create cb-tno0; "$@" delete cb-tno0 && "$@" delete cb-tno0'
    wrapper = ["unshare", "--net", "sh", "-c", script, "sh"]
    finished = colo_bridge("port", wrapper=wrapper)
    complaints = [line for line in finished.stderr.splitlines() if "error:" in line]
    assert finished.returncode == 2
    assert [("exists already" in line, "no network device" in line) for line in complaints] == [
        (True, False),
        (False, True),
    ]
