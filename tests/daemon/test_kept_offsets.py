"""The offsets of a live guest outlive its daemon."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from colo_bridge.daemon.kept_offsets import KeptOffsets
from colo_bridge.rewrite.inheritance import Offsets

OFFSETS = {"net0": [Offsets(bytes(range(12)), -5, 7)], "net1": []}


def test_they_are_read_as_they_were_kept(tmp_path: Path) -> None:
    KeptOffsets(str(tmp_path / "run"), "web").keep(OFFSETS)
    assert KeptOffsets(str(tmp_path / "run"), "web").read() == OFFSETS
    assert (tmp_path / "run/web.offsets").stat().st_mode & 0o777 == 0o600


def test_nothing_is_read_where_nothing_was_kept_or_it_was_forgotten(tmp_path: Path) -> None:
    kept = KeptOffsets(str(tmp_path), "web")
    kept.forget()
    assert kept.read() == {}
    kept.keep(OFFSETS)
    kept.forget()
    assert kept.read() == {}


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    kept = KeptOffsets(str(tmp_path), "web")
    kept.keep(OFFSETS)
    kept.forget()
    kept.keep(dict(OFFSETS))
    assert kept.read() == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"net0": 1}', '{"net0": [["xy", 1, 1]]}', '{"net0": [[1, 1]]}'])
def test_a_file_that_makes_no_sense_costs_these_connections_only(tmp_path: Path, caplog, text: str) -> None:
    (tmp_path / "web.offsets").write_text(text)
    assert KeptOffsets(str(tmp_path), "web").read() == {}
    assert "are lost" in caplog.text


def test_what_cannot_be_written_is_told_once(tmp_path: Path, caplog) -> None:
    (tmp_path / "run").write_text("no directory")
    kept = KeptOffsets(str(tmp_path / "run"), "web")
    with caplog.at_level(logging.ERROR):
        kept.keep(OFFSETS)
        kept.keep({})
    assert len(caplog.records) == 1
