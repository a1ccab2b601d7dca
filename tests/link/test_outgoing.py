"""What waits to be sent: in order, whole, and bounded."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.link.outgoing import OVERHEAD, Outgoing, words_of
from colo_bridge.wire.framing import encode

STEPS = st.lists(
    st.tuples(st.just("put"), st.binary(max_size=50))
    | st.tuples(st.just("add"), st.binary(min_size=1, max_size=20))
    | st.tuples(st.sampled_from(["parts", "chunk"]), st.integers(0, 100))
    | st.tuples(st.just("large"), st.integers(20_000, 70_000)),
    max_size=60,
)


def take(outgoing, way, count) -> bytes:
    """As a socket does that takes a part."""
    if not outgoing:
        return b""
    taken = bytes(outgoing.chunk() if way == "chunk" else b"".join(outgoing.parts()))[:count]
    outgoing.sent(len(taken))
    return taken


@given(STEPS)
def test_everything_leaves_in_order_whatever_is_taken_at_a_time(steps):
    outgoing, wanted, left, packets, counted = Outgoing(1 << 30), b"", b"", 0, 0
    for step, value in steps:
        assert counted <= outgoing.sent_packets <= packets
        counted = outgoing.sent_packets
        match step:
            case "put" | "large":
                packet = bytes(value)
                assert outgoing.put(packet)
                wanted += encode(packet, 12)
                packets += 1
            case "add":
                outgoing.add(value)
                wanted += value
            case _:
                left += take(outgoing, step, value)
    while outgoing:
        left += take(outgoing, "chunk", 1 << 30)
    assert left == wanted
    assert (outgoing.queued_bytes, outgoing.sent_bytes, outgoing.sent_packets) == (0, len(wanted), packets)


@given(STEPS)
def test_a_chunk_that_was_not_taken_comes_again(steps):
    outgoing = Outgoing(1 << 30)
    for step, value in steps:
        if step == "put":
            outgoing.put(value)
        elif outgoing:
            first = bytes(outgoing.chunk())
            outgoing.put(b"more")
            assert bytes(outgoing.chunk()).startswith(first)
            if isinstance(value, int):
                outgoing.sent(min(value, len(first)))


@given(st.integers(0, 108))
def test_the_rest_of_a_packet_that_left_in_part(sent):
    outgoing, packet = Outgoing(1 << 20), bytes(range(100))
    outgoing.put_rest(words_of(packet), packet, sent)
    assert b"".join(outgoing.parts()) == encode(packet, 12)[sent:]
    assert (outgoing.sent_bytes, outgoing.sent_packets) == (sent, sent == 108)


def test_a_packet_without_room_is_dropped_and_counted_but_no_message_is():
    outgoing = Outgoing(1_000)
    accepted = [outgoing.put(bytes(300)) for _ in range(5)]
    assert accepted == [True, True, True, False, False]
    assert (outgoing.full, outgoing.dropped_packets, outgoing.dropped_bytes) == (True, 2, 600)
    outgoing.add(b"message")
    assert outgoing.queued_bytes == 3 * (300 + 8 + OVERHEAD) + 7 + OVERHEAD
    outgoing.sent(308)
    assert not outgoing.half_empty
    outgoing.sent(2 * 308)
    assert outgoing.half_empty


def test_what_has_left_in_part_is_not_forgotten():
    outgoing = Outgoing(1_000)
    outgoing.put(b"abcdef")
    outgoing.put(b"forgotten")
    outgoing.sent(10)
    outgoing.forget()
    outgoing.add(b"last words")
    assert b"".join(outgoing.parts()) == b"cdeflast words"
    assert struct.unpack("!II", words_of(b"abcdef")) == (6, 12)


def test_nor_is_what_has_left_in_part_unseen():
    outgoing = Outgoing(1_000)
    outgoing.forget(but_first=True)
    outgoing.put(b"abcdef")
    outgoing.put(b"forgotten")
    outgoing.forget(but_first=True)
    assert b"".join(outgoing.parts()) == encode(b"abcdef", 12)


def test_what_has_not_begun_to_leave_is_forgotten():
    outgoing = Outgoing(1_000)
    outgoing.put(b"abcdef")
    outgoing.forget()
    assert (bool(outgoing), outgoing.queued_bytes) == (False, 0)


def test_messages_that_have_left_are_remembered_no_more():
    outgoing = Outgoing(1_000)
    for _ in range(100):
        outgoing.add(b"heartbeat")
        outgoing.sent(9)
    assert len(outgoing._messages) == 1
    assert outgoing.sent_packets == 0
