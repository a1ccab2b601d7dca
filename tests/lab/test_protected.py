"""The lab with the real daemon: right bytes, one divergence at its place, and what happens when things break."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.lab import daemon, demo, files, ftp, process, workload
from colo_bridge.lab.ftp import FtpMode
from colo_bridge.lab.layout import (
    CHECKPOINT_LOG,
    CONFIG_FILE,
    DAEMON_LOG,
    EVIDENCE_DIR,
    GUEST_ADDRESS,
    GUEST_IPV6_ADDRESS,
    GUEST_NAME,
    GUESTS,
    Role,
)
from colo_bridge.lab.process import ProcessId
from colo_bridge.lab.topology import enter
from tests.captures import read_pcapng
from tests.lab.helpers import (
    COMMAND,
    SERVICE,
    colo,
    devices,
    lab,
    nothing_is_left,
    on_host,
    received_bytes,
    wait_until,
)

RULES = "for family in ip ip6; do for variant in legacy nft; do ${family}tables-$variant -t mangle -S; done; done"
OWN_DEVICES = {"lo", "cb-br0", "cb-c0", "cb-p0", "cb-s0"}
"""What cb-host has without a daemon."""
LENGTH = 20_000_000
OFFSET = 12_345_678
BUSY_BYTES = 1_000_000_000
"""A transfer that is still under way when something happens to the daemon."""


@pytest.fixture(scope="class")
def protected() -> Iterator[None]:
    # A stall ends with the compare timeout: a short one, or the tests wait for it.
    with lab("--set", "compare.timeout=1.0"):
        workload.start_service()
        yield


@pytest.fixture(scope="class")
def served(protected: None) -> Iterator[dict[Role, Path]]:
    """An FTP server in each guest; `same.bin` is equal in both, `marked.bin` differs at OFFSET."""
    root = files.directory(8 * LENGTH)
    try:
        directories = {guest: root / guest for guest in GUESTS}
        for directory in directories.values():
            directory.mkdir()
            files.make(directory / "same.bin", LENGTH, 1)
            files.make(directory / "marked.bin", LENGTH, 2)
        files.flip_byte(directories[Role.SECONDARY] / "marked.bin", OFFSET)
        ftp.serve(directories)
        yield directories
    finally:
        files.remove()


@contextmanager
def no_divergence() -> Iterator[None]:
    """Nothing but a stall may diverge in this block: that is another fault than unequal bytes."""
    before = _divergences()
    yield
    assert _divergences() == before, daemon.status()["last_divergence"]


@pytest.mark.usefixtures("protected")
class TestTransfers:
    @pytest.mark.parametrize("operation", ["get", "put"])
    def test_one_connection(self, operation: str) -> None:
        with no_divergence():
            report = workload.client([operation, "--bytes", "100000000", "--verify"])
        assert report["correct"], report

    @pytest.mark.parametrize("operation", ["get", "put"])
    @pytest.mark.parametrize("many", ["--connections", "--processes"])
    def test_fifty_at_once(self, operation: str, many: str) -> None:
        with no_divergence():
            report = workload.client([operation, "--bytes", "2000000", "--verify", many, "50"])
        assert len(report["connections"]) == 50
        assert report["correct"], [entry for entry in report["connections"] if not entry["correct"]]

    def test_turns(self) -> None:
        with no_divergence():
            assert workload.client(["turns", "--count", "2000"])["correct"]

    @pytest.mark.parametrize("mode", list(FtpMode))
    def test_ftp_get(self, served: dict[Role, Path], mode: FtpMode) -> None:
        with no_divergence():
            done = ftp.curl_get("same.bin", mode)
        assert not done.problem
        assert done.sha256 == files.sha256(served[Role.PRIMARY] / "same.bin")

    @pytest.mark.parametrize("mode", list(FtpMode))
    def test_ftp_put_reaches_both_guests(self, served: dict[Role, Path], mode: FtpMode) -> None:
        source = served[Role.PRIMARY] / "same.bin"
        with no_divergence():
            done = ftp.curl_put(source, f"up-{mode}.bin", mode)
        assert not done.problem
        assert files.sha256(served[Role.PRIMARY] / f"up-{mode}.bin") == files.sha256(source)
        # The secondary may still be writing, if a checkpoint released the primary's last answer.
        late = served[Role.SECONDARY] / f"up-{mode}.bin"
        wait_until(lambda: files.sha256(late) == files.sha256(source), 10, "the secondary has the file as well")

    def test_one_differing_byte_is_one_divergence_at_its_place(self, served: dict[Role, Path]) -> None:
        before = daemon.content_divergences()
        with ThreadPoolExecutor(1) as pool:
            transfer = pool.submit(ftp.curl_get, "marked.bin", FtpMode.PASSIVE)
            last = daemon.watch_divergence(before, transfer.done)
        done = transfer.result()
        assert not done.problem
        assert done.sha256 == files.sha256(served[Role.PRIMARY] / "marked.bin")
        assert daemon.content_divergences() == before + 1
        assert last
        assert (last["reason"], last["stream_offset"]) == ("content", OFFSET)
        bytes_there = tuple((directory / "marked.bin").read_bytes()[OFFSET] for directory in served.values())
        assert (last["primary_byte"], last["secondary_byte"]) == bytes_there
        self._is_kept(bytes_there)
        assert CHECKPOINT_LOG.exists()

    @staticmethod
    def _is_kept(bytes_there: tuple[int, ...]) -> None:
        """As evidence: a packet of each side with the byte in it, and a comment that says where."""
        wait_until(lambda: daemon.status()["counters"]["evidence_written"], 5, "evidence")
        (file,) = (EVIDENCE_DIR / GUEST_NAME).iterdir()
        kept = [packet for packet in read_pcapng(file) if f"byte {OFFSET} of the stream" in packet.comment]
        assert [packet.interface for packet in kept] == ["primary", "secondary"]
        assert all(byte in packet.data for byte, packet in zip(bytes_there, kept, strict=True))

    def test_after_the_divergence_all_is_compared_again(self, served: dict[Role, Path]) -> None:
        with no_divergence():
            assert ftp.curl_get("same.bin", FtpMode.PASSIVE).sha256 == files.sha256(served[Role.PRIMARY] / "same.bin")

    def test_status_counts_both_sides(self) -> None:
        status = json.loads(colo("lab", "status", "--json").stdout)
        assert status["lab"] == "protected"
        assert status["counters"]["primary_bytes"] > LENGTH
        assert status["counters"]["secondary_bytes"] > LENGTH


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_both_backends_carry_data_and_leave_nothing(backend: str) -> None:
    with lab("--backend", backend):
        workload.start_service()
        for command in ("iptables", "ip6tables"):
            assert "NFQUEUE" in on_host(f"{command}-{backend}", "-t", "mangle", "-S", "PREROUTING")
        for operation, address in itertools.product(("get", "put"), (GUEST_ADDRESS, GUEST_IPV6_ADDRESS)):
            report = workload.client([operation, "--host", address, "--bytes", str(LENGTH), "--verify"])
            assert report["correct"], report
        process.end(_daemon())
        assert _leftovers() == []


class TestFaults:
    """Each makes the state `unprotected` within two seconds, and is mended or stays reported."""

    @pytest.mark.usefixtures("protected")
    @pytest.mark.parametrize(
        "fault",
        [
            pytest.param("ip link set cb-br0 type bridge nf_call_iptables 0", id="bridge hook switched off"),
            pytest.param("ip link set cb-br0 type bridge nf_call_ip6tables 0", id="hook of IPv6 switched off"),
            pytest.param("iptables -t mangle -I PREROUTING 1 -j ACCEPT", id="foreign ACCEPT ahead"),
            pytest.param("ip6tables -t mangle -I PREROUTING 1 -j ACCEPT", id="foreign ACCEPT of IPv6 ahead"),
            pytest.param("printf '*mangle\\nCOMMIT\\n' | iptables-restore", id="rule removed by iptables-restore"),
            pytest.param("tc filter del dev cb-p0 egress", id="mirror filter deleted"),
            pytest.param(
                "ip link del cb-p0 && ip link add cb-p0 type veth peer name cb-p1 && ip link set cb-p0 master cb-br0 up"
                " && ip link set cb-p1 up",
                id="guest port deleted and created anew",
            ),
        ],
    )
    def test_is_noticed(self, fault: str) -> None:
        wait_until(lambda: daemon.status()["state"] == "protected", 10, "protected before the fault")
        noticed = _watch_for_unprotected()
        on_host("sh", "-c", fault)
        wait_until(noticed, 2, "the fault is noticed")
        wait_until(_mended_or_reported, 5, "mended, or still reported")


class TestDeadDaemon:
    def test_nothing_leaves_until_cleanup_and_then_nothing_is_left(self) -> None:
        with lab(), _busy_client() as client:
            process.kill(_daemon())
            wait_until(_client_is_quiet, 5, "nothing leaves any more")
            assert "NFQUEUE" in on_host("sh", "-c", RULES)
            on_host(*COMMAND, "cleanup", "--force", str(CONFIG_FILE))
            assert _leftovers() == []
            client.kill()

    def test_with_the_bypass_the_transfer_ends_unprotected(self) -> None:
        with lab("--set", "queue.bypass_when_dead=true"), _busy_client() as client:
            process.kill(_daemon())
            assert _report(client)["correct"]

    def test_a_restart_takes_over_and_says_what_is_unsynchronised(self) -> None:
        with lab(), _busy_client() as client:
            process.kill(_daemon())
            daemon.start()
            wait_until(_answers, 20, "the new daemon has taken over")
            assert _report(client)["correct"]
            counters = daemon.status()["counters"]
            assert counters["unsynchronised_packets"] > 0
            with no_divergence():
                assert workload.client(["get", "--bytes", str(LENGTH), "--verify"])["correct"]
            process.end(_daemon())
            assert _leftovers() == []


def test_down_removes_a_lab_whose_daemon_was_killed() -> None:
    with lab():
        process.kill(_daemon())
        assert colo("lab", "down").returncode == 0
        assert nothing_is_left()


def test_a_small_demo_is_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    plan = demo.Plan(small=5_000_000, large=20_000_000, marked=2_000_000, turns=200, rounds=1)
    status = demo.run(as_json=True, plan=plan)
    told = json.loads(capsys.readouterr().out)
    assert status == 0, [entry for entry in told["expectations"] if not entry["ok"]]
    assert told["divergences"]["content"] == 1
    assert len(told["throughput"]) == 6
    assert nothing_is_left()


def test_a_small_bench_has_the_promised_shape() -> None:
    done = colo("lab", "bench", "--json", "--ipv6", "--rounds", "1", "--megabytes", "20", "--turns", "200")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [run["mode"] for run in result["runs"]] == ["native", "protected"]
    assert set(result["median"]["get"]) == {"native_gbps", "protected_gbps", "ratio"}
    assert set(result["median"]["rr"]) == {"native_p50_us", "protected_p50_us", "ratio"}
    assert result["counters"]["primary_packets"] > 0
    assert nothing_is_left()


def _divergences() -> dict[str, int]:
    """All kinds but the stalls."""
    return {kind: count for kind, count in daemon.status()["divergences"].items() if kind != "timeout"}


def _daemon() -> ProcessId:
    found = daemon.find()
    assert found
    return found


@contextmanager
def _busy_client() -> Iterator[subprocess.Popen[str]]:
    """A client in mid-transfer."""
    workload.start_service()
    command = [*SERVICE, "get", "--bytes", str(BUSY_BYTES), "--verify", "--timeout", "20"]
    before = received_bytes(Role.CLIENT)
    with subprocess.Popen(enter(Role.CLIENT, command), stdout=subprocess.PIPE, text=True) as client:
        try:
            wait_until(lambda: received_bytes(Role.CLIENT) > before + LENGTH, 10, "the transfer is under way")
            yield client
        finally:
            client.kill()


def _report(client: subprocess.Popen[str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(client.communicate(timeout=60)[0])
    return report


def _client_is_quiet() -> bool:
    """Half a second, in which a primary without answers would have sent more than once, brings the client nothing."""
    before = received_bytes(Role.CLIENT)
    subprocess.run(enter(Role.CLIENT, ["sleep", "0.5"]), check=True)
    return received_bytes(Role.CLIENT) == before


def _answers() -> bool:
    """A daemon answers, and has come past its start."""
    try:
        return daemon.status()["state"] in ("protected", "unsynchronised")
    except Exception:
        return False


def _watch_for_unprotected() -> Callable[[], bool]:
    """True once the state is `unprotected`, or was between two looks: then the log says so."""
    seen = DAEMON_LOG.stat().st_size

    def noticed() -> bool:
        return daemon.status()["state"] == "unprotected" or "unprotected" in DAEMON_LOG.read_text()[seen:]

    return noticed


def _mended_or_reported() -> bool:
    status = daemon.status()
    return status["state"] == "protected" or bool(status["faults"])


def _leftovers() -> list[str]:
    """Rules, devices, qdiscs and settings in cb-host that a daemon made."""
    rules = on_host("sh", "-c", RULES).splitlines()
    found = [rule for rule in rules if "NFQUEUE" in rule]
    found += devices(Role.HOST) - OWN_DEVICES
    found += [line for line in on_host("tc", "qdisc").splitlines() if "clsact" in line or "ingress" in line]
    bridge = json.loads(on_host("ip", "-j", "-d", "link", "show", "cb-br0"))[0]["linkinfo"]["info_data"]
    return found + [hook for hook in ("nf_call_iptables", "nf_call_ip6tables") if bridge[hook]]
