"""A flood of SYNs from the client: half-open connections go first, established ones stay, memory stays bounded."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.settings import Settings
from colo_bridge.wire.packet import ACK, SYN, TcpPacket
from colo_bridge.wire.serial import Serial

_GUEST = bytes((10, 0, 0, 2))
_PORTS = struct.Struct("!HH")
ESTABLISHED = range(10_000_000, 10_000_020)
HONEST = range(20_000_000, 20_000_200)


def packet(client: int, start: int, payload: bytes = b"", flags: int = ACK) -> TcpPacket:
    """What the guest sends to one of many clients."""
    key = _GUEST + client.to_bytes(4, "big") + _PORTS.pack(80, 5000)
    buffer = bytearray(40) + payload
    return TcpPacket(key, buffer, 0, 20, 40, len(buffer), Serial(start), Serial(1), flags, 500)


@dataclass(slots=True)
class Flood:
    """A guest with established connections, each with a packet that waits, and with floods to come."""

    settings: Settings
    comparator: Comparator = field(init=False)
    now: float = 0.0
    random: Random = field(default_factory=lambda: Random(8))
    released: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.comparator = Comparator(self.settings)
        for client in ESTABLISHED:
            self.opens(client)
            self.primary(client, 1, b"first")
            self.secondary(client, 1, b"first")
            self.primary(client, 6, b"second")

    def primary(self, client: int, start: int, payload: bytes = b"", flags: int = ACK) -> None:
        token = f"{client} {start}"
        self.comparator.primary(packet(client, start, payload, flags), token, self.now)
        self._take()

    def secondary(self, client: int, start: int, payload: bytes = b"", flags: int = ACK) -> None:
        self.comparator.secondary(packet(client, start, payload, flags), self.now)
        self._take()

    def _take(self) -> None:
        self.released.update(self.comparator.released)
        self.dropped.update(self.comparator.dropped)
        self.comparator.released.clear()
        self.comparator.dropped.clear()

    def opens(self, client: int) -> None:
        self.primary(client, 0, flags=SYN | ACK)
        self.secondary(client, 0, flags=SYN | ACK)

    def syns(self, first: int, count: int, seconds: float, *, primary: bool = True, secondary: bool = True) -> None:
        for client in range(first, first + count):
            self.now += self.random.expovariate(count / seconds)
            if primary:
                self.primary(client, 0, flags=SYN | ACK)
            if secondary:
                self.secondary(client, 0, flags=SYN | ACK)
        self._bounds_hold()

    def _bounds_hold(self) -> None:
        counters = self.comparator.counters()
        assert counters["connections_now"] <= self.settings.connections
        assert counters["held_packets_now"] <= self.settings.held_packets
        assert counters["secondary_packets_now"] <= self.settings.secondary_packets

    def established_go_on(self) -> bool:
        """Whether what waited before the flood leaves now, and what comes after it does."""
        for client in ESTABLISHED:
            self.secondary(client, 6, b"second")
            self.primary(client, 12, b"third")
            self.secondary(client, 12, b"third")
        wanted = {f"{client} {start}" for client in ESTABLISHED for start in (6, 12)}
        return wanted <= self.released

    def __getitem__(self, counter: str) -> int:
        return self.comparator.counters()[counter]


def test_half_open_connections_go_first_and_oldest_first() -> None:
    """A hundred thousand spoofed clients, and both replicas answer."""
    flood = Flood(Settings(connections=1_000))
    flood.syns(0, 100_000, seconds=10)
    assert flood["connections_now"] == 1_000
    assert flood["connections_evicted"] == 100_000 + len(ESTABLISHED) - 1_000
    assert flood["connection_limit_drops"] == flood["held_limit_drops"] == 0
    followed = [client for client in range(100_000) if packet(client, 0).connection in flood.comparator._flows]
    assert min(followed) >= 100_000 - 1_000
    assert flood.established_go_on()


@pytest.mark.parametrize(("primary", "secondary"), [(True, False), (False, True)])
@pytest.mark.parametrize("settings", [Settings(), Settings(connections=1_000)])
def test_a_flood_that_one_replica_alone_answers(settings: Settings, primary: bool, secondary: bool) -> None:
    """Each of its SYNs waits for the other side's, and they want all the room that there is."""
    flood = Flood(settings)
    flood.syns(0, 20_000, seconds=4, primary=primary, secondary=secondary)
    assert flood.established_go_on()
    assert flood["connections_evicted"] + flood["half_open_drops"] > 0


@pytest.mark.parametrize(("primary", "secondary"), [(True, False), (False, True)])
def test_new_clients_get_in_during_a_flood_that_one_replica_alone_answers(primary: bool, secondary: bool) -> None:
    """With every try that a client makes, as long as there is room for the SYNs of one second."""
    flood = Flood(Settings())
    first = 0
    for client in HONEST:
        flood.syns(first, 200, seconds=0.1, primary=primary, secondary=secondary)
        first += 200
        flood.opens(client)
    assert {f"{client} 0" for client in HONEST} <= flood.released


def test_some_new_clients_get_in_during_a_flood_that_no_limit_was_made_for() -> None:
    """Twice the SYNs that half the room takes in a second, and the secondary answers only new clients."""
    flood = Flood(Settings(held_packets=1_000))
    first = 0
    for client in HONEST:
        flood.syns(first, 100, seconds=0.1, secondary=False)
        first += 100
        flood.opens(client)
    assert len({f"{client} 0" for client in HONEST} & flood.released) > len(HONEST) // 4
    assert flood["half_open_drops"] > 0
    assert flood.established_go_on()


def test_a_syn_that_was_given_up_is_compared_when_it_is_sent_again() -> None:
    flood = Flood(Settings(held_packets=100))
    flood.syns(0, 50, seconds=0.5, secondary=False)
    flood.syns(50, 50, seconds=1.5, secondary=False)
    assert "0 0" in flood.dropped
    flood.now += 2
    flood.primary(0, 0, flags=SYN | ACK)
    flood.secondary(0, 0, flags=SYN | ACK)
    assert "0 0" in flood.released


def test_a_secondary_syn_for_which_there_is_no_room_does_not_keep_its_connection_for_ever() -> None:
    flood = Flood(Settings(secondary_packets=10, closing_idle=60))
    flood.syns(0, 100, seconds=0.5, primary=False)
    flood.comparator.checkpoint_done(synchronised=False)
    for _ in range(10):
        flood.comparator.age(1_000)
    assert flood["connections_now"] == len(ESTABLISHED)
