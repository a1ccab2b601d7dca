"""Where two streams differ, and how that is said.

1. At the first difference the cursor stops, and nothing of the connection is compared until a checkpoint is done.
2. A divergence carries the packets at hand: the first of each side is the evidence.
"""

from __future__ import annotations

from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.compare.floor import Floor
from colo_bridge.compare.item import Item
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.segment import Queue, Segment, first_packets
from colo_bridge.wire.serial import Position, serial_at


class Differences:
    """What is known of a connection when its streams differ; `Streams` compares them."""

    __slots__ = ("cursor", "diverged", "floor", "flow", "ledger", "primary_isns", "uncompared")

    def __init__(self, flow: bytes, ledger: Ledger) -> None:
        self.flow = flow
        self.ledger = ledger
        self.floor = Floor(ledger)
        self.diverged = False
        self.cursor: Position | None = None
        self.uncompared: Queue = []
        """The secondary's segments with octets above the cursor."""
        self.primary_isns: tuple[Position, ...] = ()
        """The numbers of the SYNs that the primary sent, the newest last; none in midstream."""

    def _diverge_content(self, ours: Segment, theirs: Segment, start: int, end: int) -> None:
        at = Position(ours.first_difference(theirs, start, end))
        one, other = ours.byte_at(at), theirs.byte_at(at)
        divergence = Divergence(
            Reason.CONTENT,
            self.flow,
            f"the primary sent 0x{one:02x}, the secondary 0x{other:02x}",
            serial_at(at),
            self._stream_offset(at),
            ours.data_end - ours.data_start,
            theirs.data_end - theirs.data_start,
            one,
            other,
            ours.packet(),
            theirs.packet(),
        )
        if not self.ledger.goes_on_behind(ours, divergence):
            self.cursor = at
            self._diverge(divergence)

    def _diverge_control(self, at: int, detail: str, *shown: Segment) -> None:
        """`shown`: the segments at hand; the first of each side is the evidence."""
        self._diverge(self._divergence(Reason.CONTROL, at, detail, *shown))

    def _divergence(self, reason: Reason, at: int, detail: str, *shown: Segment) -> Divergence:
        sequence, offset = serial_at(Position(at)), self._stream_offset(at)
        ours, theirs = first_packets(shown)
        return Divergence(reason, self.flow, detail, sequence, offset, primary_packet=ours, secondary_packet=theirs)

    def _diverge(self, divergence: Divergence) -> None:
        if self.diverged:
            return
        self.diverged = True
        self._forget_uncompared()
        self.ledger.diverge(divergence)

    def _forget_uncompared(self) -> None:
        for segment in self.uncompared:
            self.ledger.throw_away(segment)
        self.uncompared.clear()

    def _stream_offset(self, at: int) -> int | None:
        return at - self.primary_isns[-1] - 1 if self.primary_isns else None

    def why_silent(self, item: Item) -> Divergence:
        assert isinstance(item, Segment)
        if item.token is None:
            detail = "the primary has not sent what the secondary sent"
        elif item in self.floor.above:
            detail = "the secondary has not acknowledged what the primary acknowledges"
        else:
            detail = "the secondary has not sent what the primary sent"
        at = item.start if self.cursor is None else max(item.start, self.cursor)
        return self._divergence(Reason.TIMEOUT, at, detail, item)
