"""A packet trace that drives a rewriter: who sends what, and how it comes out.

The guest's address is 10.0.0.2:80, the client's 10.0.0.9:5000.  Each segment is sent with a
finished and with a partial checksum through a rewriter each, and both results are checked: the
first must be right when recomputed, the second must be untouched.
"""

from __future__ import annotations

from typing import Any

from colo_bridge.rewrite import RewriteCounters, RewriteLimits, Rewriter
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import TcpPacket
from tests import packets
from tests.packets import Segment, read_tcp, tcp

HEADER = 12
TO_CLIENT = {"source": "10.0.0.2", "destination": "10.0.0.9", "sport": 80, "dport": 5000}
TO_GUEST = {"source": "10.0.0.9", "destination": "10.0.0.2", "sport": 5000, "dport": 80}


class Trace:
    def __init__(self, *, cures: bool = False, **limits: Any) -> None:
        self.finished = Rewriter(RewriteLimits(**limits), HEADER, cures=cures)
        self.partial = Rewriter(RewriteLimits(**limits), HEADER, cures=cures)
        self.now = 0.0

    @property
    def counters(self) -> RewriteCounters:
        assert self.finished.counters == self.partial.counters
        return self.finished.counters

    def guest(self, flags: str, seq: int, ack: int | None = None, **more: Any) -> Segment:
        """The secondary sends; returns what the comparator gets."""
        segment = TO_CLIENT | {"flags": flags, "seq": seq, "ack": ack} | more
        out, left_partial = buffer(tcp(**segment)), buffer(tcp(**segment, checksum="partial"), partial=True)
        packet = self.finished.egress(out, HEADER, len(out), False, self.now)
        self.partial.egress(left_partial, HEADER, len(left_partial), True, self.now)
        assert isinstance(packet, TcpPacket)
        assert_same_packet(packet, out)
        return self._checked(segment, out, left_partial)

    def client(self, flags: str, seq: int, ack: int | None = None, **more: Any) -> Segment | None:
        """The client sends; returns what the secondary gets, None where it gets nothing now."""
        segment = TO_GUEST | {"flags": flags, "seq": seq, "ack": ack} | more
        out = buffer(to_guest(tcp(**segment)))
        left_partial = buffer(to_guest(tcp(**segment, checksum="partial")), partial=True)
        delivered = self.finished.ingress(out, HEADER, len(out), False, self.now)
        assert self.partial.ingress(left_partial, HEADER, len(left_partial), True, self.now) == delivered
        return self._checked(segment, out, left_partial) if delivered else None

    def ready(self) -> list[Segment]:
        """Take out what the secondary gets besides the client's segments of now.

        What was kept has the header that it came with; an answer has a finished checksum always.
        """
        frames = list(zip(self.finished.ready, self.partial.ready, strict=True))
        self.finished.ready.clear()
        self.partial.ready.clear()
        for frame, left_partial in frames:
            assert frame[:HEADER] == packets.virtio(b"")
            if left_partial[:HEADER] != packets.virtio(b"", partial=True):
                assert left_partial == frame
            assert without_checksum(frame) == without_checksum(left_partial)
            assert read_tcp(frame, HEADER).checksum_right
        return [read_tcp(frame, HEADER) for frame, _ in frames]

    def synchronised(self) -> None:
        self.finished.synchronised()
        self.partial.synchronised()

    def tick(self, now: float) -> None:
        self.now = now
        self.finished.tick(now)
        self.partial.tick(now)

    def _checked(self, segment: dict[str, Any], out: bytearray, left_partial: bytearray) -> Segment:
        sent = buffer(tcp(**segment, checksum="partial"))
        at = HEADER + 14 + (sent[HEADER + 14] & 15) * 4 + 16
        assert left_partial[at : at + 2] == sent[at : at + 2], "a partial checksum was touched"
        assert without_checksum(out) == without_checksum(left_partial)
        result = read_tcp(out, HEADER)
        assert result.checksum_right
        return result


def to_guest(frame: bytes) -> bytes:
    """The frame with its hardware addresses exchanged."""
    return frame[6:12] + frame[:6] + frame[12:]


def buffer(frame: bytes, *, partial: bool = False) -> bytearray:
    return bytearray(packets.virtio(frame, partial=partial))


def without_checksum(frame: bytearray) -> bytes:
    at = HEADER + 14 + (frame[HEADER + 14] & 15) * 4 + 16
    return bytes(frame[HEADER:at] + frame[at + 2 :])


def assert_same_packet(packet: TcpPacket, frame: bytearray, start: int = HEADER) -> None:
    """What the rewriter returned is what a parser would read afterwards."""
    again = parse_frame(frame, start, len(frame))
    assert all(getattr(packet, name) == getattr(again, name) for name in TcpPacket.__slots__)
