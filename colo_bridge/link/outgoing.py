"""What waits to be sent on one stream, bounded: packets that find no room are dropped, and counted.

Messages are never dropped: there are few, and an end that reads none of them is soon taken for lost.
"""

from __future__ import annotations

import struct
from collections import deque
from itertools import islice

from colo_bridge.link.protocol.conversation import VNET_HEADER_BYTES
from colo_bridge.wire.packet import Buffer

OVERHEAD = 128
"""Bytes that something queued takes besides its own."""
_PARTS_AT_ONCE = 512
"""Handed to one system call; below IOV_MAX (limits.h)."""
_CHUNK = 1 << 16
"""Bytes that small packets are put together to, for TLS: a record for each of them would be dear."""
_LENGTHS = struct.Struct("!II")


def words_of(packet: Buffer | memoryview) -> bytes:
    """What stands in front of a packet on the link."""
    return _LENGTHS.pack(len(packet), VNET_HEADER_BYTES)


class Outgoing:
    """`queued_bytes` never exceeds `limit` by more than one packet and the messages."""

    __slots__ = (
        *("_left", "_limit", "_messages", "_messages_left", "_queue", "_sent_of_first"),
        *("dropped_bytes", "dropped_packets", "queued_bytes", "sent_bytes"),
    )

    def __init__(self, limit: int) -> None:
        self.queued_bytes = self.sent_bytes = 0
        self.dropped_packets = self.dropped_bytes = 0
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._sent_of_first = 0
        # Counted by what has left at once, so that a packet costs nothing: a message is known by its place.
        self._left = self._messages_left = 0
        self._messages: deque[int] = deque()

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def full(self) -> bool:
        return self.queued_bytes >= self._limit

    @property
    def half_empty(self) -> bool:
        return self.queued_bytes <= self._limit // 2

    @property
    def sent_packets(self) -> int:
        """That have left whole, or in one piece with what follows."""
        self._count_messages()
        return self._left - self._messages_left

    def put(self, packet: Buffer | memoryview) -> bool:
        """Queue a copy of a packet, its virtio-net header in front; False if there is no room for it."""
        length = len(packet)
        if self.queued_bytes >= self._limit:
            self.dropped_packets += 1
            self.dropped_bytes += length
            return False
        self._add(b"".join((words_of(packet), packet)))
        return True

    def put_rest(self, words: bytes, packet: Buffer | memoryview, sent: int) -> None:
        """Queue what is left of a packet of which so many bytes, its words included, have left."""
        if sent < len(words) + len(packet):
            self._add(b"".join((words, packet)))
            self.sent(sent)
        else:
            self.sent_bytes += sent
            self._left += 1

    def add(self, message: bytes) -> None:
        """Queue what is no packet."""
        self._count_messages()
        self._messages.append(self._left + len(self._queue))
        self._add(message)

    def _count_messages(self) -> None:
        """Those that have left."""
        messages = self._messages
        while messages and messages[0] < self._left:
            messages.popleft()
            self._messages_left += 1

    def _add(self, data: bytes) -> None:
        self._queue.append(data)
        self.queued_bytes += len(data) + OVERHEAD

    def parts(self) -> list[bytes | memoryview]:
        """What is to be sent next, as it lies."""
        parts: list[bytes | memoryview] = list(islice(self._queue, _PARTS_AT_ONCE))
        if self._sent_of_first:
            parts[0] = memoryview(self._queue[0])[self._sent_of_first :]
        return parts

    def chunk(self) -> memoryview:
        """What is to be sent next, in one piece; if it is not taken, the next chunk begins with the same bytes."""
        queue = self._queue
        if not self._sent_of_first and len(queue) > 1:
            taken, size = 0, 0
            for each in queue:
                size += len(each)
                if size > _CHUNK:
                    break
                taken += 1
            if taken > 1:
                queue.appendleft(b"".join([queue.popleft() for _ in range(taken)]))
                self.queued_bytes -= (taken - 1) * OVERHEAD
                self._left += taken - 1
        return memoryview(queue[0])[self._sent_of_first :]

    def sent(self, count: int) -> None:
        """Forget what has left whole."""
        self.sent_bytes += count
        queue = self._queue
        before = len(queue)
        count += self._sent_of_first
        while queue and count >= len(queue[0]):
            size = len(queue.popleft())
            count -= size
            self.queued_bytes -= size + OVERHEAD
        self._sent_of_first = count
        self._left += before - len(queue)

    def forget(self, but_first: bool = False) -> None:
        """All but what has left in part, without which nothing could follow; `but_first`: it has, unseen from here."""
        begun = self._queue[0] if self._queue and (but_first or self._sent_of_first) else None
        self._queue.clear()
        self._messages.clear()
        self.queued_bytes = 0
        if begun is not None:
            self._add(begun)
