"""The two directories that the guests serve, and the files in them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from colo_bridge.lab import files
from colo_bridge.lab.demo.story import Plan
from colo_bridge.lab.layout import GUESTS, Role

SMALL, LARGE, MARKED, UPLOAD = "small.bin", "large.bin", "marked.bin", "upload.bin"


@dataclass(frozen=True, slots=True)
class Mark:
    """The one byte in which the guests' files differ."""

    stream_offset: int
    """Index in the file, and so in the data connection's stream."""
    primary_byte: int
    secondary_byte: int


@dataclass(frozen=True, slots=True)
class Props:
    """What was laid out before the first act."""

    directories: dict[Role, Path]
    seeds: dict[str, int]
    digests: dict[str, str]
    """SHA-256 of the primary's files."""
    mark: Mark

    def primary(self, name: str) -> Path:
        return self.directories[Role.PRIMARY] / name

    def uploads(self) -> dict[Role, Path]:
        return {guest: directory / UPLOAD for guest, directory in self.directories.items()}

    def forget_upload(self) -> None:
        for upload in self.uploads().values():
            upload.unlink(missing_ok=True)


def room(plan: Plan) -> int:
    """Bytes that all files need together, with some to spare."""
    return plan.large + 4 * plan.small + 2 * plan.marked


def lay_out(plan: Plan, directory: Path) -> Props:
    """Make all files; those that are equal exist once, under two names."""
    directories = {guest: directory / guest for guest in GUESTS}
    for path in directories.values():
        path.mkdir()
    lengths = {SMALL: plan.small, LARGE: plan.large, MARKED: plan.marked}
    primary, secondary = directories.values()
    seeds = {name: seed for seed, name in enumerate(lengths)}
    digests = {name: files.make(primary / name, length, seeds[name]) for name, length in lengths.items()}
    for name in (SMALL, LARGE):
        os.link(primary / name, secondary / name)
    return Props(directories, seeds, digests, _mark(primary / MARKED, secondary / MARKED))


def _mark(primary: Path, secondary: Path) -> Mark:
    shutil.copyfile(primary, secondary)
    # Neither at an edge of the file nor of a segment.
    offset = primary.stat().st_size * 2 // 3 + 1
    return Mark(offset, *files.flip_byte(secondary, offset))
