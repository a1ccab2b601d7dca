"""QEMU's COLO over two hosts, run by scripts/test-hypervisor and no part of the ordinary tests."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from colo_bridge.lab import daemon, failback
from colo_bridge.lab.guests import pair
from colo_bridge.lab.layout import GUEST_ADDRESS, LINK_ADDRESSES, LINK_TCP_PORT, Role
from colo_bridge.lab.shape import Host
from colo_bridge.lab.topology import enter
from tests.hypervisor.guests import FILE, ask_for_a_checkpoint, get, kill, sha256
from tests.hypervisor.relay import Phase
from tests.hypervisor.rig import OPTIONS, SECONDS, A, B, command, kill_daemon, states, two_hosts, wait_for_states
from tests.lab.helpers import wait_until

CHECKPOINTS = 100
HERE = Path(__file__).parent
RATE = 2_000_000
"""Bytes in a second, so that a download lasts for seven."""
DELAY = 0.05
"""Seconds that the slow link takes; a checkpoint takes a tenth of that."""
URL = f"http://{GUEST_ADDRESS}/file"


def fail_over(host: Host = B) -> None:
    command("failover", host, "--fenced")
    wait_until(lambda: daemon.state_of(host) == "live", SECONDS, f"{host.role} is live")


def lose(host: Host) -> None:
    """Its virtual machine and its daemon, at once."""
    kill(host.guest)
    kill_daemon(host)


class Download:
    """One by the client, that takes a while."""

    def __init__(self, target: Path, rate: int = RATE) -> None:
        self._target = target
        curl = ["curl", "-sS", "--max-time", "90", "--limit-rate", str(rate), "-w", "%{json}", "-o", str(target), URL]
        self._running = subprocess.Popen(enter(Role.CLIENT, curl), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def is_running(self) -> bool:
        return self._running.poll() is None

    def check(self) -> None:
        """It must end well, on the connection that it began on."""
        report, complaint = self._running.communicate()
        assert complaint == b""
        assert sha256(self._target.read_bytes()) == FILE
        assert json.loads(report)["num_connects"] == 1


def from_divergence_to_release() -> list[float]:
    """Seconds, by the log of the daemon that compares."""
    found, diverged = [], None
    for line in A.log_file.read_text().splitlines():
        if ": divergence (" in line and diverged is None:
            diverged = _time(line)
        elif " done" in line and ": checkpoint " in line and diverged is not None:
            found.append(_time(line) - diverged)
            diverged = None
    return found


def _time(line: str) -> float:
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


@pytest.mark.parametrize("_time_of_two", [1, 2])
def test_after_a_hundred_checkpoints_on_divergence_the_secondary_takes_over(tmp_path, _time_of_two) -> None:
    with two_hosts(tmp_path) as rig:
        before = daemon.status(A)["checkpoints"]
        for _ in range(CHECKPOINTS):
            assert get("/cgi-bin/clock").startswith(b"now at ")
        assert sha256(get("/file")) == FILE
        after = daemon.status(A)["checkpoints"]
        assert after["done"] - before["done"] >= CHECKPOINTS
        assert states() == ("protected", "standby")
        print(f"\ncheckpoints: { {key: after[key] - before[key] for key in ('done', 'failed', 'spoiled')} }")
        taken = from_divergence_to_release()
        print(f"from divergence to release: p50 {statistics.median(taken) * 1e3:.0f} ms, max {max(taken) * 1e3:.0f} ms")
        assert rig.sent_by(B) == []
        lost = time.time()
        lose(A)
        fail_over()
        assert get("/cgi-bin/clock").startswith(b"now at ")
        assert sha256(get("/file")) == FILE
        assert rig.sent_by(A, since=lost) == []


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name.lower())
def test_a_download_goes_on_when_the_primary_is_lost(tmp_path, phase) -> None:
    with two_hosts(tmp_path) as rig:
        download = Download(tmp_path / "file")
        time.sleep(2.0)
        rig.reach(phase)
        lost = time.time()
        lose(A)
        rig.relay.go_on()
        fail_over()
        download.check()
        assert len(rig.sent_by(B, since=lost)) > 10


def test_a_survivor_takes_a_secondary_which_takes_over_from_it(tmp_path) -> None:
    with two_hosts(tmp_path) as rig:
        first = Download(tmp_path / "first", RATE // 4)
        lose(A)
        fail_over()
        began = time.time()
        failback.rebuild(OPTIONS)
        wait_until(lambda: daemon.state_of(A) == "unsynchronised", SECONDS, "the new one is there")
        command("protect", B)
        wait_for_states("standby", "protected")
        print(f"\nprotected again after {time.time() - began:.1f} s; no answer for {rig.silence(began):.1f} s at most")
        assert first.is_running()
        before = daemon.status(B)["checkpoints"]["done"]
        for _ in range(10):
            assert get("/cgi-bin/clock").startswith(b"now at ")
        assert daemon.status(B)["checkpoints"]["done"] - before >= 10
        second = Download(tmp_path / "second")
        time.sleep(2.0)
        lose(B)
        lost = time.time()
        fail_over(A)
        second.check()
        first.check()
        assert get("/cgi-bin/clock").startswith(b"now at ")
        assert rig.sent_by(B, since=lost) == []


def test_what_the_secondary_sent_before_a_checkpoint_is_never_compared_after_it(tmp_path) -> None:
    with two_hosts(tmp_path), slow_link():
        download = Download(tmp_path / "file")
        while download.is_running():
            ask_for_a_checkpoint()
            time.sleep(0.5)
        download.check()
        wait_for_states("protected", "standby")
        counters = daemon.status(A)["counters"]
        print(f"\nthrown away as stale: {counters['stale_packets']} of {counters['link_received_packets']}")
        assert counters["stale_packets"] > 0
        compared = counters["secondary_packets"] + counters["malformed_secondary"]
        assert counters["stale_packets"] + compared == counters["link_received_packets"]


@contextmanager
def slow_link() -> Iterator[None]:
    """What the secondary's daemon sends takes a while from now on, long enough for a checkpoint to overtake it."""
    text = B.config_file.read_text()
    peer = text.partition('peer = "')[2].partition('"')[0]
    here = f"{LINK_ADDRESSES[1]}:{LINK_TCP_PORT + 1}"
    slow = subprocess.Popen(enter(B.role, [sys.executable, str(HERE / "slow_link.py"), here, peer, str(DELAY)]))
    try:
        kill_daemon(B)
        B.config_file.write_text(text.replace(f'peer = "{peer}"', f'peer = "{here}"'))
        pair.put_first(daemon.start(B))
        wait_until(lambda: states() in (("protected", "standby"), ("solo", "unsynchronised")), SECONDS, "it is back")
        if daemon.state_of(A) == "solo":
            command("protect", A)
        wait_for_states("protected", "standby")
        yield
    finally:
        slow.kill()
        slow.wait()
