"""What the daemon says about divergences and limits, in the log and in its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from colo_bridge.compare.decisions import Divergence
from colo_bridge.wire.flow import describe_flow

LIMIT_COUNTERS = ("held_limit_drops", "secondary_limit_drops", "connection_limit_drops", "connections_evicted")


def sentence(divergence: Divergence) -> str:
    """One line for the log."""
    parts = [f"divergence ({divergence.reason.value}) in {describe_flow(divergence.flow)}: {divergence.detail}"]
    if divergence.sequence is not None:
        parts.append(f"sequence {divergence.sequence}")
    if divergence.stream_offset is not None:
        parts.append(f"byte {divergence.stream_offset} of the stream")
    if divergence.primary_length is not None:
        lengths = f"primary segment {divergence.primary_length} bytes"
        if divergence.secondary_length is not None:
            lengths += f", secondary segment {divergence.secondary_length} bytes"
        parts.append(lengths)
    return "; ".join(parts)


def fields(divergence: Divergence) -> dict[str, object]:
    """The same for machines."""
    return {
        "reason": divergence.reason.value,
        "connection": describe_flow(divergence.flow),
        "sequence": divergence.sequence,
        "stream_offset": divergence.stream_offset,
        "primary_length": divergence.primary_length,
        "secondary_length": divergence.secondary_length,
        "primary_byte": divergence.primary_byte,
        "secondary_byte": divergence.secondary_byte,
        "detail": divergence.detail,
    }


class Limits:
    """Says which limits were reached since the last look; each has a counter of what was dropped because of it."""

    def __init__(self, names: Sequence[str] = LIMIT_COUNTERS) -> None:
        self._names = names
        self._seen: Counter[str] = Counter()

    def reached(self, counters: Mapping[str, int]) -> Iterator[str]:
        for name in self._names:
            count, seen = counters[name], self._seen[name]
            if count > seen:
                self._seen[name] = count
                yield f"{name}: {count} ({count - seen} more)"
