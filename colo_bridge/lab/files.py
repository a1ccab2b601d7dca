"""Large files whose bytes are known beforehand, kept in memory where there is room."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from colo_bridge.errors import OperatorError
from colo_bridge.lab.service.content import block, piece

_MEMORY = Path("/dev/shm")
_DISK = Path("/var/tmp")
_NAME = "cb-lab-files"
_PIECE = 1 << 20
_SPARE_MEMORY = 500_000_000
"""Bytes that the machine keeps for everything else."""


def directory(room: int) -> Path:
    """A new directory in a file system with `room` bytes free.

    Raises OperatorError when there is none, or when somebody else has one in use (or left one).
    """
    if any((place / _NAME).exists() for place in (_MEMORY, _DISK)):
        raise OperatorError("another demo runs, or left its files", "remove them with colo-bridge lab down")
    for place in (_MEMORY, _DISK):
        if _free(place) > room:
            found = place / _NAME
            found.mkdir(mode=0o700)
            return found
    raise OperatorError(f"no file system has {room / 1e9:.1f} GB free", f"make room in {_DISK}")


def remove() -> None:
    """Remove what `directory` made, here or in a process that crashed."""
    for place in (_MEMORY, _DISK):
        shutil.rmtree(place / _NAME, ignore_errors=True)


def make(file: Path, length: int, seed: int) -> str:
    """Write `length` deterministic bytes; returns their SHA-256."""
    content = block(seed)
    digest = hashlib.sha256()
    with file.open("wb") as output:
        for position in range(0, length, _PIECE):
            part = piece(content, position, min(_PIECE, length - position))
            digest.update(part)
            output.write(part)
    return digest.hexdigest()


def flip_byte(file: Path, offset: int) -> tuple[int, int]:
    """Change one byte of a file; returns its values before and after."""
    with file.open("r+b") as content:
        content.seek(offset)
        before = content.read(1)[0]
        content.seek(offset)
        content.write(bytes([before ^ 0xFF]))
    return before, before ^ 0xFF


def sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _free(place: Path) -> int:
    """Bytes that may be written there; in memory no more than the machine can spare."""
    if not place.is_dir():
        return 0
    free = shutil.disk_usage(place).free
    return min(free, _available_memory() - _SPARE_MEMORY) if place == _MEMORY else free


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kilobytes) * 1024
