"""Random datagrams of two equal replicas, each side's cut, reordered and repeated in its own way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from colo_bridge.compare.comparator import Comparator
from colo_bridge.wire.frame import parse_frame
from tests import forms, packets

_CONTENTS = [bytes(size) for size in (1, 40, 600)] + [bytes(range(size)) * 3 for size in (9, 80, 200)]


@dataclass(frozen=True, slots=True)
class Sent:
    flow: int
    number: int
    """Which datagram of its flow."""
    frame: bytes


def datagram(random: Random, flow: int) -> bytes:
    content = random.choice(_CONTENTS)
    frame = packets.icmp(body=content) if flow == 0 else packets.udp(dport=5000 + flow, payload=content)
    return forms.over_ipv6(frame) if flow % 2 else frame


def pieces(random: Random, frame: bytes, identification: int) -> list[bytes]:
    """The frame whole or in fragments, in any order, some of them twice."""
    size = len(frame) - (54 if frame[12:14] == b"\x86\xdd" else 34)
    cuts = sorted({8 * random.randrange(1, size // 8) for _ in range(random.randrange(5))}) if size >= 16 else []
    if not cuts:
        return [frame]
    parts = forms.fragments(frame, *cuts, identification=identification)
    parts += [random.choice(parts) for _ in range(random.randrange(3))]
    random.shuffle(parts)
    return parts


def transmit(random: Random, flows: list[list[bytes]]) -> list[Sent]:
    """All datagrams of all flows, those of one flow in order."""
    queues = [
        [
            Sent(flow, number, forms.tagged(piece, *[flow] * (flow == 3)))
            for number, frame in enumerate(frames)
            for piece in pieces(random, frame, flow * 100 + number)
        ]
        for flow, frames in enumerate(flows)
    ]
    return shuffled(random, queues)


def shuffled(random: Random, queues: list[list[Sent]]) -> list[Sent]:
    """Merged at random; each queue keeps its order."""
    waiting = [iter(queue) for queue in queues]
    turns = [at for at, queue in enumerate(queues) for _ in queue]
    random.shuffle(turns)
    return [next(waiting[at]) for at in turns]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32))
def test_everything_leaves_once_the_secondary_has_sent_the_same(seed: int) -> None:
    random = Random(seed)
    flows = [[datagram(random, flow) for _ in range(random.randrange(6))] for flow in range(4)]
    primary, secondary = transmit(random, flows), transmit(random, flows)
    turns = [True] * len(primary) + [False] * len(secondary)
    random.shuffle(turns)
    queues = {True: iter(primary), False: iter(secondary)}
    comparator = Comparator()
    given_to, left, came = Counter(), Counter(), Counter()
    for now, turn in enumerate(turns):
        sent = next(queues[turn])
        packet = parse_frame(bytearray(sent.frame), 0, len(sent.frame))
        if turn:
            given_to[sent.flow, sent.number] += 1
            comparator.primary(packet, sent, now / 10_000)
        else:
            came[sent.flow] = max(came[sent.flow], sent.number + 1)
            comparator.secondary(packet, now / 10_000)
        for token in comparator.released:
            left[token.flow, token.number] += 1
            assert token.number < came[token.flow], "the secondary has not begun to send this"
        comparator.released.clear()
        assert not comparator.dropped
        assert not comparator.divergences
    assert left == given_to
    counters = comparator.counters()
    assert counters["held_packets_now"] == counters["secondary_packets_now"] == 0
    assert counters["primary_bytes"] == counters["released_bytes"]
    assert counters["secondary_bytes"] == counters["thrown_away_bytes"]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32))
def test_nothing_leaves_of_what_differs(seed: int) -> None:
    """One byte of one datagram is another one: neither it nor anything else of that content leaves."""
    random = Random(seed)
    frame = packets.udp(payload=random.randbytes(400))
    at = random.randrange(42, len(frame))
    spoiled = frame[:at] + bytes((frame[at] ^ 1,)) + frame[at + 1 :]
    sent = [(True, piece) for piece in pieces(random, frame, 1)] + [
        (False, piece) for piece in pieces(random, spoiled, 1)
    ]
    random.shuffle(sent)
    comparator = Comparator()
    for primary, piece in sent:
        packet = parse_frame(piece, 0, len(piece))
        if primary:
            comparator.primary(packet, piece, 0.0)
        else:
            comparator.secondary(packet, 0.0)
    assert not comparator.released
    assert len(comparator.divergences) == 1
    comparator.checkpoint_done(synchronised=True)
    assert sorted(comparator.released) == sorted(piece for primary, piece in sent if primary)
