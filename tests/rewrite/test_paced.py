"""A secondary that nobody waits for: the client acknowledges what it has yet to send."""

from __future__ import annotations

from typing import Any

import pytest

from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.paced import PacedRewriter
from colo_bridge.wire.packet import MalformedPacket
from tests.packets import Segment, icmp, read_tcp, tcp, virtio
from tests.rewrite.trace import HEADER, TO_CLIENT, TO_GUEST

OFFSET = 4_000
"""Of the secondary's numbers."""
STAMPS = bytes.fromhex("0101080a00000001000000ff")


class Pair:
    """A connection that is open: numbers count from the secondary's SYN (0)."""

    def __init__(self, isn: int = 9_000, **limits: Any) -> None:
        self.rewriter = PacedRewriter(RewriteLimits(**limits), HEADER)
        self.isn = isn
        self.client("S", 0)
        self.guest("S", 0, 1)
        self.client("", 1, 1)

    def guest(self, flags: str, seq: int, ack: int = 1, **more: Any) -> list[Segment]:
        """The secondary sends; what it gets because of that."""
        out = bytearray(virtio(tcp(**TO_CLIENT, flags=flags, seq=self._number(seq), ack=ack, **more)))
        self.rewriter.egress(out, HEADER, len(out), False, 0.0)
        ready = [self._read(frame) for frame in self.rewriter.ready]
        self.rewriter.ready.clear()
        return ready

    def client(
        self, flags: str, seq: int, ack: int | None = None, *, partial: bool = False, **more: Any
    ) -> Segment | None:
        """The client sends; what the secondary gets, its ACK counted like the secondary's numbers."""
        number = None if ack is None else (self._number(ack) - OFFSET) & 0xFFFFFFFF
        checksum = "partial" if partial else "full"
        frame = tcp(**TO_GUEST, flags=flags, seq=seq, ack=number, checksum=checksum, **more)
        out = bytearray(virtio(frame, partial=partial))
        delivered = self.rewriter.ingress(out, HEADER, len(out), partial, 0.0)
        return self._read(out, partial) if delivered else None

    def acknowledged(self, segment: Segment | None) -> int:
        assert segment is not None
        return (segment.ack - self.isn) & 0xFFFFFFFF

    def _number(self, number: int) -> int:
        return (self.isn + number) & 0xFFFFFFFF

    def _read(self, frame: bytearray, partial: bool = False) -> Segment:
        segment = read_tcp(frame, HEADER)
        assert segment.checksum_right != partial
        return segment


@pytest.mark.parametrize("isn", [9_000, 0xFFFFFFFF, 0xFFFFFF00])
@pytest.mark.parametrize("partial", [False, True])
def test_an_ack_of_what_was_not_sent_is_lowered_and_given_when_it_was(isn: int, partial: bool) -> None:
    pair = Pair(isn)
    ahead = pair.client("P", 1, 501, payload=b"more", partial=partial, options=STAMPS)
    assert pair.acknowledged(ahead) == 1
    assert ahead and ahead.payload == b"more"
    (first,) = pair.guest("", 1, payload=bytes(200))
    assert (pair.acknowledged(first), first.seq, first.flags, first.payload) == (201, 5, "A", b"")
    assert first.timestamps
    (second,) = pair.guest("", 201, payload=bytes(400))
    assert pair.acknowledged(second) == 501
    assert pair.guest("", 601, payload=bytes(100)) == []
    assert pair.rewriter.counters.acknowledgments_lowered == 1
    assert pair.rewriter.counters.acknowledgments_repeated == 2


def test_an_ack_of_what_was_sent_is_left_alone() -> None:
    pair = Pair()
    assert pair.guest("", 1, payload=bytes(200)) == []
    assert pair.acknowledged(pair.client("", 1, 201)) == 201
    assert pair.guest("", 201) == []
    assert pair.rewriter.counters.acknowledgments_lowered == 0


def test_what_the_secondary_repeats_is_acknowledged_again() -> None:
    pair = Pair()
    pair.guest("F", 1, payload=bytes(200))
    pair.client("F", 1, 202)
    (again,) = pair.guest("F", 1, payload=bytes(200))
    assert (pair.acknowledged(again), again.seq) == (202, 2)


def test_an_older_ack_is_not_repeated_in_place_of_a_newer_one() -> None:
    pair = Pair()
    pair.client("", 1, 501)
    pair.client("", 1, 301)
    (answer,) = pair.guest("", 1, payload=bytes(600))
    assert pair.acknowledged(answer) == 501


def test_a_segment_that_was_kept_is_lowered_too() -> None:
    pair = Pair()
    pair.guest("R", 1)
    pair.isn += 70_000
    pair.client("S", 5_000)
    assert pair.client("", 5_001, 1) is None
    assert pair.client("P", 5_001, 90, payload=b"x") is None
    assert [pair.acknowledged(segment) for segment in pair.guest("S", 0, 5_001)] == [1, 1]


def test_a_connection_that_was_reset_or_never_seen_is_not_paced() -> None:
    pair = Pair()
    pair.guest("R", 1)
    assert pair.acknowledged(pair.client("", 1, 501)) == 501
    assert pair.client("R", 1, 501)


def test_a_connection_in_midstream_is_paced_from_its_first_segment_on() -> None:
    pair = Pair()
    pair.rewriter.synchronised()
    assert pair.guest("", 1, payload=bytes(10)) == []
    assert pair.client("", 1, 501 + OFFSET)
    assert pair.rewriter.counters.acknowledgments_lowered == 1


def test_the_longest_known_is_forgotten_at_the_limit() -> None:
    pair = Pair(connections=1)
    other = bytearray(virtio(tcp(**TO_CLIENT | {"dport": 6000}, flags="S", seq=1, ack=1)))
    pair.rewriter.egress(other, HEADER, len(other), False, 0.0)
    pair.client("", 1, 501)
    assert pair.rewriter.counters.acknowledgments_lowered == 0


def test_anything_else_passes() -> None:
    pair = Pair()
    ping = bytearray(virtio(icmp()))
    assert pair.rewriter.ingress(ping, HEADER, len(ping), False, 0.0)
    pair.rewriter.egress(ping, HEADER, len(ping), False, 0.0)
    broken = bytearray(virtio(tcp()[:40]))
    with pytest.raises(MalformedPacket):
        pair.rewriter.egress(broken, HEADER, len(broken), False, 0.0)
    assert not pair.rewriter.ready
