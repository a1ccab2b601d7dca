"""What differed is kept: whole, bounded, private, and without delaying or ending anything."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.config import EvidenceConfig
from colo_bridge.daemon import evidence as module
from colo_bridge.daemon.evidence import Evidence
from tests import packets
from tests.captures import Captured, read_pcapng

OURS, THEIRS = packets.udp(payload=b"ours")[14:], packets.udp(payload=b"theirs")[14:]
FLOW = bytes((0x40, 17, 10, 0, 0, 2, 10, 0, 0, 9, 0, 53, 0x13, 0x88))
MINUTE = 60_000_000_000

Make = Callable[..., Evidence]


def divergence(ours: bytes | None = OURS, theirs: bytes | None = THEIRS) -> Divergence:
    return Divergence(Reason.DATAGRAM, FLOW, "datagrams differ at byte 0", primary_packet=ours, secondary_packet=theirs)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "evidence" / "web"


@pytest.fixture
def make(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made = []
    monkeypatch.setattr(module, "_MOST_PER_SECOND", 1 << 30)

    def start(**keys: Any) -> Evidence:
        evidence = Evidence(EvidenceConfig(directory=str(directory.parent), **keys), "web")
        made.append(evidence)
        evidence.start()
        return evidence

    yield start
    for evidence in made:
        evidence.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time in nanoseconds, as the only element."""
    now = [time.time_ns()]
    monkeypatch.setattr(module.time, "time_ns", lambda: now[0])
    return now


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def keep(evidence: Evidence, what: Divergence, count: int = 1) -> None:
    """Wait until each has been written or has failed."""
    counters = evidence.counters
    for _ in range(count):
        done = counters.evidence_written + counters.evidence_failed
        evidence.keep(what)
        until(lambda done=done: counters.evidence_written + counters.evidence_failed > done)


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.pcapng"))


def content(directory: Path) -> list[Captured]:
    return [packet for file in files(directory) for packet in read_pcapng(file)]


def test_both_packets_are_written_with_what_differed(make: Make, directory: Path, clock: list[int]) -> None:
    evidence = make()
    keep(evidence, divergence())
    ours, theirs = content(directory)
    assert (ours.interface, ours.data, theirs.interface, theirs.data) == ("primary", OURS, "secondary", THEIRS)
    assert ours.comment == theirs.comment
    assert "divergence (datagram) in 10.0.0.2:53 > 10.0.0.9:5000 udp: datagrams differ at byte 0" in ours.comment
    assert ours.time == theirs.time == clock[0]
    assert evidence.counters.evidence_written_bytes == files(directory)[0].stat().st_size


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        (OURS, None, [("primary", OURS)]),
        (None, THEIRS, [("secondary", THEIRS)]),
        (None, None, [("primary", b"")]),
    ],
)
def test_what_is_not_at_hand_is_left_out(
    make: Make, directory: Path, ours: bytes | None, theirs: bytes | None, wanted: list[tuple[str, bytes]]
) -> None:
    keep(make(), divergence(ours, theirs))
    assert [(packet.interface, packet.data) for packet in content(directory)] == wanted


def test_only_the_owner_may_read_it(make: Make, directory: Path) -> None:
    before = os.umask(0)
    try:
        keep(make(), divergence())
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in files(directory)] == [0o600]


def test_a_directory_open_to_others_is_closed(make: Make, directory: Path) -> None:
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    keep(make(), divergence())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_link_in_place_of_the_directory_is_not_followed(make: Make, directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    directory.parent.mkdir()
    directory.symlink_to(elsewhere)
    evidence = make()
    keep(evidence, divergence())
    assert evidence.counters.evidence_failed == 1
    assert list(elsewhere.iterdir()) == []


def test_packets_are_cut_to_the_snap_length(make: Make, directory: Path) -> None:
    long = packets.udp(payload=bytes(500))[14:]
    keep(make(snap_length=64), divergence(long, None))
    assert [(packet.data, packet.length) for packet in content(directory)] == [(long[:64], len(long))]


def test_the_oldest_files_give_way_to_new_ones(make: Make, directory: Path, clock: list[int]) -> None:
    evidence, most = make(max_bytes=2 << 20), 2 << 20
    large = packets.udp(payload=bytes(60_000))[14:]
    for index in range(60):
        clock[0] += 1_000_000
        keep(evidence, divergence(large[:-1] + bytes((index,)), None))
        assert sum(file.stat().st_size for file in files(directory)) <= most
    assert evidence.counters.evidence_removed_files > 0
    assert [packet.data[-1] for packet in content(directory)] == list(range(60 - len(content(directory)), 60))
    assert len(content(directory)) > 25
    assert all(file.stat().st_size <= most // 8 for file in files(directory))


def test_old_files_are_removed_also_while_nothing_happens(
    make: Make, directory: Path, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PRUNING", 0.01)
    evidence = make(max_age=60)
    keep(evidence, divergence())
    assert len(files(directory)) == 1
    clock[0] += 2 * MINUTE
    until(lambda: not files(directory))
    keep(evidence, divergence())
    assert len(content(directory)) == 2


def test_files_that_cannot_be_removed_are_complained_about_once(
    make: Make, directory: Path, clock: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def refuse(path: Path) -> None:
        tries.append(path)
        raise PermissionError(f"{path} stays")

    monkeypatch.setattr(module, "_PRUNING", 0.01)
    keep(make(max_age=60), divergence())
    (file,) = files(directory)
    monkeypatch.setattr(module.Path, "unlink", refuse)
    clock[0] += 2 * MINUTE
    until(lambda: len(tries) >= 3)
    assert [record.message for record in caplog.records].count(
        f"evidence cannot be written, the guest goes on: {file} stays"
    ) == 1


def test_what_an_earlier_daemon_left_counts(make: Make, directory: Path, clock: list[int]) -> None:
    first = make()
    keep(first, divergence())
    first.close()
    (old,) = files(directory)
    os.utime(old, ns=(clock[0] - 100 * MINUTE, clock[0] - 100 * MINUTE))
    foreign = directory / "notes.txt"
    foreign.write_text("the operator's")
    clock[0] += 1_000_000
    keep(make(max_age=3_600), divergence())
    assert old not in files(directory)
    assert foreign.exists()


def test_more_than_a_few_a_second_are_skipped(
    make: Make, directory: Path, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = make()
    monkeypatch.setattr(module, "_MOST_PER_SECOND", 3)
    for _ in range(100):
        evidence.keep(divergence())
    assert evidence.counters.evidence_skipped == 97
    clock[0] += 1_000_000_000
    evidence.keep(divergence())
    evidence.close()
    assert evidence.counters.evidence_written == 4


def test_a_disk_that_hangs_delays_nobody(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    hung, real = threading.Event(), os.write
    monkeypatch.setattr(module.os, "write", lambda file, data: hung.wait(20) and real(file, data))
    evidence = make()
    for _ in range(1_000):
        evidence.keep(divergence())
    assert evidence.counters.evidence_skipped >= 1_000 - 64 - 1
    assert evidence.counters.evidence_written == 0
    hung.set()
    evidence.close()
    assert evidence.counters.evidence_written + evidence.counters.evidence_skipped == 1_000


def test_a_full_disk_is_counted_said_once_and_leaves_a_readable_file(
    make: Make, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evidence = make()
    keep(evidence, divergence())
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda file, data: real(file, data[:50]))
    with caplog.at_level(logging.ERROR):
        keep(evidence, divergence(), 5)
    monkeypatch.setattr(module.os, "write", real)
    assert evidence.counters.evidence_failed == 5
    assert [record.message for record in caplog.records if "no room" in record.message] == [caplog.records[0].message]
    keep(evidence, divergence())
    evidence.close()
    assert len(content(directory)) == 4


def test_a_directory_that_cannot_be_made_is_counted(make: Make, directory: Path) -> None:
    directory.parent.write_text("a file")
    evidence = make()
    keep(evidence, divergence(), 2)
    assert (evidence.counters.evidence_failed, evidence.counters.evidence_written) == (2, 0)


def test_nothing_is_kept_unless_wanted(make: Make, directory: Path) -> None:
    evidence = make(enabled=False)
    evidence.keep(divergence())
    evidence.close()
    assert not directory.exists()


def test_what_waits_is_written_at_the_end(make: Make, directory: Path) -> None:
    evidence = make()
    for _ in range(20):
        evidence.keep(divergence())
    evidence.close()
    assert len(content(directory)) == 40
