"""Random sessions of two replicas: several connections, interleaved, with checkpoints, resets and limits.

A `Session` is a function of its seed.  `play` feeds it to a comparator; `Watch` keeps an independent,
slow account of what may leave, and is asked after every packet.  Numbers count from the SYN (0): the first byte is 1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Reason
from colo_bridge.compare.settings import Settings
from colo_bridge.wire.ipv4 import parse_ipv4
from colo_bridge.wire.packet import ACK, FIN, RST, SYN

_HEADER = struct.Struct("!BBHHHBBH4s4sHHIIHHHH")
_GUEST, _CLIENT = bytes((10, 0, 0, 2)), bytes((10, 0, 0, 9))
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Packet:
    """Octets [start, end) of one connection; a RST has none and stands at `start`.

    A keep-alive repeats an octet that is done with, as a byte of garbage.
    """

    connection: int
    start: int
    end: int
    ack: int
    reset: bool = False
    garbage: bool = False


@dataclass(slots=True)
class Connection:
    isn: int
    secondary_isn: int
    client_isn: int
    opened: bool
    """Whether the SYN is seen; otherwise it begins in midstream."""
    resets: bool
    """Whether it ends with a RST instead of a FIN."""
    streams: dict[bool, bytes]
    """What the primary (True) and the secondary (False) send."""
    port: int = 5000

    def ends(self, primary: bool) -> int:
        """The number behind the last byte: of the FIN or of the RST."""
        return len(self.streams[primary]) + 1

    @property
    def difference(self) -> int | None:
        """The first number at which the two sides do not have the same octet or the same end."""
        ours, theirs = self.streams[True], self.streams[False]
        for at, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            if one != other:
                return at + 1
        return min(len(ours), len(theirs)) + 1 if len(ours) != len(theirs) else None


@dataclass(slots=True)
class Session:
    connections: list[Connection]
    primary: list[list[Packet]]
    """What the primary sends in each connection, in order."""
    secondary: list[list[Packet]]


def make(random: Random, equal: bool = True, connections: int = 3) -> Session:
    session = Session([], [], [])
    for index in range(connections):
        connection = make_connection(random, equal, 5000 + index)
        final_ack = random.randrange(1, 300)
        session.connections.append(connection)
        session.primary.append(transmit(random, connection, index, True, final_ack))
        session.secondary.append(transmit(random, connection, index, False, final_ack))
    return session


def make_connection(random: Random, equal: bool, port: int) -> Connection:
    stream = random.randbytes(random.choice((1, 4, 30, 200)))
    return Connection(
        isn=_near_a_wrap(random, len(stream)),
        secondary_isn=random.getrandbits(32),
        client_isn=_near_a_wrap(random, 300),
        opened=random.random() < 0.8,
        resets=random.random() < 0.3,
        streams={True: stream, False: stream if equal or random.random() < 0.3 else spoil(random, stream)},
        port=port,
    )


def _near_a_wrap(random: Random, length: int) -> int:
    wrap = random.choice((0, 1 << 31, random.getrandbits(32)))
    return (wrap - random.randrange(length + 3)) & _MASK


def spoil(random: Random, stream: bytes) -> bytes:
    at = random.randrange(len(stream))
    kind = random.random()
    if kind < 0.7:
        return stream[:at] + bytes((stream[at] ^ random.randrange(1, 256),)) + stream[at + 1 :]
    return stream[:at] if kind < 0.85 else stream + random.randbytes(random.randrange(1, 9))


def transmit(
    random: Random, connection: Connection, index: int, primary: bool, final_ack: int, start: int | None = None
) -> list[Packet]:
    """One side's packets: cut, lost and sent again, repeated, reordered; every octet arrives at last."""
    last = connection.ends(primary)
    first = start if start is not None else 1
    end = last if connection.resets else last + 1
    pieces = _pieces(random, first, end)
    if not connection.opened and pieces:
        # In midstream the comparison starts at the primary's lowest byte; it must be the first one seen.
        pieces.insert(0, pieces.pop(pieces.index(min(pieces))))
    packets = [
        Packet(index, *piece, ack) for piece, ack in zip(pieces, _acks(random, len(pieces), final_ack), strict=True)
    ]
    for _ in range(random.randrange(3)):
        at = random.randrange(len(packets) + 1)
        ack = packets[at - 1].ack if at else 1
        packets.insert(at, Packet(index, first, first, ack))
    opening = [Packet(index, 0, 1, 1)] * random.choice((1, 1, 2)) if connection.opened and not start else []
    closing = [Packet(index, last, last, final_ack, reset=True)] if connection.resets else []
    return [*opening, *packets, Packet(index, end, end, final_ack), *closing]


def _pieces(random: Random, start: int, end: int) -> list[tuple[int, int]]:
    largest = random.choice((7, 50, 300)) if end - start > 40 else random.choice((1, 3, 50))
    pieces, at = [], start
    while at < end:
        stop = min(end, at + random.randrange(1, largest + 1))
        pieces.append((at, stop))
        at = stop
    for _ in range(random.randrange(len(pieces) + 1) if random.random() < 0.5 else 0):
        again = random.randrange(start, end)
        pieces.insert(random.randrange(1, len(pieces) + 1), (again, random.randrange(again + 1, end + 1)))
    for at in range(len(pieces) if random.random() < 0.5 else 0):
        other = min(len(pieces) - 1, at + random.randrange(5))
        pieces[at], pieces[other] = pieces[other], pieces[at]
    return pieces


def _acks(random: Random, count: int, final: int) -> list[int]:
    acks, ack = [], 1
    for _ in range(count):
        ack = min(final, ack + random.choice((0, 0, 1, 40)))
        acks.append(ack)
    return acks


def ipv4(connection: Connection, packet: Packet, primary: bool, bytes_of: bool | None = None) -> bytearray:
    """The packet on the wire; `bytes_of` says whose stream its payload is taken from."""
    side = primary if bytes_of is None else bytes_of
    stream, fin_at = connection.streams[side], connection.ends(side)
    flags = ACK | SYN * (packet.start == 0 and packet.end > 0 and not packet.garbage) | RST * packet.reset
    flags |= FIN * (packet.start < packet.end == fin_at + 1 and not packet.garbage)
    payload = stream[max(packet.start, 1) - 1 : min(packet.end, fin_at) - 1] if packet.end > 1 else b""
    if packet.garbage:
        payload = b"?" * (packet.end - packet.start)
    isn = connection.secondary_isn if flags & SYN and not primary else connection.isn
    header = _HEADER.pack(
        *(0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0, _GUEST, _CLIENT, 80, connection.port),
        *((isn + packet.start) & _MASK, (connection.client_isn + packet.ack) & _MASK, 5 << 12 | flags, 0, 0, 0),
    )
    return bytearray(header + payload)


@dataclass(slots=True)
class Account:
    """What may leave of one connection."""

    sent: dict[int, set[int]] = field(default_factory=dict)
    """For each number what the secondary sent there since the last checkpoint (FIN and SYN as -1)."""
    verified: set[int] = field(default_factory=set)
    """Numbers of octets that have left as equal."""
    base: int = -1
    """Below this number a checkpoint has released everything."""
    floor: int | None = None
    resets: set[int] = field(default_factory=set)
    primary_end: int = 0
    primary_ack: int | None = None


Token = tuple[int, Packet]


class Watch:
    """A comparator under observation."""

    def __init__(self, session: Session, settings: Settings | None = None) -> None:
        self.session = session
        self.settings = settings or Settings()
        self.comparator = Comparator(self.settings)
        self.accounts = [Account() for _ in session.connections]
        self.left_out: set[int] = set()
        """Connections that a rule leaves out of the comparison."""
        self.now = 0.0
        self.count = 0
        self.given: set[Token] = set()
        self.released: list[Token] = []
        self.dropped: list[Token] = []
        self.divergences: list[tuple[Reason, int, int | None]] = []
        """Reason, connection and number relative to the SYN."""

    def primary(self, packet: Packet) -> Token:
        account = self.accounts[packet.connection]
        if packet.end > packet.start:
            account.primary_end = max(account.primary_end, packet.end)
        account.primary_ack = max(account.primary_ack or 0, packet.ack)
        token = (self.count, packet)
        self.given.add(token)
        self._feed(packet, primary=True, token=token)
        return token

    def secondary(self, packet: Packet, bytes_of: bool = False) -> None:
        account = self.accounts[packet.connection]
        stream = self.session.connections[packet.connection].streams[bytes_of]
        if not packet.garbage:
            for number in range(packet.start, packet.end):
                account.sent.setdefault(number, set()).add(_octet(stream, number))
        account.floor = max(account.floor or 0, packet.ack)
        if packet.reset:
            account.resets.add(packet.start)
        self._feed(packet, primary=False, bytes_of=bytes_of)

    def _feed(self, packet: Packet, primary: bool, token: Token | None = None, bytes_of: bool | None = None) -> None:
        self.count += 1
        self.now += 0.0001
        buffer = ipv4(self.session.connections[packet.connection], packet, primary, bytes_of)
        parsed = parse_ipv4(buffer, 0, len(buffer))
        if primary:
            self.comparator.primary(parsed, token, self.now)
        else:
            self.comparator.secondary(parsed, self.now)
        buffer[:] = bytes(len(buffer))  # what has to wait must have been copied
        self.look()

    def look(self, checkpoint: bool = False) -> None:
        """Check what has just left, and take it."""
        comparator = self.comparator
        for token in comparator.released:
            if not checkpoint and token[1].connection not in self.left_out:
                self._may_leave(token[1])
            self.released.append(token)
        self.dropped += comparator.dropped
        for divergence in comparator.divergences:
            port = int.from_bytes(divergence.flow[10:12], "big")
            index = next(at for at, each in enumerate(self.session.connections) if each.port == port)
            isn = self.session.connections[index].isn
            at = None if divergence.sequence is None else (divergence.sequence - isn) & _MASK
            self.divergences.append((divergence.reason, index, at))
        for happened in (comparator.released, comparator.dropped, comparator.divergences):
            happened.clear()
        assert len(self.given) == len(self.released) + len(self.dropped) + comparator.held_packets
        if self.count % 8 == 0:
            self._limits_hold()

    def _may_leave(self, packet: Packet) -> None:
        account = self.accounts[packet.connection]
        if packet.reset:
            assert packet.start in account.resets or packet.start < account.base + 1, (
                f"only the primary resets: {packet}"
            )
            return
        assert account.floor is not None and packet.ack <= account.floor, f"above the floor {account.floor}: {packet}"
        stream = self.session.connections[packet.connection].streams[True]
        for number in range(packet.start, packet.end):
            equal = number < account.base or number in account.verified
            assert not packet.garbage or equal, f"a keep-alive ahead of the comparison: {packet}"
            assert equal or _octet(stream, number) in account.sent.get(number, ()), f"unequal at {number}: {packet}"
        account.verified.update(range(packet.start, packet.end))

    def _limits_hold(self) -> None:
        counters = self.comparator.counters()
        assert counters["held_packets_now"] <= self.settings.held_packets
        assert counters["held_bytes_now"] <= self.settings.held_bytes
        assert counters["secondary_packets_now"] <= self.settings.secondary_packets
        assert counters["secondary_bytes_now"] <= self.settings.secondary_bytes
        assert counters["connections_now"] <= self.settings.connections

    def checkpoint(self, synchronised: bool) -> None:
        self.comparator.checkpoint_done(synchronised)
        self.look(checkpoint=True)
        assert self.comparator.held_packets == 0
        for account in self.accounts:
            account.base = max(account.base, account.primary_end)
            account.sent.clear()
            account.resets.clear()
            if synchronised:
                account.floor = account.primary_ack

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.comparator.tick(self.now)
        self.look()

    @property
    def everything_left_once(self) -> bool:
        return len(set(self.released)) == len(self.released) and set(self.released) == self.given


def _octet(stream: bytes, number: int) -> int:
    return stream[number - 1] if 1 <= number <= len(stream) else -1


def play(random: Random, watch: Watch, session: Session, checkpoints: float = 0.0, synchronised: bool = True) -> None:
    """Feed both sides in random turns; after a synchronising checkpoint the secondary goes on as the primary."""
    primary = [list(packets) for packets in session.primary]
    secondary = [list(packets) for packets in session.secondary]
    copies = False
    while waiting := [queue for queue in (*primary, *secondary) if queue]:
        queue = random.choice(waiting)
        packet = queue.pop(0)
        if any(queue is other for other in primary):
            watch.primary(packet)
        else:
            watch.secondary(packet, bytes_of=copies)
        if random.random() < checkpoints:
            watch.checkpoint(synchronised)
            if synchronised:
                copies = True
                secondary = [goes_on(random, watch, session, index) for index in range(len(secondary))]


def goes_on(random: Random, watch: Watch, session: Session, index: int) -> list[Packet]:
    """What a secondary that has become a copy of the primary still sends."""
    connection, account = session.connections[index], watch.accounts[index]
    packets = session.primary[index]
    final_ack = max(packet.ack for packet in packets)
    start = account.primary_end or None
    last = connection.ends(True) + (not connection.resets)
    if start is not None and start >= last:
        end = connection.ends(True)
        closing = [Packet(index, end, end, final_ack, reset=True)] if connection.resets else []
        return [Packet(index, last, last, final_ack), *closing]
    return transmit(random, connection, index, True, final_ack, start)
