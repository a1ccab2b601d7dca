"""The daemon inside its event loop, with real sockets and commands, and ports without a kernel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from colo_bridge.cli import toml
from colo_bridge.cli.main import main
from colo_bridge.config import Config, parse
from colo_bridge.daemon import comparison as comparison_module
from colo_bridge.daemon import divergences as divergences_module
from colo_bridge.daemon import guard as guard_module
from colo_bridge.daemon.client import ask
from colo_bridge.daemon.ending import HANDLED_SIGNALS
from colo_bridge.daemon.service import Service
from colo_bridge.errors import OperatorError, PeerError
from colo_bridge.kernel.fault import Fault
from tests.captures import read_pcapng
from tests.checkpoint.fake_qemu import FakeQemu
from tests.daemon.fakes import FakeProtection
from tests.packets import tcp, udp

SECONDS = 20
RULE = Fault("rule", "the rule is gone")
REFERENCE = Path(__file__).parents[2] / "docs" / "operations.md"
OURS, THEIRS = udp(payload=b"ours"), udp(payload=b"theirs")

Scenario = Callable[["Daemon"], Awaitable[object]]


class Daemon:
    """A service that runs, and what a test asks of it."""

    def __init__(self, service: Service, nics: list[FakeProtection], running: asyncio.Task[None]) -> None:
        self.service = service
        self.nics = nics
        self.running = running

    @property
    def nic(self) -> FakeProtection:
        return self.nics[0]

    @property
    def status(self) -> dict[str, Any]:
        return self.service.status()

    def checkpoints(self, *names: str) -> list[Any]:
        return [self.status["checkpoints"][name] for name in names]

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            assert not self.running.done(), self.running
            await asyncio.sleep(0.001)

    async def diverge(self, nic: FakeProtection | None = None) -> list[int]:
        """Both replicas send another datagram; the primary's id."""
        nic = nic or self.nic
        seen = sum(self.status["divergences"].values())
        ids = nic.queue.put(OURS)
        nic.secondary.put(THEIRS)
        await self.until(lambda: sum(self.status["divergences"].values()) > seen)
        return ids


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_INTERVAL", 0.01)
    monkeypatch.setattr(comparison_module, "TICK", 0.01)
    monkeypatch.setattr(comparison_module, "AGE", 0.01)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Nothing ends with a signal that the daemon did not take."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in HANDLED_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Config]:
    def make(*more: str, nics: int = 1) -> Config:
        cards = [
            f'[[nic]]\nname = "net{index}"\nprimary_port = "p{index}"\nsecondary_port = "s{index}"\nqueue = {index}'
            for index in range(nics)
        ]
        head = f'role = "primary"\nguest = "web"\nrun_dir = "{tmp_path}/run"'
        evidence = f'[evidence]\ndirectory = "{tmp_path}/evidence"'
        return parse("\n".join((head, *cards, evidence, *more)))

    return make


def checkpoint(script: str) -> str:
    return f'[checkpoint]\nretry_interval = 0.05\ncommand = ["/bin/sh", "-c", {json.dumps(script)}]'


def run(config: Config, scenario: Scenario, *nics: FakeProtection, loop: Callable[..., Any] = asyncio.run) -> None:
    """Play a scenario with a running daemon, then stop it with SIGTERM."""
    protections = list(nics) or [FakeProtection() for _ in config.nic]
    try:
        loop(asyncio.wait_for(_play(config, scenario, protections), SECONDS))
    finally:
        for protection in protections:
            protection.close()


async def _play(config: Config, scenario: Scenario, nics: list[FakeProtection]) -> None:
    async with _running(config, nics) as daemon:
        await scenario(daemon)
        if not daemon.running.done():
            signal.raise_signal(signal.SIGTERM)


@contextlib.asynccontextmanager
async def _running(config: Config, nics: list[FakeProtection]) -> AsyncIterator[Daemon]:
    service = Service(config)
    names = [(nic.name, protection) for nic, protection in zip(config.nic, nics, strict=True)]
    running = asyncio.create_task(service.run(names))
    daemon = Daemon(service, nics, running)
    try:
        await daemon.until(lambda: service.state != "starting" or nics[0].error)
        yield daemon
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])


# The state.


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_it_serves_until_sigterm_and_leaves_no_socket(configure: Callable[..., Config], loop: Callable) -> None:
    config = configure()

    async def scenario(daemon: Daemon) -> None:
        answer = await asyncio.to_thread(ask, config.control_socket, "status")
        assert (answer["guest"], answer["role"], answer["state"]) == ("web", "primary", "protected")
        ids = daemon.nic.queue.put(OURS)
        daemon.nic.secondary.put(OURS)
        daemon.nic.mirror.put(THEIRS)
        await daemon.until(lambda: daemon.nic.queue.accepted == ids and daemon.nic.secondary.sent)

    run(config, scenario, loop=loop)
    assert not config.control_socket.exists()


def test_before_the_first_check_it_is_only_starting(configure: Callable[..., Config]) -> None:
    assert Service(configure()).status()["state"] == "starting"


def test_a_fault_shows_until_it_is_mended(configure: Callable[..., Config]) -> None:
    async def scenario(daemon: Daemon) -> None:
        daemon.nic.mends = False
        daemon.nic.faults.append(RULE)
        await daemon.until(lambda: daemon.status["state"] == "unprotected")
        assert daemon.status["faults"] == ["net0: rule: the rule is gone"]
        assert daemon.status["counters"]["unprotected_checks"] >= 1
        daemon.nic.mends = True
        await daemon.until(lambda: daemon.status["state"] == "protected")
        assert daemon.status["faults"] == []

    run(configure(), scenario)


def test_connections_from_before_the_start_are_told(
    configure: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(daemon: Daemon) -> None:
        ids = daemon.nic.queue.put(tcp(seq=1000, ack=100, payload=b"in mid-stream"))
        await daemon.until(lambda: daemon.nic.queue.accepted == ids)
        assert daemon.status["unsynchronised_connections"] == 1
        assert daemon.status["counters"]["unsynchronised_packets"] == 1

    run(configure(), scenario)


def test_kernel_counters_have_their_places(configure: Callable[..., Config]) -> None:
    nic = FakeProtection()
    nic.kernel = {
        "queue_queue_dropped": 1,
        "queue_socket_dropped": 2,
        "queue_socket_overruns": 3,
        "mirror_unread_dropped": 4,
        "secondary_unread_dropped": 5,
    }
    names = ("queue_dropped", "queue_user_dropped", "socket_dropped", "mirror_tap_dropped", "secondary_tap_dropped")

    async def scenario(daemon: Daemon) -> None:
        assert [daemon.status["counters"][name] for name in names] == [1, 2, 3, 4, 5]
        assert daemon.status["kernel"] == nic.kernel

    run(configure(), scenario, nic)


def test_counters_of_all_nics_are_added_up(configure: Callable[..., Config]) -> None:
    async def scenario(daemon: Daemon) -> None:
        for nic in daemon.nics:
            nic.queue.put(OURS)
        await daemon.until(lambda: daemon.status["counters"]["primary_packets"] == 2)

    run(configure(nics=2), scenario)


# Observe mode and passthrough rules.


def observing(*more: str) -> str:
    return "\n".join(('[compare]\nmode = "observe"\ntimeout = 0.05', *more))


def test_observing_holds_nothing_and_asks_for_nothing(
    configure: Callable[..., Config], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    config = configure(observing(), checkpoint(f"touch {tmp_path}/asked"))

    async def scenario(daemon: Daemon) -> None:
        await daemon.until(lambda: daemon.status["state"] == "observing")
        ids = await daemon.diverge()
        assert daemon.nic.queue.accepted == ids
        await daemon.until(lambda: not daemon.status["counters"]["held_packets_now"])
        status = daemon.status
        assert status["counters"]["observed_packets"] == status["counters"]["observed_unequal_packets"] == 1
        assert (status["divergences"]["datagram"], status["checkpoints"]["requested"]) == (1, 0)
        assert status["observed_services"] == {"udp 53 of the guest": {"flows": 1, "diverged": 1}}

    run(config, scenario)
    assert not (tmp_path / "asked").exists()
    assert "divergence (datagram)" in caplog.text
    assert "stays held" not in caplog.text


def test_observing_does_not_fill_the_log(
    configure: Callable[..., Config], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divergences_module, "_OBSERVED_LINES", 2)
    monkeypatch.setattr(divergences_module, "_OBSERVED_SECONDS", 0.5)

    async def scenario(daemon: Daemon) -> None:
        for port in range(5):
            daemon.nic.queue.put(udp(dport=7000 + port, payload=b"ours"))
            daemon.nic.secondary.put(udp(dport=7000 + port, payload=b"theirs"))
        await daemon.until(lambda: sum(daemon.status["divergences"].values()) == 5)
        assert caplog.text.count("divergence (") == 2
        await asyncio.sleep(0.5)
        await daemon.diverge()
        await daemon.until(lambda: "(3 more were not logged)" in caplog.text)

    run(configure(observing()), scenario)


def test_what_is_observed_is_told_for_each_nic(configure: Callable[..., Config]) -> None:
    async def scenario(daemon: Daemon) -> None:
        for nic in daemon.nics:
            nic.queue.put(OURS)
        await daemon.until(lambda: len(daemon.status["observed_services"]) == 2)
        assert set(daemon.status["observed_services"]) == {"net0: udp 53 of the guest", "net1: udp 53 of the guest"}

    run(configure(observing(), nics=2), scenario)


def test_rules_of_the_configuration_and_of_the_operator(
    configure: Callable[..., Config], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = configure('[[passthrough]]\nname = "web"\nprotocol = "tcp"\nguest_ports = 80')
    guest = ["--guest", "web", "--run-dir", config.run_dir]
    caplog.set_level(logging.INFO)

    async def scenario(daemon: Daemon) -> None:
        async def passthrough(verb: str, *arguments: str) -> int:
            return await asyncio.to_thread(main, ["passthrough", verb, *guest, *arguments])

        held = daemon.nic.queue.put(OURS)
        passed = daemon.nic.queue.put(tcp(seq=1000, ack=100, payload=b"in mid-stream"))
        await daemon.until(lambda: daemon.nic.queue.accepted == passed)
        assert await passthrough("add", "--name", "dns", "--protocol", "17", "--guest-ports", "53") == 0
        await daemon.until(lambda: daemon.nic.queue.accepted == passed + held)
        assert daemon.status["passthrough"]["dns"]["packets"] == daemon.status["passthrough"]["web"]["packets"] == 1
        assert daemon.status["counters"]["passthrough_packets"] == 2
        assert await passthrough("list") == 0
        assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
            ["web", "protocol=6", "guest_ports=80", "1", "53", "0", "configured"],
            ["dns", "protocol=17", "guest_ports=53", "1", "32", "0", "until", "stopped"],
        ]
        assert await passthrough("add", "--name", "dns", "--vlan", "7") == 1
        assert "there is a passthrough rule 'dns' already" in capsys.readouterr().err
        assert await passthrough("add", "--name", "x", "--peer-ports", "9-3") == 2
        assert "passthrough rule: peer_ports: the range 9-3 is reversed" in capsys.readouterr().err
        assert await passthrough("del", "--name", "dns") == 0
        assert await passthrough("list", "--json") == 0
        assert [rule["name"] for rule in json.loads(capsys.readouterr().out)["rules"]] == ["web"]

    run(config, scenario)
    rule = '{"rule": {"name": "dns", "protocol": 17, "guest_ports": "53"}}'
    assert f"control socket: passthrough-add {rule} by uid 0" in caplog.text
    assert "passthrough-list" not in caplog.text


# The status keeps what the reference promises.


def test_every_documented_field_is_in_the_status(configure: Callable[..., Config]) -> None:
    status = Service(configure()).status()
    assert set(_table("field")) == set(status) - {"guest", "role"}


def test_every_documented_counter_is_in_the_status_of_a_nic(configure: Callable[..., Config]) -> None:
    ours, rewriters, _ = _tables("counter")

    async def scenario(daemon: Daemon) -> None:
        assert set(daemon.status["counters"]) == {*ours, *(f"rewriter_{name}" for name in rewriters)}
        assert all(isinstance(value, int) for value in daemon.status["counters"].values())

    run(configure(), scenario)


def test_every_documented_reason_and_number_of_checkpoints_is_there(configure: Callable[..., Config]) -> None:
    status, fields = Service(configure()).status(), _table("field")
    assert set(status["divergences"]) == set(re.findall(r"`([a-z ]+)`", fields["divergences"]))
    for field in ("checkpoint", "checkpoints"):
        assert set(status[field]) == set(re.findall(r"`([a-z_]+)`", fields[field]))


def test_the_state_is_one_of_the_documented(configure: Callable[..., Config]) -> None:
    documented = set(re.findall(r"`([a-z]+)`", _table("field")["state"])) - {"faults"}
    assert documented == {"starting", "protected", "unprotected", "observing"}


@pytest.mark.parametrize(("fault", "exit_status"), [(None, 0), (RULE, 3)])
def test_the_status_command_shows_all_of_it(
    configure: Callable[..., Config], capsys: pytest.CaptureFixture[str], fault: Fault | None, exit_status: int
) -> None:
    config = configure(checkpoint("exit 1"))
    nic = FakeProtection(*[fault] if fault else [], mends=False)
    nic.kernel = {"queue_waiting": 1}
    command = ["status", "--guest", "web", "--run-dir", config.run_dir]

    async def scenario(daemon: Daemon) -> None:
        await daemon.diverge()
        assert await asyncio.to_thread(main, [*command, "--json"]) == exit_status
        told = json.loads(capsys.readouterr().out)
        assert set(told) == set(daemon.status)
        assert await asyncio.to_thread(main, command) == exit_status
        lines = capsys.readouterr().out
        for field in _table("field"):
            assert re.search(rf"^{field.replace('_', ' ')}\b", lines, re.MULTILINE), field

    run(config, scenario, nic)


def test_what_differs_is_kept_as_evidence(configure: Callable[..., Config], tmp_path: Path) -> None:
    async def scenario(daemon: Daemon) -> None:
        await daemon.diverge()
        await daemon.until(lambda: daemon.status["counters"]["evidence_written"])

    run(configure(), scenario)
    (file,) = (tmp_path / "evidence" / "web").iterdir()
    assert [packet.data for packet in read_pcapng(file)] == [OURS[14:], THEIRS[14:]]


def _table(head: str) -> dict[str, str]:
    return _tables(head)[0]


def _tables(head: str) -> list[dict[str, str]]:
    """Tables of the reference whose first column is headed so: each name, and what is said of it."""
    found = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    return [dict(pair for line in table.splitlines() for pair in _names(line)) for table in found]


def _names(line: str) -> list[tuple[str, str]]:
    _, names, meaning, _ = re.split(r" ?\| ?", line, maxsplit=3)
    return [(name, meaning) for name in re.findall(r"`([a-z_]+)`", names)]


# Divergences and checkpoints.


def test_a_checkpoint_releases_what_diverged(configure: Callable[..., Config], tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    async def scenario(daemon: Daemon) -> None:
        ids = await daemon.diverge()
        await daemon.until(lambda: daemon.nic.queue.accepted == ids)
        assert daemon.checkpoints("requested", "done", "failed") == [1, 1, 0]
        assert daemon.status["checkpoint"]["reasons"] == {"datagram": 1}
        assert daemon.status["epoch"] == 1
        assert daemon.status["last_divergence"]["reason"] == "datagram"
        assert daemon.status["last_divergence"]["connection"] == "10.0.0.2:53 > 10.0.0.9:5000 udp"

    run(configure(checkpoint(f'echo "$COLO_GUEST $COLO_REASON $COLO_CONNECTION" > {seen}')), scenario)
    assert seen.read_text() == "web datagram 10.0.0.2:53 > 10.0.0.9:5000 udp\n"


def test_a_checkpoint_that_failed_is_tried_again_and_nothing_leaves_before(
    configure: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It succeeds once the file is there."""
    allowed = tmp_path / "allowed"

    async def scenario(daemon: Daemon) -> None:
        ids = await daemon.diverge()
        await daemon.until(lambda: daemon.status["checkpoints"]["failed"] >= 2)
        assert daemon.nic.queue.accepted == []
        allowed.touch()
        await daemon.until(lambda: daemon.nic.queue.accepted == ids)
        assert daemon.status["checkpoints"]["requested"] == 1
        assert daemon.status["checkpoints"]["done"] == 1

    run(configure(checkpoint(f"test -e {allowed}")), scenario)
    assert "checkpoint failed; next try in 0.05 s" in caplog.text


def test_one_checkpoint_serves_all_nics(configure: Callable[..., Config], tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"

    async def scenario(daemon: Daemon) -> None:
        ids = [await daemon.diverge(nic) for nic in daemon.nics]
        assert daemon.status["checkpoints"]["requested"] == 1
        allowed.touch()
        await daemon.until(lambda: [nic.queue.accepted for nic in daemon.nics] == ids)
        assert daemon.status["checkpoints"]["done"] == 1

    run(configure(checkpoint(f"test -e {allowed}"), nics=2), scenario)


def test_without_a_command_what_diverged_stays_held_and_that_is_said(
    configure: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(daemon: Daemon) -> None:
        await daemon.diverge()
        other = udp(dport=6000, payload=b"equal")
        ids = daemon.nic.queue.put(other)
        daemon.nic.secondary.put(other)
        await daemon.until(lambda: daemon.nic.queue.accepted == ids)
        assert daemon.status["counters"]["held_packets_now"] == 1
        assert daemon.checkpoints("requested", "done", "failed") == [0, 0, 0]
        assert daemon.status["checkpoint"]["provider"] == "none"
        assert daemon.status["last_divergence"]["reason"] == "datagram"

    run(configure(), scenario)
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "no checkpoint.provider is configured: what diverged stays held"
    ]
    assert "divergence (datagram) in 10.0.0.2:53 > 10.0.0.9:5000 udp: datagrams differ at byte 0" in caplog.text


def test_a_silent_secondary_is_a_divergence(configure: Callable[..., Config]) -> None:
    async def scenario(daemon: Daemon) -> None:
        daemon.nic.queue.put(OURS)
        await daemon.until(lambda: daemon.status["divergences"]["timeout"] == 1)

    run(configure("[compare]\ntimeout = 0.05"), scenario)


@pytest.mark.parametrize(
    ("script", "exit_status", "said"),
    [
        ("exit 0", 0, "checkpoint 1 done"),
        ("exit 1", 1, "checkpoint failed; it will be tried again"),
    ],
)
def test_a_checkpoint_is_made_on_request(
    configure: Callable[..., Config], capsys: pytest.CaptureFixture[str], script: str, exit_status: int, said: str
) -> None:
    config = configure(checkpoint(script))

    async def scenario(daemon: Daemon) -> None:
        (held,) = daemon.nic.queue.put(OURS)
        await daemon.until(lambda: daemon.status["counters"]["held_packets_now"] == 1)
        command = ["checkpoint", "--guest", "web", "--run-dir", config.run_dir]
        assert await asyncio.to_thread(main, command) == exit_status
        assert capsys.readouterr().out == f"{said}\n"
        assert (held in daemon.nic.queue.accepted) == (exit_status == 0)
        assert daemon.status["checkpoint"]["reasons"] == {"operator": 1}

    run(config, scenario)


@pytest.mark.parametrize("settings", ['[compare]\nmode = "observe"\n' + checkpoint("exit 0"), ""])
def test_a_checkpoint_that_nobody_makes_is_refused(
    configure: Callable[..., Config], capsys: pytest.CaptureFixture[str], settings: str
) -> None:
    config = configure(settings)

    async def scenario(_daemon: Daemon) -> None:
        command = ["checkpoint", "--guest", "web", "--run-dir", config.run_dir]
        assert await asyncio.to_thread(main, command) == 1
        assert "nothing here makes checkpoints (configure checkpoint.provider" in capsys.readouterr().err

    run(config, scenario)


def test_a_checkpoint_is_made_each_period(configure: Callable[..., Config]) -> None:
    async def scenario(daemon: Daemon) -> None:
        await daemon.until(lambda: daemon.status["checkpoints"]["done"] >= 2)
        assert set(daemon.status["checkpoint"]["reasons"]) == {"period"}

    run(configure(checkpoint("exit 0") + "\nperiod = 0.02"), scenario)


def test_a_stop_ends_a_checkpoint_under_way(configure: Callable[..., Config], tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    async def scenario(daemon: Daemon) -> None:
        await daemon.diverge()
        await daemon.until(lambda: pid.exists() and pid.read_text())

    run(configure(checkpoint(f"echo $$ > {pid}; exec sleep 60")), scenario)
    assert not Path(f"/proc/{int(pid.read_text())}").exists()


# Limits.


def test_a_reached_limit_is_said_once_per_increase(
    configure: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    async def ages(daemon: Daemon) -> None:
        """Three looks at the limits."""
        checks = daemon.service._guard.checks
        await daemon.until(lambda: daemon.service._guard.checks > checks + 3)

    async def scenario(daemon: Daemon) -> None:
        for count, dropped in ((20, 4), (1, 5)):
            ids = daemon.nic.queue.put(*(udp(payload=bytes((number,))) for number in range(count)))
            await daemon.until(lambda ids=ids: ids[-1] in daemon.nic.queue.dropped)
            assert daemon.status["counters"]["held_limit_drops"] == dropped
            await daemon.until(lambda dropped=dropped: f"held_limit_drops: {dropped} " in caplog.text)
            await ages(daemon)

    run(configure("[limits]\nheld_packets = 16"), scenario)
    assert [record.message for record in caplog.records if "limit" in record.message] == [
        "held_limit_drops: 4 (4 more); see [limits]",
        "held_limit_drops: 5 (1 more); see [limits]",
    ]


# The end.


def test_a_check_that_fails_unexpectedly_ends_the_daemon(configure: Callable[..., Config]) -> None:
    """Not silently: whoever runs it leaves the diversion in force."""
    config = configure()

    async def scenario(daemon: Daemon) -> None:
        daemon.nic.error = RuntimeError("a bug")
        await asyncio.wait([daemon.running])

    with pytest.raises(RuntimeError, match="a bug"):
        run(config, scenario)
    assert not config.control_socket.exists()


def test_the_service_manager_hears_of_it(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        heard: list[str] = []

        async def scenario(daemon: Daemon) -> None:
            while heard.count("WATCHDOG=1") < 3 or "STATUS=protected" not in heard:
                heard.extend(_messages(manager))
                await asyncio.sleep(0.001)

        run(configure(), scenario)
        heard.extend(_messages(manager))
    assert heard[0].startswith("READY=1")
    assert heard[-1] == "STOPPING=1" or "STOPPING=1" in heard


def _messages(manager: socket.socket) -> Iterator[str]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield manager.recv(4096).decode()


def test_a_bug_in_a_data_path_ends_the_daemon(configure):
    async def scenario(daemon):
        daemon.nic.queue.receive = lambda: 1 // 0
        daemon.nic.queue.wake()
        await asyncio.wait([daemon.running])

    with pytest.raises(ZeroDivisionError):
        run(configure(), scenario)


def test_a_check_that_does_not_end_is_no_protection(configure, monkeypatch):
    monkeypatch.setattr(guard_module, "_LATE", 0.05)
    go_on = threading.Event()

    async def scenario(daemon):
        daemon.nic.check = lambda: go_on.wait(SECONDS) and []
        await daemon.until(lambda: daemon.status["state"] == "unprotected")
        assert daemon.status["faults"] == ["guard: the last check is too old"]
        go_on.set()
        await daemon.until(lambda: daemon.status["state"] == "protected")

    run(configure(), scenario)


# Checkpoints by the hypervisor.


def follow(config: Config, scenario: Callable[[Daemon, FakeQemu], Awaitable[object]], loop: Any = asyncio.run) -> None:
    """Play a scenario whose first checkpoint, asked for because the daemon knows nothing, is not made yet."""

    async def begin(daemon: Daemon) -> None:
        qemu = FakeQemu(Path(config.checkpoint.qmp_primary))
        await qemu.start()
        try:
            await daemon.until(lambda: qemu.asked == 1)
            await scenario(daemon, qemu)
        finally:
            await qemu.die()

    run(config, begin, loop=loop)


async def pause(daemon: Daemon, qemu: FakeQemu, status: str = "colo") -> None:
    qemu.stop(status)
    phase = "paused" if status == "colo" else "halted"
    await daemon.until(lambda: daemon.status["checkpoint"]["replicas"] == {"primary": phase})


async def go_on(daemon: Daemon, qemu: FakeQemu) -> None:
    qemu.go_on()
    await daemon.until(lambda: daemon.status["checkpoint"]["replicas"] == {"primary": "colo"})


@pytest.fixture
def in_colo(configure: Callable[..., Config], tmp_path: Path) -> Config:
    return configure(f'[checkpoint]\nprovider = "qmp"\nqmp_primary = "{tmp_path}/qmp"')


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run])
def test_old_connections_wait_for_the_checkpoint_that_a_daemon_asks_for_at_first(in_colo: Config, loop: Any) -> None:
    async def scenario(daemon: Daemon, qemu: FakeQemu) -> None:
        old = daemon.nic.queue.put(tcp(seq=1000, ack=100, payload=b"of before the start"))
        await daemon.until(lambda: daemon.status["counters"]["held_packets_now"] == 1)
        await pause(daemon, qemu)
        assert daemon.nic.queue.accepted == []
        await go_on(daemon, qemu)
        assert daemon.nic.queue.accepted == old
        assert daemon.status["epoch"] == 1
        assert daemon.status["checkpoint"]["reasons"] == {"start": 1}
        assert daemon.status["unsynchronised_connections"] == 0

    follow(in_colo, scenario, loop)


def test_packets_of_two_epochs_do_not_meet(in_colo: Config) -> None:
    async def scenario(daemon: Daemon, qemu: FakeQemu) -> None:
        old = daemon.nic.queue.put(udp(payload=b"primary, old"))
        # Nobody reads this before the pause is noticed, but it is of before.
        qemu.stop()
        daemon.nic.secondary.put(udp(payload=b"the same"))
        await daemon.until(lambda: daemon.status["checkpoint"]["state"] == "paused")
        new = daemon.nic.queue.put(udp(payload=b"the same"), udp(payload=b"new"))
        daemon.nic.secondary.put(udp(payload=b"primary, old"), udp(payload=b"new"))
        daemon.nic.mirror.put(udp(payload=b"for both"))
        await asyncio.sleep(0.05)
        assert (len(daemon.nic.queue.waiting), len(daemon.nic.secondary.waiting)) == (2, 2)
        assert (daemon.nic.queue.accepted, daemon.nic.secondary.sent) == ([], [])
        await go_on(daemon, qemu)
        await daemon.until(lambda: len(daemon.nic.queue.accepted) == 2)
        assert daemon.nic.queue.accepted == [*old, new[1]]
        await daemon.until(lambda: len(daemon.nic.secondary.sent) == 1)

    follow(in_colo, scenario)


def test_an_operators_stop_and_cont_releases_nothing(in_colo: Config) -> None:
    async def scenario(daemon: Daemon, qemu: FakeQemu) -> None:
        await pause(daemon, qemu)
        await go_on(daemon, qemu)
        await daemon.diverge()
        await daemon.until(lambda: qemu.asked == 2)
        await pause(daemon, qemu, "paused")
        other = udp(dport=6000, payload=b"equal")
        equal = daemon.nic.queue.put(other)
        daemon.nic.secondary.put(other)
        await daemon.until(lambda: daemon.nic.queue.accepted == equal)
        await go_on(daemon, qemu)
        assert daemon.status["counters"]["held_packets_now"] == 1
        assert daemon.status["epoch"] == 1

    follow(in_colo, scenario)


def test_without_its_hypervisor_what_diverged_stays_held_and_equal_packets_leave(in_colo: Config) -> None:
    async def scenario(daemon: Daemon, qemu: FakeQemu) -> None:
        await pause(daemon, qemu)
        await qemu.die()
        await daemon.until(lambda: daemon.status["checkpoint"]["replicas"] == {"primary": "offline"})
        await daemon.diverge()
        other = udp(dport=6000, payload=b"equal")
        equal = daemon.nic.queue.put(other)
        daemon.nic.secondary.put(other)
        await daemon.until(lambda: daemon.nic.queue.accepted == equal)
        assert daemon.checkpoints("done", "failed") == [0, 1]

    follow(in_colo, scenario)


def test_a_stop_of_the_daemon_does_not_wait_for_the_end_of_a_pause(in_colo: Config) -> None:
    async def scenario(daemon: Daemon, qemu: FakeQemu) -> None:
        await pause(daemon, qemu)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait([daemon.running])
        assert daemon.running.exception() is None

    follow(in_colo, scenario)


# A changed configuration.

DNS = '[[passthrough]]\nname = "dns"\nprotocol = "udp"\nguest_ports = 53'


def text_of(config: Config) -> str:
    return toml.dump(config.model_dump(exclude_none=True))


def write(config: Config, path: Path) -> Path:
    path.write_text(text_of(config), encoding="utf-8")
    return path


def test_reload_takes_over_what_may_change(configure: Callable[..., Config], tmp_path: Path) -> None:
    config = configure()

    async def scenario(daemon: Daemon) -> None:
        daemon.service.file = write(configure(DNS, "[control]\nuids = [65533]"), tmp_path / "web.toml")
        held = daemon.nic.queue.put(OURS)
        await daemon.until(lambda: daemon.status["counters"]["held_packets_now"])
        answer = await asyncio.to_thread(ask, config.control_socket, "reload")
        assert answer == {"changed": ["passthrough", "control.uids"]}
        assert config.control_socket.stat().st_mode & 0o777 == 0o666
        await daemon.until(lambda: daemon.nic.queue.accepted == held)
        assert daemon.status["passthrough"]["dns"]["packets"] == 1
        assert await asyncio.to_thread(ask, config.control_socket, "reload") == {"changed": []}
        write(configure(), tmp_path / "web.toml")
        assert daemon.service.reload() == ["passthrough", "control.uids"]
        assert daemon.status["passthrough"] == {}
        assert config.control_socket.stat().st_mode & 0o777 == 0o600

    run(config, scenario)


def test_reload_is_all_or_nothing(configure: Callable[..., Config], tmp_path: Path) -> None:
    config = configure()
    rules = [DNS.replace('"dns"', f'"r{number}"') for number in range(64)]
    wrong = [
        (
            text_of(configure(DNS, "[compare]\ntimeout = 9")),
            "a change of compare.timeout",
        ),
        ("guest = 5", "key role is missing"),
        (
            text_of(configure(*rules, "[control]\nuids = [7]")),
            "64 passthrough rules are",
        ),
    ]

    async def scenario(daemon: Daemon) -> None:
        with pytest.raises(PeerError, match="no configuration file"):
            await asyncio.to_thread(ask, config.control_socket, "reload")
        rule = {"name": "late", "protocol": 6}
        await asyncio.to_thread(ask, config.control_socket, "passthrough-add", arguments={"rule": rule})
        daemon.service.file = tmp_path / "web.toml"
        for text, problem in wrong:
            daemon.service.file.write_text(text, encoding="utf-8")
            with pytest.raises(PeerError, match=problem):
                await asyncio.to_thread(ask, config.control_socket, "reload")
            assert list(daemon.status["passthrough"]) == ["late"]
            assert config.control_socket.stat().st_mode & 0o777 == 0o600

    run(config, scenario)


def test_what_a_role_cannot_take_over_keeps_everything_as_it_is(
    configure: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(service: Service, config: Config) -> Callable[[], None]:
        inherited(service, config)
        raise OperatorError("the certificates cannot be used")

    inherited = Service._prepare_reload
    monkeypatch.setattr(Service, "_prepare_reload", prepare)

    async def scenario(daemon: Daemon) -> None:
        daemon.service.file = write(configure(DNS), tmp_path / "web.toml")
        with pytest.raises(OperatorError, match="certificates"):
            daemon.service.reload()
        assert daemon.status["passthrough"] == {}

    run(configure(), scenario)


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_sighup_reloads_and_a_file_that_is_wrong_ends_nothing(
    configure: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture, loop: Callable
) -> None:
    async def scenario(daemon: Daemon) -> None:
        daemon.service.file = write(configure("[limits]\nconnections = 100"), tmp_path / "web.toml")
        signal.raise_signal(signal.SIGHUP)
        await daemon.until(lambda: "a change of limits.connections needs a restart" in caplog.text)
        write(configure(DNS), tmp_path / "web.toml")
        signal.raise_signal(signal.SIGHUP)
        await daemon.until(lambda: "dns" in daemon.status["passthrough"])

    run(configure(), scenario, loop=loop)
