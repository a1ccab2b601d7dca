"""All flows of a guest: found by key, bounded in number, forgotten when idle.

1. A flow in which a packet waits is never forgotten.
2. When the table is full, half-open and closed connections and datagram flows go first, oldest first.

Both cost the same however many flows there are: ageing and eviction look at a few flows a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from colo_bridge.compare.datagram import DatagramFlow
from colo_bridge.compare.decisions import Counters
from colo_bridge.compare.flow import TcpFlow
from colo_bridge.compare.rule import PassthroughFlow
from colo_bridge.compare.settings import Settings

Flow = TcpFlow | DatagramFlow | PassthroughFlow

_LOOKS = 64
"""Flows that one call looks at in each queue, at most; ageing at more, in a large table."""


class Table:
    """`flows` finds them; each is also in one of two queues, by when it was last looked at."""

    __slots__ = ("_closing", "_counters", "_open", "_settings", "flows")

    def __init__(self, settings: Settings, counters: Counters) -> None:
        self.flows: dict[bytes, Flow] = {}
        self._closing: dict[bytes, None] = {}
        self._open: dict[bytes, None] = {}
        self._settings = settings
        self._counters = counters

    def add(self, key: bytes, flow: Flow) -> bool:
        """Take a new flow in; False: the table is full of flows that cannot be forgotten."""
        if len(self.flows) >= self._settings.connections and not self._evict():
            return False
        self.flows[key] = flow
        self._closing[key] = None
        return True

    def expire(self, now: float) -> None:
        """Forget what was idle for too long; call it about once a second."""
        for queue in (self._closing, self._open):
            for key, flow in self._oldest(queue, max(_LOOKS, len(queue) // 256)):
                limit = self._settings.closing_idle if flow.short_lived else self._settings.established_idle
                if flow.idle and now - flow.active > limit:
                    self.forget(key)
                    self._counters.connections_expired += 1

    def _evict(self) -> bool:
        victim = self._first_idle(self._closing, True) or self._first_idle(self._open, False)
        if victim is None:
            return False
        self.forget(victim)
        self._counters.connections_evicted += 1
        return True

    def _first_idle(self, queue: dict[bytes, None], closing: bool) -> bytes | None:
        """The longest idle of the first few that can be forgotten.

        Flows that have come to be open since they were looked at last leave the first queue here, once.
        """
        for _ in range(0, len(queue), _LOOKS):
            idle = [
                (flow.active, key) for key, flow in self._oldest(queue, _LOOKS) if flow.idle and flow.closing >= closing
            ]
            if idle:
                return min(idle)[1]
        return None

    def _oldest(self, queue: dict[bytes, None], count: int) -> Iterator[tuple[bytes, Flow]]:
        """Look at the flows that wait for it the longest; each goes to the end of the queue where it belongs."""
        for key in list(islice(queue, count)):
            flow = self.flows[key]
            del queue[key]
            (self._closing if flow.closing else self._open)[key] = None
            yield key, flow

    def forget(self, key: bytes) -> None:
        del self.flows[key]
        self._closing.pop(key, None)
        self._open.pop(key, None)
