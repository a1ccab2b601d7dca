"""The offsets that a live guest's rewriter has, on their way to that of its new secondary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from colo_bridge.link.protocol.messages import MOST_MOVED, Moved
from colo_bridge.rewrite.inheritance import Offsets


def messages_of(nic: str, offsets: Sequence[Offsets]) -> Iterator[Moved]:
    """At least one, which says that all said before is void."""
    for begin in range(0, max(1, len(offsets)), MOST_MOVED):
        part = offsets[begin : begin + MOST_MOVED]
        yield Moved(nic, not begin, tuple((each.connection.hex(), each.sequence, each.timestamp) for each in part))


def offsets_of(message: Moved) -> Iterator[Offsets]:
    for name, sequence, timestamp in message.connections:
        yield Offsets(bytes.fromhex(name), sequence, timestamp)
