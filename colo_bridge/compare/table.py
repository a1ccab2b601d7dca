"""All flows of a guest: found by key, bounded in number, forgotten when idle.

1. A connection in which a packet waits is never forgotten once it is open.
2. When the table is full, half-open and closed connections and datagram flows go first, oldest first.
3. After the idle ones of these a half-open connection goes of which only SYNs wait, for a second or longer.

Both cost the same however many flows there are: ageing and eviction look at a few flows a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from colo_bridge.compare.datagram import DatagramFlow
from colo_bridge.compare.flow import TcpFlow
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.rule import PassthroughFlow

Flow = TcpFlow | DatagramFlow | PassthroughFlow

_AGEING_LOOKS = 64
"""Flows that ageing looks at in each queue, at most; at more in a large table."""
_EVICTION_LOOKS = 8
"""Flows among which the longest idle is looked for."""
_LOOKS_IN_VAIN = 64
"""Flows that cannot be forgotten at which one eviction looks, at most, before it tries elsewhere."""


class Table:
    """`flows` finds them; each is also in one of two queues, by when it was last looked at."""

    __slots__ = ("_closing", "_counters", "_ledger", "_open", "_settings", "flows")

    def __init__(self, ledger: Ledger) -> None:
        self.flows: dict[bytes, Flow] = {}
        self._closing: dict[bytes, None] = {}
        self._open: dict[bytes, None] = {}
        self._ledger = ledger
        self._settings = ledger.settings
        self._counters = ledger.counters

    def add(self, key: bytes, flow: Flow) -> bool:
        """Take a new flow in; False: the table is full of flows that cannot be forgotten."""
        if len(self.flows) >= self._settings.connections and not self._evict(flow.active):
            return False
        self.flows[key] = flow
        self._closing[key] = None
        return True

    def expire(self, now: float) -> None:
        """Forget what was idle for too long; call it about once a second."""
        for queue in (self._closing, self._open):
            for key, flow in self._oldest(queue, max(_AGEING_LOOKS, len(queue) // 256)):
                limit = self._settings.closing_idle if flow.short_lived else self._settings.established_idle
                if flow.idle and now - flow.active > limit:
                    self.forget(key)
                    self._counters.connections_expired += 1

    def _evict(self, now: float) -> bool:
        victim = self._first_idle(self._closing, True) or self._half_open(now) or self._first_idle(self._open, False)
        if victim is None:
            return False
        self.forget(victim)
        self._counters.connections_evicted += 1
        return True

    def _first_idle(self, queue: dict[bytes, None], closing: bool) -> bytes | None:
        """The longest idle of the first few that can be forgotten.

        Flows that have come to be open since they were looked at last leave the first queue here, once.
        """
        in_vain = 0
        while queue and in_vain < min(len(queue), _LOOKS_IN_VAIN):
            looked = [entry for entry in self._oldest(queue, _EVICTION_LOOKS) if entry[1].closing >= closing]
            idle = [(flow.active, key) for key, flow in looked if flow.idle]
            if idle:
                return min(idle)[1]
            in_vain += len(looked)
        return None

    def _half_open(self, now: float) -> bytes | None:
        while (key := self._ledger.give_up_half_open(now)) is not None:
            # A SYN may wait in a connection that both sides have left, and its flow may be forgotten already.
            if (flow := self.flows.get(key)) is not None:
                return key if flow.idle else None
        return None

    def _oldest(self, queue: dict[bytes, None], count: int) -> Iterator[tuple[bytes, Flow]]:
        """Look at the flows that wait for it the longest; each goes to the end of the queue where it belongs."""
        for key in list(islice(queue, count)):
            flow = self.flows[key]
            del queue[key]
            (self._closing if flow.closing else self._open)[key] = None
            yield key, flow

    def clear(self) -> None:
        """Forget all of them; nothing of them may wait."""
        for flows in (self.flows, self._closing, self._open):
            flows.clear()

    def forget(self, key: bytes) -> None:
        del self.flows[key]
        self._closing.pop(key, None)
        self._open.pop(key, None)
