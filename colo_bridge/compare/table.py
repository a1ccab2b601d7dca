"""All flows of a guest: found by key, bounded in number, forgotten when idle.

1. A flow in which a packet waits is never forgotten.
2. When the table is full, half-open and closed flows go first, oldest first.

Both cost the same however many flows there are: ageing and eviction look at a few flows a call.
"""

from __future__ import annotations

from colo_bridge.compare.datagram import DatagramFlow
from colo_bridge.compare.decisions import Counters
from colo_bridge.compare.flow import TcpFlow
from colo_bridge.compare.settings import Settings

Flow = TcpFlow | DatagramFlow

_LOOKS = 64
"""Flows that one call looks at, at most."""


class Table:
    __slots__ = ("_counters", "_settings", "flows")

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self.flows: dict[bytes, Flow] = {}
        self._settings = settings
        self._counters = counters

    def add(self, key: bytes, flow: Flow) -> bool:
        """Take a new flow in; False: the table is full of flows that cannot be forgotten."""
        if len(self.flows) >= self._settings.connections and not self._evict():
            return False
        self.flows[key] = flow
        return True

    def expire(self, now: float) -> None:
        """Forget what was idle for too long; call it about once a second."""
        for key, flow in self._oldest(max(_LOOKS, len(self.flows) // 256)):
            limit = self._settings.closing_idle if flow.closing else self._settings.established_idle
            if flow.idle and now - flow.active > limit:
                self._counters.connections_expired += 1
            else:
                self.flows[key] = flow

    def _evict(self) -> bool:
        looked_at = list(self._oldest(_LOOKS))
        victim = min((pair for pair in looked_at if pair[1].idle), key=_eviction_order, default=None)
        for key, flow in looked_at:
            if victim is None or key != victim[0]:
                self.flows[key] = flow
        self._counters.connections_evicted += victim is not None
        return victim is not None

    def _oldest(self, count: int) -> list[tuple[bytes, Flow]]:
        """Take out the flows that were looked at the longest time ago."""
        keys = [key for key, _ in zip(self.flows, range(count), strict=False)]
        return [(key, self.flows.pop(key)) for key in keys]


def _eviction_order(pair: tuple[bytes, Flow]) -> tuple[bool, float]:
    return (not pair[1].closing, pair[1].active)
