"""The control socket and the messages to systemd, over real sockets."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import uvloop

from colo_bridge.daemon import client, control
from colo_bridge.daemon.control import CLIENT_LIMIT, LINE_LIMIT, ControlServer, refusing
from colo_bridge.daemon.notify import Notifier
from colo_bridge.errors import OperatorError, PeerError

SECONDS = 10


def refuse(_request):
    raise OperatorError("not now", "later")


VERBS = {
    "status": lambda request: {"state": "protected"},
    "echo": lambda request: request,
    "refuse": refuse,
    "bug": lambda request: 1 // 0,
}


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a scenario, bounded in time, under both event loops."""
    runner = asyncio.run if request.param == "asyncio" else uvloop.run
    return lambda scenario: runner(asyncio.wait_for(scenario, SECONDS))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "web.sock"


@contextlib.asynccontextmanager
async def serving(path, **options):
    server = ControlServer(path, VERBS, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def exchange(path, *lines: bytes) -> list[dict]:
    """Send lines over one connection and read as many answers (fewer if it is closed)."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
    answers = []
    for line in lines:
        with contextlib.suppress(ConnectionError):
            writer.write(line)
            await writer.drain()
            if answer := await reader.readline():
                answers.append(json.loads(answer))
    writer.close()
    return answers


def answers_to(run, path, *lines: bytes) -> list[dict]:
    async def scenario():
        async with serving(path):
            return await exchange(path, *lines)

    return run(scenario())


def test_status(run, path):
    assert answers_to(run, path, b'{"verb": "status"}\n') == [{"ok": True, "result": {"state": "protected"}}]


def test_arguments_are_handed_on_and_logged_within_bounds(run, path, caplog):
    caplog.set_level(logging.INFO)

    async def scenario():
        async with serving(path):
            return await asyncio.to_thread(client.ask, path, "echo", arguments={"a": [1], "b": "\n" + "x" * 900})

    assert run(scenario())["a"] == [1]
    (line,) = [line for line in caplog.messages if "echo" in line]
    assert line.startswith('control socket: echo {"a": [1], "b": "\\nxxx')
    assert line.endswith(f"x by uid {os.getuid()}")
    assert len(line) < 600


def test_several_requests_on_one_connection(run, path):
    answers = answers_to(run, path, b'{"verb": "echo", "a": 1}\n', b'{"verb": "status"}\n')
    assert [answer["result"] for answer in answers] == [{"verb": "echo", "a": 1}, {"state": "protected"}]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"verb": "reboot"}\n', "unknown verb"),
        (b'{"verb": 7}\n', "unknown verb"),
        (b'{"verb": ["status"]}\n', "unknown verb"),
        (b"{}\n", "unknown verb"),
        (b"hello\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 60_000 + b"\n", "not JSON"),
        (b"[1]\n", "not a JSON object"),
        (b"\n", "not JSON"),
        (b'{"verb": "refuse"}\n', "not now (later)"),
        (b'{"verb": "bug"}\n', "internal error"),
    ],
)
def test_what_is_wrong_is_said_and_the_connection_goes_on(run, path, line, error):
    wrong, right = answers_to(run, path, line, b'{"verb": "status"}\n')
    assert wrong["ok"] is False
    assert error in wrong["error"]
    assert right["ok"] is True


def test_a_line_that_is_too_long_ends_the_connection(run, path):
    answers = answers_to(run, path, b"x" * (LINE_LIMIT + 1), b'{"verb": "status"}\n')
    assert answers == [{"ok": False, "error": f"a request is limited to {LINE_LIMIT} bytes"}]


def test_an_endless_line_harms_nobody_else(run, path):
    async def scenario():
        async with serving(path):
            _, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"x" * (100 * LINE_LIMIT))
            answers = await exchange(path, b'{"verb": "status"}\n')
            writer.transport.abort()
            return answers

    assert run(scenario())[0]["ok"] is True


def test_a_line_just_within_the_limit_is_read(run, path):
    line = b'{"verb": "status", "x": "' + b"y" * (LINE_LIMIT - 40) + b'"}\n'
    assert answers_to(run, path, line)[0]["ok"] is True


def test_the_socket_is_private_and_goes_with_the_server(run, path):
    async def scenario():
        async with serving(path):
            return stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)

    assert run(scenario()) == (0o600, 0o700)
    assert not path.exists()


def test_a_silent_client_is_dropped(run, path):
    async def scenario():
        async with serving(path, idle_seconds=0.1):
            reader, writer = await asyncio.open_unix_connection(str(path))
            assert await reader.read() == b""
            writer.close()

    run(scenario())


def test_a_client_that_reads_nothing_is_dropped(run, path):
    """Its answers would pile up; the daemon must not wait for it either when it stops."""

    async def scenario():
        async with serving(path, idle_seconds=0.2) as server:
            _, writer = await asyncio.open_unix_connection(str(path))
            writer.write((b'{"verb": "echo", "x": "' + b"y" * 60_000 + b'"}\n') * 100)
            while not server._clients:
                await asyncio.sleep(0.01)
            while server._clients:
                await asyncio.sleep(0.01)
            writer.transport.abort()

    run(scenario())


def test_too_many_clients_are_refused_and_the_others_served(run, path):
    async def scenario():
        async with serving(path):
            silent = [await asyncio.open_unix_connection(str(path)) for _ in range(CLIENT_LIMIT)]
            silent[0][1].write(b'{"verb": "status"}\n')
            assert json.loads(await silent[0][0].readline())["ok"] is True
            assert await exchange(path, b'{"verb": "status"}\n') == [{"ok": False, "error": "too many clients"}]
            silent[0][1].close()
            while not (await exchange(path, b'{"verb": "status"}\n'))[0]["ok"]:
                await asyncio.sleep(0.01)
            for _, writer in silent:
                writer.close()

    run(scenario())


def test_other_users_are_refused(run, path, caplog):
    """Asked by a process of user nobody, whom the modes of the files would let in."""
    ask = f"""
import os, socket
s = socket.socket(socket.AF_UNIX); directory = os.open({str(path.parent)!r}, os.O_PATH)
os.setuid(65534)
s.connect(f"/proc/self/fd/{{directory}}/web.sock")
print(s.makefile().readline())
"""

    async def scenario():
        async with serving(path):
            path.chmod(0o666)
            path.parent.chmod(0o755)
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", ask, stdout=subprocess.PIPE)
            output, _ = await process.communicate()
            return json.loads(output)

    assert run(scenario()) == {
        "ok": False,
        "error": "only root and the users of control.uids may use the control socket",
    }
    assert "uid 65534 refused" in caplog.text


@pytest.fixture
def open_directory():
    """One that every user may enter, all the way down to it."""
    with tempfile.TemporaryDirectory(prefix="cb-t-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


AS_ANOTHER_USER = """
import os, sys
from colo_bridge.cli.main import main
from colo_bridge.daemon import client
os.setgroups([]); os.setresgid(65533, 65533, 65533); os.setresuid(65533, 65533, 65533)
sys.exit(main(["status", "--json", "--guest", "web", "--run-dir", sys.argv[1]]))
"""


def ask_as_another_user(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AS_ANOTHER_USER, directory]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.parametrize("made_by_us", [True, False])
def test_users_of_the_configuration_are_answered(run, open_directory, made_by_us, caplog):
    directory = open_directory / "run" if made_by_us else open_directory

    async def scenario():
        async with serving(directory / "web.sock", uids=[65533]):
            return await asyncio.to_thread(ask_as_another_user, directory)

    finished = run(scenario())
    assert (json.loads(finished.stdout), finished.returncode) == ({"state": "protected"}, 0)
    assert caplog.messages == []


def test_who_may_ask_can_change_while_it_serves(run, open_directory, caplog):
    async def scenario():
        path = open_directory / "web.sock"
        async with serving(path) as server:
            shut = await asyncio.to_thread(ask_as_another_user, open_directory)
            server.admit([65533])
            admitted = await asyncio.to_thread(ask_as_another_user, open_directory)
            server.admit([65532])
            refused = await asyncio.to_thread(ask_as_another_user, open_directory)
            server.admit([])
            return shut, admitted, refused, stat.S_IMODE(path.stat().st_mode)

    shut, admitted, refused, mode = run(scenario())
    assert "web.sock may not be opened by this user (be root, or a user of control.uids)" in shut.stderr
    assert json.loads(admitted.stdout)["state"] == "protected"
    assert json.loads(refused.stdout)["problem"].startswith("only root and the users of control.uids")
    assert mode == 0o600
    assert caplog.messages == ["control socket: uid 65533 refused"]


def test_a_connection_of_a_user_who_is_not_admitted_any_more_is_no_use(run, path, monkeypatch):
    monkeypatch.setattr(control, "_peer_uid", lambda writer: 65533)

    async def scenario():
        async with serving(path, uids=[65533]) as server:
            reader, writer = await asyncio.open_unix_connection(str(path))
            answers = []
            for uids in ([65533], []):
                server.admit(uids)
                writer.write(b'{"verb": "status"}\n')
                answers.append(json.loads(await reader.readline())["ok"])
            writer.close()
            return answers

    assert run(scenario()) == [True, False]


def test_a_directory_that_keeps_the_configured_users_out_is_named(run, path, caplog):
    path.parent.mkdir(mode=0o700)

    async def scenario():
        async with serving(path, uids=[65533]):
            pass

    run(scenario())
    assert caplog.messages == [f"control socket: the users of control.uids may not enter {path.parent} (chmod o+x)"]


def test_refused_users_do_not_fill_the_log(run, path, monkeypatch, caplog):
    monkeypatch.setattr(control, "_peer_uid", lambda writer: 65533)

    async def scenario():
        async with serving(path, uids=[65532]):
            for _ in range(30):
                await exchange(path, b"")

    run(scenario())
    assert caplog.messages.count("control socket: uid 65533 refused") == 20


def test_verbs_of_another_role_are_refused_with_the_reason(run, path):
    async def scenario():
        server = ControlServer(path, refusing(["solo"], "this daemon is the secondary", "ask the primary's"))
        await server.start()
        answers = await exchange(path, b'{"verb": "solo"}\n')
        await server.close()
        return answers

    assert run(scenario()) == [{"ok": False, "error": "this daemon is the secondary (ask the primary's)"}]


def test_verbs_that_change_something_are_logged_with_the_user(run, path, caplog):
    caplog.set_level(logging.INFO)
    answers_to(run, path, b'{"verb": "status"}\n', b'{"verb": "echo"}\n')
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("colo_bridge")]
    assert messages == [f"control socket: echo by uid {os.getuid()}"]


def test_a_dead_daemons_socket_is_replaced(run, path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert answers_to(run, path, b'{"verb": "status"}\n')[0]["ok"] is True


def test_a_living_daemons_socket_is_not(run, path):
    async def scenario():
        async with serving(path):
            with pytest.raises(OperatorError, match="already running"):
                await ControlServer(path, VERBS).start()
            return await exchange(path, b'{"verb": "status"}\n')

    assert run(scenario())[0]["ok"] is True


def test_of_two_that_start_at_once_one_wins(run, path):
    async def scenario():
        servers = [ControlServer(path, VERBS) for _ in range(4)]
        results = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
        for server in servers:
            await server.close()
        return results

    results = run(scenario())
    assert results.count(None) == 1
    assert all(isinstance(result, OperatorError) for result in results if result)


def test_what_is_no_socket_is_left_alone(run, path):
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(OperatorError, match="is no socket"):
        run(ControlServer(path, VERBS).start())
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_one_sentence(run, tmp_path):
    with pytest.raises(OperatorError, match="cannot make the control socket"):
        run(ControlServer(tmp_path / ("x" * 120), VERBS).start())


def test_a_successors_socket_is_not_taken_away(run, path):
    async def scenario():
        async with serving(path):
            path.unlink()
            path.write_text("successor")

    run(scenario())
    assert path.read_text() == "successor"


def test_our_own_client_understands_it(run, path):
    async def scenario():
        async with serving(path):
            assert await asyncio.to_thread(client.ask, path, "status") == {"state": "protected"}
            with pytest.raises(PeerError, match="not now"):
                await asyncio.to_thread(client.ask, path, "refuse")

    run(scenario())
    with pytest.raises(OperatorError):
        client.ask(path, "status")


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path):
    """A stand-in for systemd's end of $NOTIFY_SOCKET: the socket and its name."""
    name = f"@cb-t-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(SECONDS)
        receiver.bind(name.replace("@", "\0", 1))
        yield receiver, name


def test_systemd_is_told(manager):
    receiver, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("2 cards\nprotected")
    notifier.status("unprotected")
    notifier.watchdog()
    notifier.stopping()
    received = [receiver.recv(4096).decode() for _ in range(4)]
    assert received == ["READY=1\nSTATUS=2 cards protected", "STATUS=unprotected", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/no/such/socket"}])
def test_without_systemd_nothing_happens(environment):
    Notifier(environment).ready("fine")


def test_a_full_socket_does_not_block(manager):
    _, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(2000):
        notifier.watchdog()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_interval_is_half_of_what_is_allowed(environment, interval):
    assert Notifier(environment).watchdog_interval == interval
