"""Who has which address, as frames tell it: the guest's neighbours by what it is sent, the guest by what it sends.

1. Who tells its address by ARP or neighbour discovery is believed before whoever merely sent an IP packet from there:
   a router sends in the name of half the world, and that must not drive its link's own hosts out.
2. An entry lives for as long as its host is heard, and both tables are bounded.
3. Groups, the unspecified address and who looks whether an address is free tell nothing (`wire/neighbour.py`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict

from colo_bridge.rewrite.limits import RewriteCounters, RewriteLimits
from colo_bridge.wire.neighbour import Announcement, announced, plain_source, sender

_NOTED_EVERY = 1.0
"""Seconds after which the sender of a packet is noted again."""
_IPV4, _IPV6 = 4, 16
"""Lengths of names without a VLAN."""


class Host:
    """Who has an address."""

    __slots__ = ("hardware", "heard", "is_router")

    def __init__(self, hardware: bytes, heard: float) -> None:
        self.hardware = hardware
        self.heard = heard
        # Until it says otherwise: a guest that is told of a router that it is none gives up its routes.
        self.is_router = True


_Table = OrderedDict[bytes, Host]
"""The one heard last at the end."""


class Addresses(ABC):
    """Names are addresses behind the VLANs that they stand in, as in `Announcement`."""

    def __init__(self, most: int, idle: float) -> None:
        """`most` that told their address, and as many that were only seen to use it."""
        self._most = most
        self._idle = idle
        self._told: _Table = OrderedDict()
        self._seen: _Table = OrderedDict()

    @abstractmethod
    def _count_evicted(self) -> None: ...

    @abstractmethod
    def _count_expired(self) -> None: ...

    def hear(self, frame: bytearray, start: int, end: int, now: float) -> None:
        """Learn from a well-formed frame."""
        # Fast path: datagrams come in numbers, and once in a while is often enough to note their sender.
        address, hardware = plain_source(frame, start)
        known = self._told.get(address) or self._seen.get(address)
        if known is not None and now - known.heard < _NOTED_EVERY and known.hardware == hardware:
            return
        told = announced(frame, start, end)
        if told is not None:
            host = self._note(self._told, told, now)
            host.hardware = told.hardware
            if told.is_router is not None:
                host.is_router = told.is_router
            return
        seen = sender(frame, start, end)
        if seen is not None:
            self._see(seen, now)

    def find(self, name: bytes) -> Host | None:
        return self._told.get(name) or self._seen.get(name)

    def expire(self, now: float) -> None:
        for table in (self._told, self._seen):
            while table and now - next(iter(table.values())).heard >= self._idle:
                table.popitem(last=False)
                self._count_expired()

    def _see(self, seen: Announcement, now: float) -> None:
        told = self._told.get(seen.name)
        if told is None:
            self._note(self._seen, seen, now).hardware = seen.hardware
        elif told.hardware == seen.hardware:
            self._note(self._told, seen, now)

    def _note(self, table: _Table, heard: Announcement, now: float) -> Host:
        """The entry, made if it is new."""
        host = table.get(heard.name)
        if host is None:
            if len(table) >= self._most:
                table.popitem(last=False)
                self._count_evicted()
            host = table[heard.name] = Host(heard.hardware, now)
        else:
            table.move_to_end(heard.name)
            host.heard = now
        return host


class GuestAddresses(Addresses):
    """The guest's own: where it goes live, its link is told of them (`wire/announcement.py`)."""

    def __init__(self, limits: RewriteLimits, counters: RewriteCounters) -> None:
        super().__init__(limits.addresses, limits.neighbour_idle)
        self._counters = counters
        self.card = b""
        """The hardware address that it used last."""
        self._next_sample = -math.inf

    def sample(self, frame: bytearray, start: int, end: int, now: float) -> None:
        """Learn from one datagram a second: they come in numbers, and others tell the same."""
        if now >= self._next_sample:
            self._next_sample = now + _NOTED_EVERY
            self.hear(frame, start, end, now)

    def hear(self, frame: bytearray, start: int, end: int, now: float) -> None:
        self.card = bytes(frame[start + 6 : start + 12])
        super().hear(frame, start, end, now)

    def known(self) -> list[tuple[bytes, bytes]]:
        """Hardware address and address of each, without those in VLANs; no address: only the card is known.

        Of either family, those that were only seen count if none was told: a guest that routes sends from
        addresses of others, and nobody must be told that these are at its card.
        """
        found = []
        for family in (_IPV4, _IPV6):
            found += _of_family(self._told, family) or _of_family(self._seen, family)
        return found or ([(self.card, b"")] if self.card else [])

    def _count_evicted(self) -> None:
        self._counters.addresses_evicted += 1

    def _count_expired(self) -> None:
        self._counters.addresses_expired += 1


def _of_family(table: _Table, family: int) -> list[tuple[bytes, bytes]]:
    return [(host.hardware, name) for name, host in table.items() if len(name) == family]
