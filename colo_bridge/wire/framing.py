"""Frames in a stream of bytes, as QEMU's network filters send them over sockets.

    length          4 bytes, big-endian: of all that follows the words
    header length   4 bytes, big-endian; only where both ends agreed on it: of the virtio-net header
    message         virtio-net header (if any), then the Ethernet frame

1. Any cutting of the stream gives the same frames, and what a decoder keeps is bounded by its buffer.
2. Nothing is copied but the beginning of a frame that is still incomplete where the buffer ends.
3. A length above the limit ends the stream: nothing behind it can be found any more.

An empty message is a frame like any other here: too short to be parsed, not a reason to stop.

Format: QEMU 7.2, net/net.c (net_fill_rstate), net/filter-mirror.c (filter_send), net/colo-compare.c
(_compare_chr_send), include/net/net.h (NET_BUFSIZE).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from colo_bridge.errors import PeerError

LARGEST_MESSAGE = 4_096 + 65_536
"""Bytes of a message, virtio-net header included, that QEMU takes."""

Frame = tuple[int, int, int]
"""Indexes into the decoder's buffer: first length word, first byte of the Ethernet frame, end."""

_LENGTH = struct.Struct("!I")
_LENGTHS = struct.Struct("!II")


class FramingError(PeerError):
    """The sender does not speak this format (or not with the same header lengths)."""


class FrameDecoder:
    """Write to `room()`, then take the `frames`; indexes hold until the next `room()`."""

    __slots__ = ("_end", "_largest", "_least", "_start", "_view", "_words", "buffer")

    def __init__(self, vnet_header: bool, largest: int = LARGEST_MESSAGE, messages: int = 2) -> None:
        """`vnet_header`: there is a second word, the length of a virtio-net header.

        The buffer has room for that many of the largest `messages`, two at least.
        """
        self._words = _LENGTHS if vnet_header else _LENGTH
        self._largest = largest
        self._least = largest + self._words.size
        self.buffer = bytearray(messages * self._least)
        self._view = memoryview(self.buffer)
        self._start = self._end = 0

    def room(self) -> memoryview:
        """Where the next bytes of the stream belong: never empty."""
        start, end = self._start, self._end
        if start == end:
            self._start = self._end = 0
        elif start and len(self.buffer) - end < self._least:
            # Once in a while only. It cannot fill the buffer there: it is shorter than the largest message.
            self._end = end - start
            self.buffer[: end - start] = self.buffer[start:end]
            self._start = 0
        return self._view[self._end :]

    def frames(self, count: int) -> Iterator[Frame]:
        """What is complete now that `count` more bytes have come; raises FramingError."""
        self._end = filled = self._end + count
        buffer, unpack, words = self.buffer, self._words.unpack_from, self._words.size
        start, largest, without_header = self._start, self._largest, words == _LENGTH.size
        while filled - start >= words:
            lengths = unpack(buffer, start)
            if lengths[0] > largest:
                raise FramingError(
                    f"a message of {lengths[0]} bytes is announced, and {largest} are allowed",
                    "does the other end use virtio-net header lengths as this one does?",
                )
            first, message = start, start + words
            end = message + lengths[0]
            if end > filled:
                return
            self._start = start = end
            # A header that claims more than there is leaves an empty frame.
            yield first, message if without_header else min(message + lengths[1], end), end

    @property
    def incomplete(self) -> int:
        """Bytes of a frame whose end has not come."""
        return self._end - self._start

    def reset(self) -> None:
        """Begin with another stream; what was incomplete is forgotten."""
        self._start = self._end = 0


def encode(message: bytes, header_length: int | None = None) -> bytes:
    """A message with its words; `header_length` of the virtio-net header, None: no such word."""
    if header_length is None:
        return _LENGTH.pack(len(message)) + message
    return _LENGTHS.pack(len(message), header_length) + message
