"""Adds up what the daemons of several protected rounds counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def add_up(rounds: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums; of `…_most` the largest, of `…_now` the last."""
    total: dict[str, int] = {}
    for counters in rounds:
        for name, value in counters.items():
            total[name] = _join(name, total.get(name, 0), value)
    return total


def _join(name: str, before: int, value: int) -> int:
    if name.endswith("_now"):
        return value
    return max(before, value) if name.endswith("_most") else before + value
