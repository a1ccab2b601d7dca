"""Offsets that outlive a failover: those of a live guest, kept by the rewriter of its new secondary.

Clients of connections that are older than a failover know other numbers than the guest that took over has.  Its
rewriter moves them for as long as it lives, and is compared with its own secondary in the guest's numbers: that one,
a copy, needs the same offsets as soon as it is the service in its turn, and not before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from colo_bridge.rewrite.limits import RewriteCounters, RewriteLimits


@dataclass(frozen=True, slots=True)
class Offsets:
    """The live guest's numbers minus those that the client of one connection knows."""

    connection: bytes
    """As the guest sends it."""
    sequence: int
    timestamp: int


class Inheritance:
    """What is to be taken over, of as many connections as a table has room for."""

    def __init__(self, limits: RewriteLimits, counters: RewriteCounters) -> None:
        self._limits = limits
        self._counters = counters
        self._offsets: dict[bytes, Offsets] = {}

    def __contains__(self, connection: bytes) -> bool:
        return connection in self._offsets

    def clear(self) -> None:
        self._offsets.clear()

    def add(self, offsets: Iterable[Offsets]) -> None:
        for each in offsets:
            if len(self._offsets) < self._limits.connections:
                self._offsets[each.connection] = each
            else:
                self._counters.inheritance_overflow += 1

    def ends(self, connection: bytes) -> None:
        """Another connection of the same name begins: its client will know its numbers as they are."""
        self._offsets.pop(connection, None)

    def take(self) -> list[Offsets]:
        """All of it; nothing is left."""
        taken, self._offsets = list(self._offsets.values()), {}
        self._counters.inherited += len(taken)
        return taken
