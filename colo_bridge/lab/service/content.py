"""Pseudo-random bytes that any position and any seed give again."""

from __future__ import annotations

import hashlib
from functools import lru_cache

PERIOD = (1 << 20) + 7
"""Bytes until the content repeats: no multiple of any segment or buffer, so that misplaced bytes show."""
_OVERLAP = 1 << 20
"""The block goes on past its period, so that one slice of up to this many bytes starts anywhere."""


@lru_cache(maxsize=4)
def block(seed: int) -> memoryview:
    """The content of a seed: one period and the overlap."""
    period = hashlib.shake_128(f"colo-bridge {seed}".encode()).digest(PERIOD)
    return memoryview(period + period[:_OVERLAP])


def piece(content: memoryview, position: int, length: int) -> memoryview:
    """The content from `position` on: `length` bytes, of which at most 1 MiB comes at a time."""
    start = position % PERIOD
    return content[start : start + min(length, _OVERLAP)]


def first_difference(received: memoryview, expected: memoryview) -> int | None:
    """Index of the first byte that differs; None when all are equal (both have the same length)."""
    # Equal-length bytes compare at memcmp's speed, memoryviews do not.
    if bytes(received) == bytes(expected):
        return None
    return next(index for index, (ours, theirs) in enumerate(zip(received, expected, strict=True)) if ours != theirs)
