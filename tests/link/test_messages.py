"""Messages come out as they went in; whatever else comes is one clear error."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.errors import ColoBridgeError, InternalError, OperatorError, PeerError
from colo_bridge.link.protocol.messages import (
    LARGEST_MESSAGE,
    LONGEST_REASON,
    MOST_MOVED,
    MOST_STATISTICS,
    VERSION,
    Barrier,
    CheckpointRequest,
    Failover,
    Goodbye,
    Heartbeat,
    Moved,
    Presence,
    Standing,
    Statistics,
    Unknown,
    decode,
    encode,
    printable,
)
from tests.link.sides import PRIMARY, SECONDARY

MESSAGES = [
    PRIMARY,
    SECONDARY,
    Goodbye("stopped"),
    Heartbeat(),
    Barrier(0),
    Barrier((1 << 63) - 1),
    CheckpointRequest("a RESUME came without a STOP"),
    Failover("the operator says so"),
    Presence(12, 0),
    Standing(True, 3, False, 12),
    Statistics({"packets": 1, "bytes": 0}),
    Moved("net0", True, ()),
    Moved("net0", False, (("0a" * 12, -((1 << 32) - 1), 7), ("0b" * 44, 0, 1))),
]
HELLO = json.loads(encode(PRIMARY)[8:])


def text(**fields) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_a_message_is_read_as_it_was_written_in_a_frame_without_virtio_header(message):
    framed = encode(message)
    assert struct.unpack("!II", framed[:8]) == (len(framed) - 8, 0)
    assert decode(framed[8:]) == message


def test_fields_that_a_newer_version_adds_are_ignored():
    assert decode(text(type="barrier", epoch=3, colour="red")) == Barrier(3)


def test_so_is_a_type_but_it_is_told():
    assert decode(text(type="weather", rain=True)) == Unknown("weather")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe{\0", "no JSON"),
        (b"[" * LARGEST_MESSAGE, "no JSON"),
        (b"[]", "no JSON object"),
        (b"1", "no JSON object"),
        (b"1" * 5_000, "no JSON"),
        (b"{}", "without a type"),
        (text(type=1), "without a type"),
        (text(type=""), "without a type"),
        (text(type="x" * 129), "without a type"),
        (text(type="barrier"), "barrier came with a wrong epoch"),
        (text(type="barrier", epoch="1"), "wrong epoch"),
        (text(type="barrier", epoch=True), "wrong epoch"),
        (text(type="barrier", epoch=-1), "wrong epoch"),
        (text(type="barrier", epoch=1 << 63), "wrong epoch"),
        (text(type="barrier", epoch=1.0), "wrong epoch"),
        (text(type="goodbye", reason="two\nlines"), "wrong reason"),
        (text(type="goodbye", reason="\ud800"), "wrong reason"),
        (text(type="goodbye", reason="x" * (LONGEST_REASON + 1)), "wrong reason"),
        (text(type="presence", moment=-1, alone_heard=0), "wrong moment"),
        (text(type="standing", synchronised=1, alone=0, has_guest=True, heard=0), "wrong synchronised"),
        (text(type="statistics", counters=[]), "wrong counters"),
        (text(type="statistics", counters={"a": "b"}), "wrong counters"),
        (text(type="statistics", counters={"a\x1b[2J": 1}), "wrong counters"),
        (text(type="statistics", counters={str(n): 1 for n in range(MOST_STATISTICS + 1)}), "wrong counters"),
        (text(**{**HELLO, "role": "king"}), "wrong role"),
        (text(**{**HELLO, "guest": ""}), "wrong guest"),
        (text(**{**HELLO, "instance": ""}), "wrong instance"),
        (text(**{key: value for key, value in HELLO.items() if key != "instance"}), "wrong instance"),
        (text(type="checkpoint request"), "wrong reason"),
        (text(type="moved", nic="net0", anew=1, connections=[]), "wrong anew"),
        (text(type="moved", nic="net0", anew=True, connections={}), "wrong connections"),
        *(
            (text(type="moved", nic="net0", anew=True, connections=[wrong]), "wrong connections")
            for wrong in (
                *([], 1, ["0a" * 12, 1], ["0a" * 12, 1, 1, 1], ["0a" * 11, 1, 1], ["0a" * 13, 1, 1], ["0a" * 48, 1, 1]),
                *(["0a " * 12, 1, 1], ["xy" * 12, 1, 1], [12, 1, 1], ["0a" * 12, 1 << 32, 1], ["0a" * 12, 1, True]),
            )
        ),
        (text(type="moved", nic="net0", anew=True, connections=[["0a" * 12, 1, 1]] * (MOST_MOVED + 1)), "wrong conn"),
        (text(**{**HELLO, "version": "1.0"}), "wrong version"),
        (text(**{**HELLO, "version": {"major": 1}}), "wrong version"),
        (text(**{**HELLO, "secondary_timeout": float("nan")}), "wrong secondary_timeout"),
        (text(**{**HELLO, "secondary_timeout": -1}), "wrong secondary_timeout"),
        (text(**{**HELLO, "secondary_timeout": None}), "wrong secondary_timeout"),
        (b" " * (LARGEST_MESSAGE + 1), "are allowed"),
    ],
)
def test_what_does_not_fit_is_the_peers_fault(data, problem):
    with pytest.raises(PeerError, match=problem):
        decode(data)


def test_of_another_major_version_nothing_but_the_version_is_looked_at():
    with pytest.raises(OperatorError, match=rf"version 3\.7 .* speaks {VERSION} .*same version"):
        decode(text(type="hello", version={"major": 3, "minor": 7}, role=["all", "new"]))


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_garbage_is_one_error_or_a_message(data):
    try:
        decode(data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
    except ColoBridgeError as error:
        assert str(error).isprintable()


@given(st.sampled_from(MESSAGES), st.data())
def test_any_damaged_message_is_one_error_or_a_message(message, data):
    framed = bytearray(encode(message)[8:])
    framed[data.draw(st.integers(0, len(framed) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(framed)
    except ColoBridgeError as error:
        assert str(error).isprintable()


def test_our_own_message_that_is_too_long_is_our_fault():
    with pytest.raises(InternalError):
        encode(Statistics({f"{n:>100}": n for n in range(MOST_STATISTICS)}))


@pytest.mark.parametrize("form", [CheckpointRequest, Failover, Goodbye])
@given(reason=st.text(max_size=600))
def test_any_reason_can_be_sent(form, reason):
    assert decode(encode(form(reason))[8:]) == form(printable(reason))
