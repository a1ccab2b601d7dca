"""One packet that is put together from its fragments.

1. No two fragments may overlap (RFC 5722), but an exact repeat adds nothing.
2. The packet is whole when the last fragment has come and nothing is missing before it.
"""

from __future__ import annotations

from bisect import bisect_right

from colo_bridge.wire.packet import Fragment


class Assembly:
    __slots__ = ("_bytes", "_end", "_parts", "_starts", "header")

    def __init__(self) -> None:
        self.header = b""
        self._parts: dict[int, bytes] = {}
        self._starts: list[int] = []
        self._bytes = 0
        self._end: int | None = None
        """Where the last fragment ends."""

    def add(self, fragment: Fragment) -> bool:
        """Take in what a fragment carries; False: it contradicts what came before."""
        start, body = fragment.offset, bytes(fragment.buffer[fragment.body : fragment.end])
        if self._repeats(start, body, fragment.is_last):
            return True
        if not self._fits(start, start + len(body), fragment.is_last):
            return False
        self._starts.insert(bisect_right(self._starts, start), start)
        self._parts[start] = body
        self._bytes += len(body)
        if fragment.is_last:
            self._end = start + len(body)
        if not start:
            self.header = fragment.header
        return True

    @property
    def is_whole(self) -> bool:
        # Since no two parts overlap, the sum says it.
        return self._bytes == self._end

    def body(self) -> bytes:
        """What follows the header of the whole packet."""
        return b"".join(self._parts[start] for start in self._starts)

    def _repeats(self, start: int, body: bytes, is_last: bool) -> bool:
        if self._parts.get(start) != body:
            return False
        return is_last == (start == self._starts[-1] and self._end is not None)

    def _fits(self, start: int, end: int, is_last: bool) -> bool:
        """Whether it overlaps nothing, and nothing lies behind the last fragment."""
        starts = self._starts
        at = bisect_right(starts, start)
        if at and (starts[at - 1] == start or starts[at - 1] + len(self._parts[starts[at - 1]]) > start):
            return False
        if at < len(starts):
            return not is_last and end <= starts[at]
        return self._end is None
