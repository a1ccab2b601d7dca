"""The lab with the real daemon: right bytes, one divergence at its place, and what happens when things break."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import pytest

from colo_bridge.lab import daemon, demo, process, workload
from colo_bridge.lab.layout import (
    CONFIG_FILE,
    DAEMON_LOG,
    GUEST_ADDRESS,
    GUEST_IPV6_ADDRESS,
    Role,
)
from colo_bridge.lab.process import ProcessId
from tests.lab.helpers import (
    COMMAND,
    colo,
    devices,
    lab,
    nothing_is_left,
    on_host,
    wait_until,
)
from tests.lab.transfers import LENGTH, Transfers, busy_client, client_is_quiet, no_divergence, report_of

RULES = "for family in ip ip6; do for variant in legacy nft; do ${family}tables-$variant -t mangle -S; done; done"
OWN_DEVICES = {"lo", "cb-br0", "cb-c0", "cb-p0", "cb-s0"}
"""What cb-host has without a daemon."""


@pytest.fixture(scope="class")
def protected() -> Iterator[None]:
    # A stall ends with the compare timeout: a short one, or the tests wait for it.
    with lab("--set", "compare.timeout=1.0"):
        workload.start_service()
        yield


@pytest.mark.usefixtures("protected")
class TestTransfers(Transfers):
    pass


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
        with lab(), busy_client() as client:
            process.kill(_daemon())
            wait_until(client_is_quiet, 5, "nothing leaves any more")
            assert "NFQUEUE" in on_host("sh", "-c", RULES)
            on_host(*COMMAND, "cleanup", "--force", str(CONFIG_FILE))
            assert _leftovers() == []
            client.kill()

    def test_with_the_bypass_the_transfer_ends_unprotected(self) -> None:
        with lab("--set", "queue.bypass_when_dead=true"), busy_client() as client:
            process.kill(_daemon())
            assert report_of(client)["correct"]

    def test_a_restart_takes_over_and_says_what_is_unsynchronised(self) -> None:
        with lab(), busy_client() as client:
            process.kill(_daemon())
            daemon.start()
            wait_until(_answers, 20, "the new daemon has taken over")
            assert report_of(client)["correct"]
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
    assert [outcome["operation"] for outcome in told["failovers"]] == ["download", "upload"]
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


def _daemon() -> ProcessId:
    found = daemon.find()
    assert found
    return found


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
