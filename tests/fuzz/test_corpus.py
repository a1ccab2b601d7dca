"""The inputs that fuzzing has found worth keeping, and bad ones: none may be too much for its target."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.fuzz.fuzz_packet import CHECKPOINT, PRIMARY, Session, step
from tests.packets import udp

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests" / "corpus"
TARGETS = ("frame", "packet", "options", "configuration")
MOST_FILES, MOST_BYTES = 100, 4_096


def inputs(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


def target_of(name: str) -> ModuleType:
    return importlib.import_module(f"tests.fuzz.fuzz_{name}")


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    for path in inputs(name):
        target_of(name).one_input(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_stays_small(name: str) -> None:
    sizes = [path.stat().st_size for path in inputs(name)]
    assert 1 < len(sizes) <= MOST_FILES
    assert max(sizes) <= MOST_BYTES


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_at_all(name: str) -> None:
    target_of(name).one_input(b"")


def test_a_packet_that_is_forgotten_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_take", lambda _: None)
    with pytest.raises(AssertionError, match="forgotten"):
        Session().play(step(PRIMARY, udp()) + step(CHECKPOINT))


@pytest.mark.parametrize("arguments", [["frames"], ["--seconds"], ["--seconds", "long"], ["--minutes", "1"]])
def test_what_the_script_refuses(arguments: list[str]) -> None:
    finished = subprocess.run(
        [ROOT / "scripts" / "fuzz", *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith("colo-bridge: error: ")
