"""What a daemon remembers of itself across a restart."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from colo_bridge.daemon.record import LIVE, YIELDED, Record
from colo_bridge.errors import OperatorError


def test_what_was_written_is_read_and_forgotten(tmp_path: Path) -> None:
    record = Record(str(tmp_path / "run"), "web")
    assert record.read() == ""
    for word in (LIVE, YIELDED):
        record.write(word)
        assert Record(str(tmp_path / "run"), "web").read() == word
    assert Record(str(tmp_path / "run"), "other").read() == ""
    record.forget()
    record.forget()
    assert record.read() == ""
    assert list((tmp_path / "run").iterdir()) == []


def test_what_could_not_be_kept_is_kept_when_it_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "run"
    place.write_text("no directory")
    record = Record(str(place), "web")
    record.keep(LIVE)
    record.keep(LIVE)
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]
    place.unlink()
    record.keep(LIVE)
    assert Record(str(place), "web").read() == LIVE


def test_nobody_else_may_change_it(tmp_path: Path) -> None:
    Record(str(tmp_path), "web").write(LIVE)
    assert stat.S_IMODE((tmp_path / "web.role").stat().st_mode) == 0o600


def test_what_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "web.role").mkdir()
    with pytest.raises(OperatorError, match="cannot read"):
        Record(str(tmp_path), "web").read()


def test_what_cannot_be_written_or_removed_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "web.role").mkdir()
    record = Record(str(tmp_path), "web")
    with pytest.raises(OperatorError, match="cannot write"):
        record.write(LIVE)
    with pytest.raises(OperatorError, match="cannot remove"):
        record.forget()
