"""Keep few inputs that reach together what all of them reach: `python -m tests.fuzz.keep NAME DIRECTORY…`.

tests/corpus/NAME is made anew from its present files and those in the directories.  Reaching means here to go from
one line of colo_bridge to another, within a function.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import colo_bridge

_CORPUS = Path(__file__).resolve().parent.parent / "corpus"
_PACKAGE = str(Path(colo_bridge.__file__).parent)
_LARGEST = 4_096

Step = tuple[str, int, int]


class Trace:
    """The steps from line to line that were taken."""

    def __init__(self) -> None:
        self.steps: set[Step] = set()
        self._lines: dict[FrameType, int] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Trace | None:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        if event == "line":
            self.steps.add((frame.f_code.co_filename, self._lines.get(frame, 0), frame.f_lineno))
            self._lines[frame] = frame.f_lineno
        elif event == "return":
            self._lines.pop(frame, None)
        return self


def steps_of(one_input: Any, data: bytes) -> set[Step]:
    trace = Trace()
    sys.settrace(trace)
    try:
        one_input(data)
    finally:
        sys.settrace(None)
    return trace.steps


def main() -> None:
    name, *directories = sys.argv[1:]
    one_input = importlib.import_module(f"tests.fuzz.fuzz_{name}").one_input
    corpus = _CORPUS / name
    files = [path for directory in (corpus, *map(Path, directories)) for path in directory.glob("*")]
    inputs = sorted({path.read_bytes() for path in files}, key=lambda data: (len(data), data))
    missing = {data: steps_of(one_input, data) for data in inputs if len(data) <= _LARGEST}
    kept: list[bytes] = []
    while missing:
        most = max(missing, key=lambda data: len(missing[data]))
        reached = missing.pop(most)
        kept.append(most)
        missing = {data: left for data, steps in missing.items() if (left := steps - reached)}
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    for data in kept:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{name}: {len(kept)} of {len(inputs)} inputs kept")


if __name__ == "__main__":
    main()
