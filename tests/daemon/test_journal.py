"""What is said about divergences."""

from __future__ import annotations

import json
import socket
from dataclasses import fields

import pytest

from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.daemon import journal
from colo_bridge.wire.flow import UDP, datagram_flow
from colo_bridge.wire.serial import Serial

CONNECTION = socket.inet_aton("10.0.0.2") + socket.inet_aton("10.0.0.9") + bytes.fromhex("00501388")
DATAGRAMS = datagram_flow(4, UDP, CONNECTION[:8], bytes.fromhex("00351388"))

CONTENT = Divergence(
    Reason.CONTENT,
    CONNECTION,
    "payload byte 0x61 of the primary is 0x62 of the secondary",
    sequence=Serial(4_294_967_295),
    stream_offset=12_345,
    primary_length=1448,
    secondary_length=0,
    primary_byte=0x61,
    secondary_byte=0,
)


def test_a_difference_of_content_is_one_line_with_its_place() -> None:
    assert journal.sentence(CONTENT) == (
        "divergence (content) in 10.0.0.2:80 > 10.0.0.9:5000: payload byte 0x61 of the primary is 0x62 of the "
        "secondary; sequence 4294967295; byte 12345 of the stream; "
        "primary segment 1448 bytes, secondary segment 0 bytes"
    )


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, ""),
        ({"sequence": Serial(0)}, "; sequence 0"),
        ({"stream_offset": 0}, "; byte 0 of the stream"),
        ({"primary_length": 0}, "; primary segment 0 bytes"),
        ({"primary_length": 5, "secondary_length": 0}, "; primary segment 5 bytes, secondary segment 0 bytes"),
    ],
)
def test_what_is_not_known_is_not_said(known: dict[str, int], said: str) -> None:
    divergence = Divergence(Reason.TIMEOUT, DATAGRAMS, "silence", **known)
    assert journal.sentence(divergence) == f"divergence (timeout) in 10.0.0.2:53 > 10.0.0.9:5000 udp: silence{said}"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_its_word(reason: Reason) -> None:
    divergence = Divergence(reason, CONNECTION, "why")
    assert f"({reason.value})" in journal.sentence(divergence)
    assert journal.fields(divergence)["reason"] == reason.value


def test_machines_get_every_field() -> None:
    told = journal.fields(CONTENT)
    assert told == json.loads(json.dumps(told))
    assert told["connection"] == "10.0.0.2:80 > 10.0.0.9:5000"
    names = {field.name for field in fields(Divergence)} - {"flow", "primary_packet", "secondary_packet"}
    assert set(told) == names | {"connection"}
    for name in names - {"reason"}:
        assert told[name] == getattr(CONTENT, name)
