"""What every protected lab has to show, whatever its shape: right bytes, and one divergence at its place."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.lab import daemon, files, ftp, workload
from colo_bridge.lab.ftp import FtpMode
from colo_bridge.lab.layout import CHECKPOINT_LOG, EVIDENCE_DIR, GUEST_NAME, Role
from colo_bridge.lab.topology import enter
from tests.captures import read_pcapng
from tests.lab.helpers import SERVICE, colo, received_bytes, wait_until

LENGTH = 20_000_000
OFFSET = 12_345_678
"""Of the byte in which the guests' `marked.bin` differ."""
BUSY_BYTES = 1_000_000_000
"""A transfer that is still under way when something happens to a daemon."""


@contextmanager
def no_divergence() -> Iterator[None]:
    """Nothing but a stall may diverge in this block: that is another fault than unequal bytes."""
    before = _divergences()
    yield
    assert _divergences() == before, daemon.status()["last_divergence"]


class Transfers:
    """The fixtures `protected` and `served` say in which lab."""

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


def _divergences() -> dict[str, int]:
    """All kinds but the stalls."""
    return {kind: count for kind, count in daemon.status()["divergences"].items() if kind != "timeout"}


@contextmanager
def busy_client() -> Iterator[subprocess.Popen[str]]:
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


def report_of(client: subprocess.Popen[str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(client.communicate(timeout=60)[0])
    return report


def client_is_quiet() -> bool:
    """Half a second, in which a primary without answers would have sent more than once, brings the client nothing."""
    before = received_bytes(Role.CLIENT)
    subprocess.run(enter(Role.CLIENT, ["sleep", "0.5"]), check=True)
    return received_bytes(Role.CLIENT) == before
