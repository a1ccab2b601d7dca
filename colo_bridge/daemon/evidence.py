"""What differed, kept as packets: a few pcapng files of bounded size and age, readable by their owner only.

1. The data path only puts a divergence into a short queue; a thread of its own encodes and writes, so
   that a slow or hung disk delays nothing.
2. What cannot be kept (too many at once, no room, no directory) is counted, and the guest goes on.
3. The oldest file goes first; what is written is whole blocks, also when the disk is full.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import stat
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from colo_bridge.compare.decisions import Divergence
from colo_bridge.config import EvidenceConfig
from colo_bridge.daemon import journal
from colo_bridge.wire import pcapng

log = logging.getLogger(__name__)

INTERFACES = ("primary", "secondary")
"""Names of the interfaces in each file, by which a replay tells the sides apart."""

_SUFFIX = ".pcapng"
_MOST_PER_SECOND = 10
_WAITING = 64
"""Divergences that wait for the disk."""
_FILES = 8
"""Files among which `max_bytes` is divided, and `max_age` too."""
_PRUNING = 60.0
"""Seconds between two looks for files that are too old."""
_STOPPING = 2.0
"""Seconds for which a stop waits for the disk."""


@dataclass(slots=True)
class EvidenceCounters:
    """Divergences, except where they say bytes or files."""

    evidence_written: int = 0
    evidence_written_bytes: int = 0
    evidence_skipped: int = 0
    """Not kept: more than a few a second, or the disk was too slow."""
    evidence_failed: int = 0
    """Not kept: writing failed."""
    evidence_removed_files: int = 0


class Evidence:
    """Keeps divergences; `keep` is all that the data path calls, and it never waits."""

    def __init__(self, config: EvidenceConfig, guest: str) -> None:
        self.counters = EvidenceCounters()
        self._files = _Files(config, Path(config.directory) / guest, self.counters)
        self._enabled = config.enabled
        self._waiting: queue.Queue[tuple[int, Divergence] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._second, self._in_second = 0, 0
        self._failing = False

    def start(self) -> None:
        if self._enabled:
            # A daemon thread: a disk that hangs for ever must not keep the process from ending.
            self._thread = threading.Thread(target=self._write_all, name="evidence", daemon=True)
            self._thread.start()

    def keep(self, divergence: Divergence) -> None:
        if self._thread is None:
            return
        now = time.time_ns()
        if not self._is_within_rate(now // 1_000_000_000):
            self.counters.evidence_skipped += 1
            return
        try:
            self._waiting.put_nowait((now, divergence))
        except queue.Full:
            self.counters.evidence_skipped += 1

    def close(self) -> None:
        """Write what waits, if the disk lets us."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_STOPPING)
        thread.join(_STOPPING)

    def _is_within_rate(self, second: int) -> bool:
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return self._in_second <= _MOST_PER_SECOND

    # In the thread.

    def _write_all(self) -> None:
        while True:
            try:
                waiting = self._waiting.get(timeout=_PRUNING)
            except queue.Empty:
                self._prune()
                continue
            if waiting is None:
                self._files.close()
                return
            self._write(*waiting)

    def _write(self, now: int, divergence: Divergence) -> None:
        try:
            self._files.write(now, divergence)
        except OSError as error:
            self.counters.evidence_failed += 1
            self._complain(error)
        else:
            self.counters.evidence_written += 1
            self._failing = False

    def _prune(self) -> None:
        try:
            self._files.prune(time.time_ns())
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        """Once, until it succeeds again."""
        if not self._failing:
            log.error("evidence cannot be written, the guest goes on: %s", error)
        self._failing = True


class _Files:
    """The directory of one guest, and the file that is being written."""

    def __init__(self, config: EvidenceConfig, directory: Path, counters: EvidenceCounters) -> None:
        self._snap_length = config.snap_length
        self._most_bytes = config.max_bytes
        self._max_age = int(config.max_age * 1e9)
        self._directory = directory
        self._counters = counters
        self._file: int | None = None
        self._name = ""
        self._size, self._began = 0, 0

    def write(self, now: int, divergence: Divergence) -> None:
        """Append both packets, or raise OSError and leave what there was."""
        packets = self._encode(now, divergence)
        if self._file is not None and self._is_done(now, len(packets)):
            self.close()
        if self._file is None:
            self._open(now)
        self._append(packets)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def prune(self, now: int) -> None:
        """Remove what is too old, and the oldest files until another one has room."""
        if self._file is not None and self._is_done(now, 0):
            self.close()
        files = sorted(self._directory.glob(f"*{_SUFFIX}")) if self._directory.is_dir() else []
        sizes = {path: path.stat() for path in files if self._file is None or path.name != self._name}
        room = self._most_bytes - self._most_bytes // _FILES
        total = sum(found.st_size for found in sizes.values())
        for path, found in sizes.items():
            if total > room or found.st_mtime_ns < now - self._max_age:
                path.unlink()
                total -= found.st_size
                self._counters.evidence_removed_files += 1

    def _encode(self, now: int, divergence: Divergence) -> bytes:
        comment = journal.sentence(divergence)
        both = enumerate((divergence.primary_packet, divergence.secondary_packet))
        # Where neither packet is kept, an empty one carries the comment.
        shown = [(interface, data) for interface, data in both if data is not None] or [(0, b"")]
        return b"".join(pcapng.packet(interface, now, data, self._snap_length, comment) for interface, data in shown)

    def _is_done(self, now: int, more: int) -> bool:
        too_large = self._size + more > self._most_bytes // _FILES
        return too_large or now - self._began > self._max_age // _FILES

    def _open(self, now: int) -> None:
        self._prepare_directory()
        self.prune(now)
        moment = datetime.fromtimestamp(now / 1e9, UTC)
        self._name = f"{moment:%Y%m%dT%H%M%S.%fZ}{_SUFFIX}"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        self._file = os.open(self._directory / self._name, flags, 0o600)
        self._size, self._began = 0, now
        self._append(pcapng.section(INTERFACES, self._snap_length))

    def _prepare_directory(self) -> None:
        """Ours, and nobody else may look into it: then nobody can have put links there."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{self._directory} is not a directory of this user's own")
        if stat.S_IMODE(found.st_mode) != 0o700:
            self._directory.chmod(0o700)

    def _append(self, data: bytes) -> None:
        """All of it or nothing: a block that breaks off would make the file unreadable."""
        assert self._file is not None
        try:
            if os.write(self._file, data) < len(data):
                raise OSError(f"no room for {self._directory / self._name}")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
                if not self._size:
                    (self._directory / self._name).unlink()
            self.close()
            raise
        self._size += len(data)
        self._counters.evidence_written_bytes += len(data)
