"""Run one target under atheris: `python -m tests.fuzz NAME [LIBFUZZER-ARGUMENT…]`."""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=["colo_bridge"]):
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    atheris.Setup([sys.argv[0], *arguments], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
