"""No test of the lab touches a lab of somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from colo_bridge.lab import files, ftp
from colo_bridge.lab.layout import GUESTS, Role
from tests.lab.helpers import nothing_is_left
from tests.lab.transfers import LENGTH, OFFSET


@pytest.fixture(scope="module", autouse=True)
def _only_lab() -> None:
    assert nothing_is_left(), "a lab is up already: colo-bridge lab down"


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
