"""Frames come out of a stream as they went in, however the stream is cut; what is wrong with it ends it."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.wire.framing import LARGEST_MESSAGE, FrameDecoder, FramingError, encode

MESSAGES = st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 50)), max_size=12)
SMALL = 40
"""Limit of the decoders below: their buffers overflow as often as large ones do with large frames."""

ROOM = st.integers(2, 4)
"""For messages of the largest size."""


def feed(decoder: FrameDecoder, data: bytes, cuts: list[int]) -> list[tuple[bytes, bytes]]:
    """Whole messages with their words, and Ethernet frames; the stream comes in pieces."""
    found = []
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(bounds):
        rest = data[begin:end]
        while rest:
            room = decoder.room()
            piece, rest = rest[: len(room)], rest[len(room) :]
            room[: len(piece)] = piece
            for message, frame, stop in decoder.frames(len(piece)):
                found.append((bytes(decoder.buffer[message:stop]), bytes(decoder.buffer[frame:stop])))
    return found


@given(MESSAGES, st.lists(st.integers(0, 1000)), ROOM)
def test_any_cutting_gives_the_same_frames(messages, cuts, room):
    stream = [encode(message) for message, _ in messages]
    wanted = [(framed, message) for framed, (message, _) in zip(stream, messages, strict=True)]
    assert feed(FrameDecoder(False, SMALL, room), b"".join(stream), cuts) == wanted


@given(MESSAGES, st.lists(st.integers(0, 1000)), ROOM)
def test_any_cutting_gives_the_same_frames_behind_virtio_headers(messages, cuts, room):
    """A header that claims more than there is leaves an empty frame."""
    stream = [encode(message, header) for message, header in messages]
    wanted = [(framed, message[header:]) for framed, (message, header) in zip(stream, messages, strict=True)]
    assert feed(FrameDecoder(True, SMALL, room), b"".join(stream), cuts) == wanted


@given(MESSAGES, st.integers(SMALL + 1, 0xFFFFFFFF), st.lists(st.integers(0, 1000)))
def test_a_length_above_the_limit_ends_the_stream_behind_the_frames_before_it(messages, length, cuts):
    decoder, found = FrameDecoder(False, SMALL), []
    stream = b"".join(encode(message) for message, _ in messages) + struct.pack("!I", length)
    with pytest.raises(FramingError, match=f"{length} bytes"):
        for at in range(len(stream)):
            found += feed(decoder, stream[at : at + 1], [])
    assert [frame for _, frame in found] == [message for message, _ in messages]


def test_the_words_are_those_of_qemu():
    assert encode(b"frame") == b"\0\0\0\5frame"
    assert encode(b"header+frame", 7) == b"\0\0\0\x0c\0\0\0\7header+frame"


def test_the_largest_message_of_qemu_fits():
    message = bytes(range(256)) * (LARGEST_MESSAGE // 256)
    assert len(message) == 69_632
    assert feed(FrameDecoder(False), encode(message) * 3, []) == [(encode(message), message)] * 3


def test_one_byte_more_does_not():
    with pytest.raises(FramingError):
        feed(FrameDecoder(False), encode(bytes(LARGEST_MESSAGE + 1)), [])


def test_memory_is_bounded_by_the_buffer():
    decoder = FrameDecoder(True)
    size = len(decoder.buffer)
    feed(decoder, encode(bytes(LARGEST_MESSAGE), 12) * 20, list(range(0, 2_000_000, 1_009)))
    assert len(decoder.buffer) == size


@pytest.mark.parametrize("room", [2, 3])
def test_there_is_always_room(room):
    decoder = FrameDecoder(False, SMALL, room)
    for byte in encode(bytes(SMALL)) * 5:
        assert len(decoder.room()) > SMALL
        feed(decoder, bytes((byte,)), [])


def test_what_is_incomplete_is_known_and_can_be_forgotten():
    decoder = FrameDecoder(False)
    feed(decoder, encode(b"whole") + b"\0\0\0\x09ha", [])
    assert decoder.incomplete == 6
    decoder.reset()
    assert decoder.incomplete == 0
    assert feed(decoder, encode(b"next"), []) == [(encode(b"next"), b"next")]
