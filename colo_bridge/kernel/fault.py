"""Parts of a protection that are not in force, and how they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from colo_bridge.errors import ColoBridgeError

Probe = tuple[str, Callable[[], str]]
"""A part, and what tells its problem; empty: there is none."""

Step = tuple[str, Callable[[], None]]
"""A part, and what puts it in force."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One part of the protection that is not in force."""

    part: str
    """`port`, `tap`, `forward`, `uplink`, `queue`, `mirror`, `redirect`, `discard`, `hook` or `rule`."""
    problem: str


def answer(probe: Callable[[], str]) -> str:
    """A probe that fails is a fault as well."""
    try:
        return probe()
    except ColoBridgeError as error:
        return error.problem


def first(problems: Iterable[str]) -> str:
    return next((problem for problem in problems if problem), "")
