"""Writes the kind of TOML that a configuration consists of (Python reads it, but cannot write it)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping


def dump(document: Mapping[str, object]) -> str:
    """The document as TOML: plain values first, then tables and arrays of tables."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Mapping[str, object]) -> Iterator[str]:
    for key, value in document.items():
        if not _tables(value):
            yield f"{key} = {_scalar(value)}"
    for key, value in document.items():
        header = f"[{key}]" if isinstance(value, Mapping) else f"[[{key}]]"
        for table in _tables(value):
            yield from ("", header, *_lines(table))


def _tables(value: object) -> list[Mapping[str, object]]:
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list | tuple):
        return [item for item in value if isinstance(item, Mapping)]
    return []


def _scalar(value: object) -> str:
    """Booleans, finite numbers and lists of strings look in TOML as they do in JSON.

    So do strings once DEL is escaped too and astral characters are not split into surrogates.
    """
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
