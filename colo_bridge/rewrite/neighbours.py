"""Who has which address on the guest's link: the secondary is told what the primary has heard.

The network never answers the secondary, because what it asks does not get there; and what the primary
knows already, it does not ask.  So the secondary's questions are answered from what it was sent.

1. Who tells its address by ARP or neighbour discovery is believed before whoever merely sent an IP packet
   from there: behind a router that may be half the world, which must not drive the link's own hosts out.
2. What is unknown is not answered, and nobody is told that another has its own hardware address.
3. An entry lives for as long as its neighbour is heard: answers do not prolong it.
"""

from __future__ import annotations

from collections import OrderedDict

from colo_bridge.rewrite.limits import RewriteCounters, RewriteLimits
from colo_bridge.wire.neighbour import Announcement, announced, answer, asked, plain_source, sender

_NOTED_EVERY = 1.0
"""Seconds after which the sender of a packet is noted again."""


class _Neighbour:
    __slots__ = ("hardware", "heard", "is_router")

    def __init__(self, hardware: bytes, heard: float) -> None:
        self.hardware = hardware
        self.heard = heard
        # Until it says otherwise: a guest that is told of a router that it is none gives up its routes.
        self.is_router = True


_Table = OrderedDict[bytes, _Neighbour]
"""The one heard last at the end."""


class Neighbours:
    def __init__(self, limits: RewriteLimits, counters: RewriteCounters) -> None:
        self._limits = limits
        self._counters = counters
        self._told: _Table = OrderedDict()
        self._seen: _Table = OrderedDict()

    def hear(self, frame: bytearray, start: int, end: int, now: float) -> None:
        """Learn from a well-formed frame for the guest."""
        # Fast path: datagrams come in numbers, and once in a while is often enough to note their sender.
        address, hardware = plain_source(frame, start)
        known = self._told.get(address) or self._seen.get(address)
        if known is not None and now - known.heard < _NOTED_EVERY and known.hardware == hardware:
            return
        told = announced(frame, start, end)
        if told is not None:
            neighbour = self._note(self._told, told, now)
            neighbour.hardware = told.hardware
            if told.is_router is not None:
                neighbour.is_router = told.is_router
            return
        seen = sender(frame, start, end)
        if seen is not None:
            self._see(seen, now)

    def answer(self, frame: bytearray, start: int, end: int) -> bytes | None:
        """The frame that answers the guest's, if that asks for a neighbour that is known."""
        question = asked(frame, start, end)
        if question is None:
            return None
        neighbour = self._told.get(question.name) or self._seen.get(question.name)
        if neighbour is None:
            self._counters.neighbours_unknown += 1
            return None
        if neighbour.hardware == question.asker_hardware:
            return None
        self._counters.neighbours_answered += 1
        return answer(question, neighbour.hardware, neighbour.is_router)

    def expire(self, now: float) -> None:
        for table in (self._told, self._seen):
            while table and now - next(iter(table.values())).heard >= self._limits.neighbour_idle:
                table.popitem(last=False)
                self._counters.neighbours_expired += 1

    def _see(self, seen: Announcement, now: float) -> None:
        told = self._told.get(seen.name)
        if told is None:
            self._note(self._seen, seen, now).hardware = seen.hardware
        elif told.hardware == seen.hardware:
            self._note(self._told, seen, now)

    def _note(self, table: _Table, heard: Announcement, now: float) -> _Neighbour:
        """The entry, made if it is new."""
        neighbour = table.get(heard.name)
        if neighbour is None:
            if len(table) >= self._limits.neighbours:
                table.popitem(last=False)
                self._counters.neighbours_evicted += 1
            neighbour = table[heard.name] = _Neighbour(heard.hardware, now)
        else:
            table.move_to_end(heard.name)
            neighbour.heard = now
        return neighbour
