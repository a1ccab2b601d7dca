"""Random lives of two ports: connection after connection on each, with checkpoints, keep-alives and resets between.

Unlike `tests/traces.py`, which plays one connection each, this has what ends and what follows.  A life is a function of
its seed.  `tests/compare/sessions.py` keeps the account of what may leave, and is asked after every packet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.compare.sessions import Packet, Session, Watch, goes_on, make_connection, transmit

_PORTS = 2
_CHECKPOINT, _KEEP_ALIVE, _PROMPT = 0.005, 0.08, 0.3


@dataclass(slots=True)
class Port:
    """The connections that use it, one after the other, and where either side stands."""

    connections: list[int]
    primary_at: int = 0
    secondary_at: int = 0
    primary: list[Packet] = field(default_factory=list)
    """What the primary still sends in its present connection."""
    secondary: list[Packet] = field(default_factory=list)

    @property
    def present(self) -> int:
        return self.connections[self.primary_at]


class Life:
    def __init__(self, seed: int, equal: bool, synchronised: bool) -> None:
        self.random = random = Random(f"{seed} {equal} {synchronised}")
        self.equal = equal
        self.synchronised = synchronised
        self.session = Session([], [], [])
        self.ports = [self._port(5000 + number) for number in range(_PORTS)]
        self.watch = Watch(self.session)
        self.copies = False
        """Whether the secondary is a copy of the primary."""
        self.checkpoints = 0
        self.open: set[int] = set()
        self.looked = 0
        self.impatience = random.choice((0.0, _CHECKPOINT))

    def _port(self, number: int) -> Port:
        port = Port([])
        for turn in range(self.random.randrange(1, 4)):
            connection = make_connection(self.random, self.equal, number)
            if turn:
                connection.opened = True
                # A higher or a lower number than before, never the same: it is what tells the two apart.
                before = self.session.connections[-1].isn
                connection.client_isn = self.random.getrandbits(32)
                connection.isn = (before + self.random.choice((300, 1 << 30, 1 << 31, -300, -(1 << 30)))) % (1 << 32)
            index, final_ack = len(self.session.connections), self.random.randrange(1, 300)
            self.session.connections.append(connection)
            for primary, packets in ((True, self.session.primary), (False, self.session.secondary)):
                packets.append(transmit(self.random, connection, index, primary, final_ack))
            port.connections.append(index)
        port.primary, port.secondary = (
            list(packets[port.connections[0]]) for packets in (self.session.primary, self.session.secondary)
        )
        return port

    def play(self) -> Watch:
        while moves := [(port, side) for port in self.ports for side in (True, False) if self._may_send(port, side)]:
            port, side = self.random.choice(moves)
            self._send(port, side)
            if self.random.random() < _KEEP_ALIVE:
                self._keep_alive(port)
            wanted = self.watch.comparator.latched and self.random.random() < _PROMPT
            if wanted or self.random.random() < self.impatience or self._is_stuck():
                self._checkpoint()
        return self.watch

    def _may_send(self, port: Port, side: bool) -> bool:
        """A side goes on to the next connection once the client has all that the primary sent in this one."""
        at, left = (port.primary_at, port.primary) if side else (port.secondary_at, port.secondary)
        if left:
            # Only a client that has the primary's SYN lets either side go on.
            return left[0].start == 0 or self._is_open(left[0].connection)
        ended = at < port.primary_at or (not port.primary and not self._waits(port))
        return ended and at + 1 < len(port.connections)

    def _is_open(self, index: int) -> bool:
        """Whether the client has the primary's SYN."""
        self.open.update(packet.connection for _, packet in self.watch.released[self.looked :] if packet.start == 0)
        self.looked = len(self.watch.released)
        return index in self.open or not self.session.connections[index].opened

    def _waits(self, port: Port) -> bool:
        # Fast path: nothing is held at all.
        return self.watch.comparator.held_packets > 0 and any(
            token[1].connection == port.present for token in self.watch.given.difference(self.watch.released)
        )

    def _is_stuck(self) -> bool:
        """Nobody will send what is waited for: only streams that differ get there, or what a checkpoint passed by."""
        return not any(self._may_send(port, side) for port in self.ports for side in (True, False)) and bool(
            self.watch.comparator.held_packets
        )

    def _send(self, port: Port, side: bool) -> None:
        if side:
            if not port.primary:
                port.primary_at += 1
                port.primary = list(self.session.primary[port.present])
            self.watch.primary(port.primary.pop(0))
            return
        if not port.secondary:
            port.secondary_at += 1
            index = port.connections[port.secondary_at]
            port.secondary = list((self.session.primary if self.copies else self.session.secondary)[index])
        self.watch.secondary(port.secondary.pop(0), bytes_of=self.copies)

    def _keep_alive(self, port: Port) -> None:
        """Of one side alone, once the client has acknowledged all: with a byte of garbage or without."""
        account = self.watch.accounts[port.present]
        end, ack = account.primary_end, account.primary_ack
        idle = not self._waits(port) and (end - 1 in account.verified or end <= account.base)
        if not idle or ack is None or end < 1:
            return
        probe = Packet(port.present, end - 1, end - self.random.randrange(2), ack, garbage=True)
        if self.random.random() < 0.5 and port.secondary_at == port.primary_at:
            self._keep_alive_of_secondary(port, probe)
        elif account.floor is not None and ack <= account.floor:
            token = self.watch.primary(probe)
            assert token in self.watch.released, f"a keep-alive is held: {probe}"

    def _keep_alive_of_secondary(self, port: Port, probe: Packet) -> None:
        sent = self.watch.accounts[port.present].sent
        if sent and max(sent) < probe.start + 1:
            self.watch.secondary(Packet(probe.connection, probe.start, probe.end, 1, garbage=True))

    def _checkpoint(self) -> None:
        self.checkpoints += 1
        self.watch.checkpoint(self.synchronised)
        if not self.synchronised:
            self._repeat_syns()
            return
        self.copies = True
        for port in self.ports:
            port.secondary_at = port.primary_at
            port.secondary = goes_on(self.random, self.watch, self.session, port.present)

    def _repeat_syns(self) -> None:
        """The secondary's SYN is forgotten like all that it sent; without the client's answer it sends it again."""
        for port in self.ports:
            index = port.connections[port.secondary_at]
            if not self._is_open(index) and port.secondary[0].start > 0:
                port.secondary.insert(0, self.session.secondary[index][0])


def verify(seed: int) -> int:
    """Play the lives of this seed, equal and not, with both kinds of checkpoint; the number of packets played."""
    packets = 0
    for equal in (True, False):
        for synchronised in (True, False):
            life = Life(seed, equal, synchronised)
            watch = life.play()
            packets += watch.count
            which = f"seed {seed}, {equal=}, {synchronised=}"
            assert not (equal and watch.divergences), f"{which}: equal streams diverge: {watch.divergences}"
            assert not (equal and not life.checkpoints) or watch.everything_left_once, f"{which}: not all was released"
            watch.checkpoint(synchronised)
            assert watch.everything_left_once, f"{which}: not all was released in the end"
            assert watch.comparator.counters()["secondary_packets_now"] == 0, which
    return packets
