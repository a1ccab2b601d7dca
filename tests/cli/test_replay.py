"""`colo-bridge replay` over real files, as anybody may run it."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.cli.main import main
from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.config import EvidenceConfig
from colo_bridge.daemon.evidence import Evidence
from tests import packets
from tests.captures import (
    ALIKE,
    BEGAN,
    OTHER,
    SECOND,
    Frames,
    Replica,
    conversation,
    merged,
    over_ipv6,
    tagged,
    write_pcap,
    write_pcapng,
)

ANSWER = b"The answer is 42.\n" * 200
SPOILED = ANSWER[:1_700] + b"!" + ANSWER[1_701:]
NOT_EQUAL = 4

Replay = Callable[..., tuple[int, str]]


@pytest.fixture
def replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Replay:
    """Write both captures and compare them; the exit status and what was printed."""

    def run(primary: Frames, secondary: Frames, *options: str, **how: Any) -> tuple[int, str]:
        files = [
            write_pcap(tmp_path / f"{name}.pcap", frames, **how)
            for name, frames in (("primary", primary), ("secondary", secondary))
        ]
        return main(["replay", *map(str, files), *options]), capsys.readouterr().out

    return run


def both_directions(replica: Replica, **how: Any) -> Frames:
    return merged(*conversation(replica, **how))


def shifted(frames: Frames, nanoseconds: int) -> Frames:
    return [(time + nanoseconds, frame) for time, frame in frames]


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object, exit_status: int = 2) -> str:
    assert main(["replay", *map(str, arguments)]) == exit_status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("colo-bridge: error: ")
    return line


def test_equal_streams_cut_differently_are_equal(replay: Replay) -> None:
    status, printed = replay(conversation(ALIKE)[0], conversation(ALIKE, cut=700)[0])
    assert (status, printed.splitlines()[-1]) == (0, "equal")
    assert "primary: 8 packets from the guest, 0 to it, 0 others" in printed


def test_a_different_byte_is_found_and_named(replay: Replay) -> None:
    status, printed = replay(conversation(ALIKE)[0], conversation(ALIKE, response=SPOILED)[0])
    assert status == NOT_EQUAL
    assert "divergence (content) in 10.0.0.2:80 > 10.0.0.9:5000" in printed
    assert "byte 1700 of the stream" in printed
    assert printed.splitlines()[-1] == "diverged: 1 content"


def test_after_a_divergence_it_goes_on(replay: Replay) -> None:
    later = [(time + 5 * SECOND, frame) for time, frame in conversation(ALIKE)[0]]
    spoiled = [(time + 5 * SECOND, frame) for time, frame in conversation(ALIKE, response=SPOILED)[0]]
    other_port = [
        [(time, frame[:36] + (5001).to_bytes(2, "big") + frame[38:]) for time, frame in part]
        for part in (later, spoiled)
    ]
    ours = merged(conversation(ALIKE)[0], other_port[0])
    theirs = merged(conversation(ALIKE, response=SPOILED)[0], other_port[1])
    status, printed = replay(ours, theirs)
    assert (status, printed.count("divergence (content)")) == (NOT_EQUAL, 2)
    status, printed = replay(ours, theirs, "--no-checkpoint", "--json")
    assert json.loads(printed)["summary"]["counters"]["held_packets_now"] > 0


@pytest.mark.parametrize("options", [[], ["--guest", "10.0.0.2"], ["--guest", packets.GUEST_MAC.hex(":")]])
def test_of_both_directions_only_what_the_guest_sent_is_compared(replay: Replay, options: list[str]) -> None:
    status, printed = replay(both_directions(ALIKE), both_directions(ALIKE, cut=500), *options)
    assert (status, printed.splitlines()[-1]) == (0, "equal")
    assert "primary: 8 packets from the guest, 4 to it, 0 others" in printed
    assert f"({'as given' if options else 'learned; --guest says otherwise'})" in printed


@pytest.mark.parametrize("opens", [False, True])
@pytest.mark.parametrize("clients", [True, False])
def test_a_raw_secondary_is_translated(replay: Replay, opens: bool, clients: bool) -> None:
    """Its numbers are learned from the clients' packets, or without them from the primary's SYN."""
    sent, received = conversation(ALIKE, opens=opens)
    primary = merged(sent, received) if clients else sent
    secondary = shifted(conversation(OTHER, opens=opens, cut=900)[0], 100_000)
    guest = ["--guest", "10.0.0.2"] if clients else []
    status, printed = replay(primary, secondary, "--raw-secondary", *guest)
    assert (status, printed.splitlines()[-1]) == (0, "equal")
    assert "translated: 1 connections, 0 not" in printed
    assert replay(primary, secondary, *guest)[0] == NOT_EQUAL


def test_a_raw_secondary_that_differs_is_found(replay: Replay) -> None:
    secondary = conversation(OTHER, response=SPOILED)[0]
    status, printed = replay(both_directions(ALIKE), secondary, "--raw-secondary")
    assert status == NOT_EQUAL
    assert "byte 1700 of the stream" in printed


@pytest.mark.parametrize("change", [lambda frames: tagged(frames, 7), over_ipv6, lambda frames: tagged(frames, 0)])
def test_vlan_tags_and_ipv6_are_read(replay: Replay, change: Callable[[Frames], Frames]) -> None:
    ours, theirs = change(both_directions(ALIKE)), change(conversation(OTHER, cut=500)[0])
    assert replay(ours, theirs, "--raw-secondary")[0] == 0
    spoiled = change(conversation(OTHER, response=SPOILED)[0])
    status, printed = replay(ours, spoiled, "--raw-secondary")
    assert (status, "content" in printed) == (NOT_EQUAL, True)


def test_tags_of_different_vlans_are_not_the_same_connection(replay: Replay) -> None:
    assert replay(tagged(conversation(ALIKE)[0], 7), tagged(conversation(ALIKE)[0], 8))[0] == NOT_EQUAL


def test_pcapng_and_gzip_are_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ng = write_pcapng(tmp_path / "primary.pcapng", conversation(ALIKE)[0])
    plain = write_pcap(tmp_path / "secondary.pcap", conversation(ALIKE)[0], link_type=101, strip=14)
    packed = tmp_path / "secondary.pcap.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert main(["replay", str(ng), str(packed)]) == 0
    assert main(["replay", str(plain), str(ng)]) == 0


def test_packets_that_the_capture_cut_are_never_equal(replay: Replay) -> None:
    frames = conversation(ALIKE)[0]
    status, printed = replay(frames, frames, snap_length=200)
    assert status == NOT_EQUAL
    assert "divergence (cut short)" in printed
    assert "not compared: 4 cut short primary" in printed
    assert "not compared: 4 cut short secondary" in printed


def test_packets_of_a_cut_secondary_alone_are_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = conversation(ALIKE)[0]
    whole = write_pcap(tmp_path / "whole.pcap", frames)
    cut = write_pcap(tmp_path / "cut.pcap", frames, snap_length=200)
    assert main(["replay", str(whole), str(cut)]) == NOT_EQUAL
    assert "timeout" in capsys.readouterr().out


def test_a_secondary_that_stops_is_a_timeout(replay: Replay) -> None:
    frames = conversation(ALIKE)[0]
    status, printed = replay(frames, frames[:4], "--timestamps")
    assert status == NOT_EQUAL
    assert "the secondary has not sent what the primary sent" in printed
    assert printed.splitlines()[-1] == "diverged: 1 timeout"
    assert replay(frames[:4], frames)[0] == NOT_EQUAL


def test_malformed_packets_are_not_called_equal(replay: Replay) -> None:
    frames = conversation(ALIKE)[0]
    broken = (frames[-1][0], frames[3][1][:40])
    status, printed = replay([*frames, broken], frames)
    assert (status, printed.splitlines()[-1]) == (NOT_EQUAL, "not compared in full")
    assert "not compared: 1 malformed primary" in printed


@pytest.mark.parametrize("ahead", [3_600.5, -86_400.0])
def test_clocks_that_differ_are_aligned(replay: Replay, ahead: float) -> None:
    theirs = shifted(conversation(ALIKE)[0], round(ahead * SECOND))
    status, printed = replay(conversation(ALIKE)[0], theirs)
    assert status == 0
    assert f"the secondary's clock: {ahead:+.6f} s" in printed
    assert replay(conversation(ALIKE)[0], theirs, "--offset", str(ahead))[0] == 0
    assert replay(conversation(ALIKE)[0], theirs, "--offset", "0")[0] == NOT_EQUAL


def test_clocks_less_than_a_second_apart_are_left_alone(replay: Replay) -> None:
    late = shifted(conversation(ALIKE)[0], SECOND // 2)
    assert replay(conversation(ALIKE)[0], late)[0] == 0
    status, printed = replay(conversation(ALIKE)[0], late, "--timeout", "0.3")
    assert (status, "timeout" in printed) == (NOT_EQUAL, True)


def test_every_verdict_can_be_printed_with_its_time(replay: Replay) -> None:
    theirs = shifted(conversation(ALIKE)[0], 10_000_000)
    _, printed = replay(conversation(ALIKE)[0], theirs, "--verdicts", "--timestamps")
    verdicts = [line for line in printed.splitlines() if " release packet " in line]
    assert verdicts[0] == "    0.010000  release packet 1 10.0.0.2:80 > 10.0.0.9:5000"
    assert len(verdicts) == len(theirs)


def test_json_is_one_document(replay: Replay) -> None:
    status, printed = replay(
        both_directions(ALIKE), both_directions(ALIKE, response=SPOILED), "--json", "--timestamps", "--verdicts"
    )
    document = json.loads(printed)
    summary, events = document["summary"], document["events"]
    assert status == NOT_EQUAL
    assert (summary["result"], summary["guest"], summary["divergences"]) == ("diverged", ["10.0.0.2"], {"content": 1})
    assert summary["primary"]["from_guest"] == 8
    (divergence,) = [event for event in events if event["event"] == "divergence"]
    assert (divergence["reason"], divergence["stream_offset"]) == ("content", 1700)
    assert sorted(event["packet"] for event in events if event["event"] == "release") == sorted(
        {number + 1 for number, (_, frame) in enumerate(both_directions(ALIKE)) if frame[6:12] == packets.GUEST_MAC}
    )
    assert all("time" in event for event in events)


def test_evidence_can_be_compared_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = conversation(ALIKE)[0][3][1][14:]
    theirs = ours[:-1] + b"!"
    evidence = Evidence(EvidenceConfig(directory=str(tmp_path)), "web")
    evidence.start()
    evidence.keep(Divergence(Reason.CONTENT, ours[12:24], "", primary_packet=ours, secondary_packet=theirs))
    evidence.close()
    (file,) = (tmp_path / "web").iterdir()
    assert main(["replay", str(file)]) == NOT_EQUAL
    assert "divergence (content) in 10.0.0.2:80 > 10.0.0.9:5000" in capsys.readouterr().out


def test_one_capture_without_names_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_pcap(tmp_path / "one.pcap", conversation(ALIKE)[0])
    assert "has no names of interfaces" in complaint(capsys, file)


def test_no_packet_of_the_guest_is_not_equal(replay: Replay) -> None:
    frames = both_directions(ALIKE)
    status, printed = replay(frames, frames, "--guest", "192.0.2.1")
    assert (status, printed.splitlines()[-1]) == (NOT_EQUAL, "nothing to compare: no packet is the guest's")
    assert replay([], [])[0] == NOT_EQUAL


def test_a_guest_that_cannot_be_told_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    midstream = write_pcap(tmp_path / "x.pcap", both_directions(ALIKE)[2:])
    assert "--guest" in complaint(capsys, midstream, midstream)
    assert main(["replay", str(midstream), str(midstream), "--guest", "10.0.0.2"]) == 0


@pytest.mark.parametrize("content", [b"", b"GET / HTTP/1.0\r\n\r\n", b"\x0a\x0d\x0d\x0a" + bytes(40)])
def test_a_file_that_is_no_capture_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    good, bad = write_pcap(tmp_path / "good.pcap", conversation(ALIKE)[0]), tmp_path / "bad.pcap"
    bad.write_bytes(content)
    assert "bad.pcap" in complaint(capsys, good, bad)


def test_a_missing_file_or_a_directory_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_pcap(tmp_path / "good.pcap", conversation(ALIKE)[0])
    assert "cannot read" in complaint(capsys, good, tmp_path / "none.pcap")
    assert "cannot read" in complaint(capsys, tmp_path, good)


@pytest.mark.parametrize(
    "options",
    [["--guest", "somebody"], ["--timeout", "0"], ["--timeout", "nan"], ["--offset", "x"], ["--offset", "inf"]],
)
def test_a_wrong_option_is_status_2(options: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", "a.pcap", "b.pcap", *options])
    assert ended.value.code == 2


def test_a_malformed_packet_of_the_secondary_counts_too(replay: Replay) -> None:
    frames = conversation(ALIKE)[0]
    status, printed = replay(frames, [*frames, (frames[-1][0], frames[3][1][:40])])
    assert status == NOT_EQUAL
    assert "not compared: 1 malformed secondary" in printed


def test_packets_cut_within_their_headers_are_not_compared(replay: Replay) -> None:
    frames = conversation(ALIKE)[0]
    status, printed = replay(frames, frames, snap_length=30)
    assert (status, printed.splitlines()[-1]) == (NOT_EQUAL, "not compared in full")


def test_on_a_terminal_a_bar_shows_the_progress_and_nothing_else_changes(tmp_path: Path) -> None:
    files = [write_pcap(tmp_path / name, conversation(ALIKE)[0]) for name in ("a", "b")]
    outer, inner = pty.openpty()
    finished = subprocess.run(
        [sys.executable, "-m", "colo_bridge", "replay", *files],
        stdout=subprocess.PIPE,
        stderr=inner,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(inner)
    shown = os.read(outer, 1 << 16).decode()
    os.close(outer)
    assert "comparing" in shown
    assert finished.stdout.splitlines()[0].startswith("primary: 8 packets")
    assert finished.stdout.splitlines()[-1] == "equal"


def test_anybody_may_do_it() -> None:
    # Everything is imported before the privileges go: the interpreter may be root's alone.
    script = """
import os, sys
from colo_bridge.cli import replay_command
from colo_bridge.cli.main import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main())
"""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        files = [write_pcap(Path(directory) / name, conversation(ALIKE)[0]) for name in ("a", "b")]
        finished = subprocess.run(
            [sys.executable, "-c", script, "replay", *files], capture_output=True, text=True, timeout=60, check=False
        )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.splitlines()[-1] == "equal"


def test_the_time_of_the_first_packet_is_zero(replay: Replay) -> None:
    assert conversation(ALIKE)[0][0][0] > BEGAN
    _, printed = replay(conversation(ALIKE)[0], conversation(ALIKE)[0], "--verdicts", "--timestamps")
    assert printed.startswith("    0.000000  release packet 1")
