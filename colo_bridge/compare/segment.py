"""A piece of a stream: octets with positions, and a view of the bytes behind them.

The octets of a segment are, in order: SYN (one number, if set), the payload, FIN
(one number, if set).  The bytes may lie in a buffer that is about to be reused:
`retain` copies them, and is called only for what has to wait.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

from colo_bridge.compare.item import Item, Owner, Token
from colo_bridge.wire.options import SynOptions, read_syn_options
from colo_bridge.wire.packet import FIN, SYN, Buffer, TcpPacket
from colo_bridge.wire.serial import Position

_TCP_HEADER = 20


class Segment(Item):
    """One TCP segment of either side; `ack` matters for the primary's only."""

    __slots__ = (
        "ack",
        "buffer",
        "data_end",
        "data_start",
        "edge",
        "end",
        "flags",
        "header",
        "ip",
        "offset",
        "start",
        "tcp",
        "window",
    )

    def __init__(
        self, packet: TcpPacket, start: Position, ack: Position | None, token: Token, owner: Owner, now: float
    ) -> None:
        flags = packet.flags
        size = packet.end - packet.payload
        self.start = start
        self.data_start = data_start = Position(start + 1) if flags & SYN else start
        self.data_end = data_end = Position(data_start + size)
        self.end = Position(data_end + 1) if flags & FIN else data_end
        self.flags = flags
        self.ack = ack
        self.buffer: Buffer = packet.buffer
        self.header = b""
        self.offset = packet.payload
        self.ip = packet.ip
        self.tcp = packet.tcp
        self.window = packet.window
        # The right edge of the window that a pure ACK of the primary opens; None: not of interest.
        self.edge: Position | None = None
        self.length = packet.end - packet.ip
        self.token = token
        self.owner = owner
        self.arrived = now

    def retain(self) -> None:
        """Copy the packet out of a buffer that will be reused: `buffer` is the payload then."""
        if self.header:
            return
        offset = self.offset
        with memoryview(self.buffer) as view:
            self.header = bytes(view[self.ip : offset])
            self.buffer = bytes(view[offset : offset + self.data_end - self.data_start])
        self.tcp -= self.ip
        self.ip = self.offset = 0

    def retain_header(self) -> None:
        """Copy only what stands in front of the payload, which is not needed any more."""
        if not self.header:
            self.header = bytes(self.buffer[self.ip : self.offset])
            self.tcp -= self.ip
            self.ip = self.offset = 0
        self.buffer = b""

    def syn_options(self) -> SynOptions:
        """What this SYN offers; to be asked before `retain`."""
        return read_syn_options(self.buffer, self.tcp + _TCP_HEADER, self.offset)

    def headers(self) -> bytes:
        """What stands in front of the payload."""
        return self.header or bytes(self.buffer[self.ip : self.offset])

    def packet(self) -> bytes:
        """The IP packet, as far as it is kept."""
        return self.headers() + bytes(self.buffer[self.offset : self.offset + self.data_end - self.data_start])

    def move_to(self, start: Position) -> None:
        """Give every octet another position, the first one this."""
        distance = start - self.start
        self.start = start
        self.data_start = Position(self.data_start + distance)
        self.data_end = Position(self.data_end + distance)
        self.end = Position(self.end + distance)

    def byte_at(self, position: int) -> int:
        return self.buffer[self.offset + position - self.data_start]

    def same_bytes(self, other: Segment, start: int, end: int) -> bool:
        """Whether both carry the same payload in [start, end), which both must cover.

        `startswith` runs at memcmp speed on bytes and bytearrays; comparing two
        memoryviews is 60 to 100 times slower.
        """
        prefix, at = self.buffer, self.offset + start - self.data_start
        # Fast path: the whole of a retained payload.
        if at == 0 and len(prefix) == end - start:
            return other.buffer.startswith(prefix, other.offset + start - other.data_start)
        with memoryview(prefix) as view:
            return other.buffer.startswith(view[at : at + end - start], other.offset + start - other.data_start)

    def first_difference(self, other: Segment, start: int, end: int) -> int:
        """The first position in [start, end) where the payloads differ (they must)."""
        while end - start > 1:
            middle = (start + end) // 2
            if self.same_bytes(other, start, middle):
                start = middle
            else:
                end = middle
        return start


Queue = list[Segment] | deque[Segment]
"""Segments in order of their start: a list, which is small, or a deque where the head of a long list would be dear."""
LONG = 256


def insert_in_order(queue: Queue, segment: Segment) -> None:
    """Insert by start, behind what has the same start."""
    queue.insert(bisect_right(queue, segment.start, key=_start), segment)


def remove_newest(queue: Queue, segment: Segment) -> None:
    """Remove a segment that was inserted last: it mostly stands at the end, and a full queue is long."""
    at = len(queue) - 1
    while queue[at] is not segment:
        at -= 1
    del queue[at]


def is_covered(queue: Queue, segment: Segment) -> bool:
    """Whether the segment's predecessor in the queue has all its octets: so it is with what is sent again."""
    at = bisect_right(queue, segment.start, key=_start)
    return at > 0 and queue[at - 1].end >= segment.end


def take_below(queue: Queue, cursor: Position) -> list[Segment]:
    """Remove and return what lies wholly at or below the cursor, wherever it stands in the queue."""
    taken = []
    at = 0
    while at < len(queue) and queue[at].start < cursor:
        if queue[at].end <= cursor:
            taken.append(queue[at])
            del queue[at]
        else:
            at += 1
    return taken


def _start(segment: Segment) -> Position:
    return segment.start
