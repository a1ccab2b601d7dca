"""Random traces of two replicas that send the same stream, each cut, repeated, reordered and delayed in its own way.

`play` feeds one to a comparator and checks, after every packet, that nothing left which both did not produce.
A trace is a function of its seed; so is everything that is reported about it.  Some traces are of IPv6, in a VLAN, or
of segments in fragments.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Reason
from colo_bridge.compare.settings import Settings
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import ACK, FIN, SYN
from tests import forms
from tests.packets import ethernet

_HEADER = struct.Struct("!BBHHHBBH4s4sHHIIHHHH")
_GUEST, _CLIENT = bytes((10, 0, 0, 2)), bytes((10, 0, 0, 9))
_MASK = 0xFFFFFFFF
_FORMS = ("IPv4",) * 5 + ("IPv6", "VLAN", "fragments")


@dataclass(frozen=True, slots=True)
class Sent:
    """One packet: octets [start, end) of the stream, where 0 is the SYN and 1 the first byte."""

    start: int
    end: int
    ack: int | None


@dataclass(slots=True)
class Trace:
    """Two replicas of one connection; numbers count from the SYN, before the ISN is added."""

    isn: int
    secondary_isn: int
    client_isn: int
    opened: bool
    primary_stream: bytes
    secondary_stream: bytes
    primary_fin: bool
    secondary_fin: bool
    primary: list[Sent] = field(default_factory=list)
    secondary: list[Sent] = field(default_factory=list)
    order: list[bool] = field(default_factory=list)
    """For each packet in turn: whether it is the primary's."""
    form: str = "IPv4"

    @property
    def first_difference(self) -> int | None:
        """Index in the stream (SYN is 0) of the first octet that differs."""
        ours, theirs = self.primary_stream, self.secondary_stream
        for at, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            if one != other:
                return at + 1
        if len(ours) != len(theirs):
            shorter_has_fin = self.primary_fin if len(ours) < len(theirs) else self.secondary_fin
            return min(len(ours), len(theirs)) + 1 if shorter_has_fin else None
        return None


def make(seed: int, equal: bool) -> Trace:
    random = Random(seed)
    length = random.choice((1, 3, 20, 100, 400))
    stream = random.randbytes(length)
    trace = Trace(
        isn=random.choice((random.getrandbits(32), (-random.randrange(1, length + 3)) & _MASK)),
        secondary_isn=random.getrandbits(32),
        client_isn=random.choice((random.getrandbits(32), (-random.randrange(1, 300)) & _MASK)),
        opened=random.random() < 0.7,
        primary_stream=stream,
        secondary_stream=stream if equal else _spoil(stream, random),
        primary_fin=True,
        secondary_fin=True,
    )
    acks = random.randrange(1, 300)
    trace.primary = _transmit(trace, len(trace.primary_stream), acks, random)
    trace.secondary = _transmit(trace, len(trace.secondary_stream), acks, random)
    trace.order = [True] * len(trace.primary) + [False] * len(trace.secondary)
    random.shuffle(trace.order)
    trace.form = random.choice(_FORMS)
    return trace


def _spoil(stream: bytes, random: Random) -> bytes:
    at = random.randrange(len(stream))
    kind = random.random()
    if kind < 0.8:
        return stream[:at] + bytes((stream[at] ^ random.randrange(1, 256),)) + stream[at + 1 :]
    return stream[:at] if kind < 0.9 else stream + random.randbytes(random.randrange(1, 20))


def _transmit(trace: Trace, length: int, final_ack: int, random: Random) -> list[Sent]:
    """Cut the stream, lose, repeat and reorder the pieces; every octet arrives at last."""
    end = length + 2  # the FIN
    pieces = _cut(1, end, random)
    if random.random() < 0.5:
        pieces += [_piece(end, random) for _ in range(random.randrange(len(pieces) + 1))]
    if random.random() < 0.5:
        _reorder(pieces, random)
    if not trace.opened:
        # In midstream the comparison starts at the lowest byte that the primary showed.
        first = min(range(len(pieces)), key=lambda index: pieces[index][0])
        pieces.insert(0, pieces.pop(first))
    sent = _acknowledge(pieces, end, final_ack, random)
    opening = [Sent(0, 1, 1)] * random.choice((1, 1, 2)) if trace.opened else []
    return [*opening, *sent, Sent(end, end, final_ack)]


def _cut(start: int, end: int, random: Random) -> list[tuple[int, int]]:
    pieces = []
    largest = random.choice((1, 7, 50, 500)) if end - start < 60 else random.choice((7, 50, 500))
    while start < end:
        stop = min(end, start + random.randrange(1, largest + 1))
        pieces.append((start, stop))
        start = stop
    return pieces


def _piece(end: int, random: Random) -> tuple[int, int]:
    start = random.randrange(1, end)
    return start, random.randrange(start + 1, end + 1)


def _reorder(pieces: list[tuple[int, int]], random: Random) -> None:
    for at in range(len(pieces)):
        other = min(len(pieces) - 1, at + random.randrange(4))
        pieces[at], pieces[other] = pieces[other], pieces[at]


def _acknowledge(pieces: list[tuple[int, int]], end: int, final: int, random: Random) -> list[Sent]:
    """Give the pieces rising ACKs, with pure ACKs and keep-alives between them."""
    sent, ack = [], 1
    for start, stop in pieces:
        ack = min(final, ack + random.choice((0, 0, 1, 40)))
        if random.random() < 0.2:
            sent.append(Sent(start, start, ack))
        sent.append(Sent(start, stop, ack))
    return sent


def packet(trace: Trace, sent: Sent, primary: bool) -> bytearray:
    """The IPv4 packet, the secondary's SYN with its own number."""
    stream, fin_at = _stream_of(trace, primary)
    flags = ACK | (SYN if sent.start == 0 and sent.end else 0) | (FIN if sent.start < sent.end == fin_at + 1 else 0)
    payload = stream[max(sent.start, 1) - 1 : min(sent.end, fin_at) - 1] if sent.end > 1 else b""
    isn = trace.secondary_isn if flags & SYN and not primary else trace.isn
    ack = (trace.client_isn + (sent.ack or 0)) & _MASK
    total = 40 + len(payload)
    header = _HEADER.pack(
        0x45,
        0,
        total,
        0,
        0,
        64,
        6,
        0,
        _GUEST,
        _CLIENT,
        80,
        5000,
        (isn + sent.start) & _MASK,
        ack,
        5 << 12 | flags,
        0,
        0,
        0,
    )
    return bytearray(header + payload)


def frames(trace: Trace, ip_packet: bytes | bytearray, number: int) -> list[bytes]:
    """The packet in the form of the trace; in fragments, the primary's are cut otherwise than the secondary's."""
    frame = ethernet(bytes(ip_packet))
    match trace.form:
        case "IPv6":
            return [forms.over_ipv6(frame)]
        case "VLAN":
            return [forms.tagged(frame, 7)]
        case "fragments":
            cut = 8 * (1 + (number + trace.isn) % ((len(ip_packet) - 21) // 8))
            pieces = forms.fragments(frame, cut, identification=number % 0x10000)
            return pieces[:: -1 if number % 3 else 1]
    return [frame]


def _stream_of(trace: Trace, primary: bool) -> tuple[bytes, int]:
    stream = trace.primary_stream if primary else trace.secondary_stream
    return stream, len(stream) + 1


@dataclass(slots=True)
class Outcome:
    released: set[int]
    """Indices into `trace.primary`."""
    divergences: list[tuple[Reason, int | None]]
    packets: int


def play(trace: Trace, settings: Settings | None = None) -> Outcome:
    """Feed the trace and check each release; raises AssertionError."""
    comparator = Comparator(settings)
    watch = _Watch(trace)
    queues = {True: enumerate(trace.primary), False: enumerate(trace.secondary)}
    for now, primary in enumerate(trace.order):
        index, sent = next(queues[primary])
        if not primary:
            watch.secondary_sent(sent)
        for frame in frames(trace, packet(trace, sent, primary), now):
            buffer = bytearray(frame)
            parsed = parse_frame(buffer, 0, len(buffer))
            if primary:
                comparator.primary(parsed, index, now / 1000)
            else:
                comparator.secondary(parsed, now / 1000)
            buffer[:] = bytes(len(buffer))  # the comparator must have kept what it needs
        watch.check(comparator)
    watch.divergences += [(divergence.reason, divergence.sequence) for divergence in comparator.divergences]
    assert comparator.held_packets == len(trace.primary) - len(watch.released)
    return Outcome(watch.released, watch.divergences, len(trace.order))


class _Watch:
    """An independent, slow account of what may leave."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.covered: set[int] = set()
        self.floor = -1
        self.released: set[int] = set()
        self.divergences: list[tuple[Reason, int | None]] = []

    def secondary_sent(self, sent: Sent) -> None:
        self.covered.update(range(sent.start, sent.end))
        self.floor = max(self.floor, sent.ack if sent.ack is not None else -1)

    def check(self, comparator: Comparator) -> None:
        difference = self.trace.first_difference
        released = comparator.released
        for index in dict.fromkeys(released) if self.trace.form == "fragments" else released:
            sent = self.trace.primary[index]
            assert index not in self.released, "released twice"
            assert sent.ack is None or sent.ack <= self.floor, "acknowledges more than the secondary has"
            assert all(octet in self.covered for octet in range(sent.start, sent.end)), (
                "the secondary has not sent this"
            )
            assert difference is None or sent.start == sent.end or sent.end <= difference, (
                "leaves past the first difference"
            )
            self.released.add(index)
        comparator.released.clear()
        assert not comparator.dropped


def verify(seed: int) -> int:
    """Play one equal and one unequal trace of this seed; the number of packets played."""
    equal = make(seed, equal=True)
    outcome = play(equal)
    assert not outcome.divergences, f"seed {seed}: equal streams diverge: {outcome.divergences}"
    assert len(outcome.released) == len(equal.primary), f"seed {seed}: not all was released"
    unequal = make(seed, equal=False)
    difference = unequal.first_difference
    spoiled = play(unequal)
    if difference is not None:
        wanted = (unequal.isn + difference) & _MASK
        assert [at for _, at in spoiled.divergences] == [wanted], f"seed {seed}: {spoiled.divergences}, not at {wanted}"
    return outcome.packets + spoiled.packets
