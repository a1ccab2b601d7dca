"""What gets connections going again whose guest has just become the service."""

from __future__ import annotations

from colo_bridge.rewrite import RewriteLimits, Rewriter
from colo_bridge.rewrite.prompting import Prompt
from colo_bridge.wire.serial import Serial
from colo_bridge.wire.unreachable import unreachable
from tests.packets import CLIENT_MAC, GUEST_MAC, read_tcp, tcp, timestamps
from tests.rewrite.trace import TO_CLIENT, TO_GUEST, Trace

CLIENTS_NAME = bytes((10, 0, 0, 9, 10, 0, 0, 2, 0x13, 0x88, 0, 80))
OTHER = {"sport": 5001}
TO_OTHER = {"dport": 5001}


def uploading() -> Trace:
    """The guest's numbers are 3000 higher than the client's; it has acknowledged 400 octets."""
    trace = Trace()
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    trace.client("A", 101, 2001, options=timestamps(901, 40))
    trace.client("PA", 101, 2001, payload=bytes(400), options=timestamps(902, 40), window=77)
    trace.guest("A", 5001, 501, options=timestamps(71, 902))
    return trace


def prompt(trace: Trace) -> Prompt:
    (found,) = trace.finished.prompts(9)
    return found


def test_the_guest_is_asked_in_the_clients_name_and_in_its_own_numbers():
    frame = prompt(uploading()).question()
    assert frame[:14] == GUEST_MAC + CLIENT_MAC + b"\x08\x00"
    asked = read_tcp(bytearray(frame))
    assert (asked.seq, asked.ack, asked.flags, asked.payload) == (500, 5001, "A", b"")
    assert int.from_bytes(frame[48:50], "big") == 77
    assert asked.checksum_right
    assert (asked.source, asked.destination) == (TO_GUEST["source"], TO_GUEST["destination"])


def test_the_client_hears_of_the_octet_that_the_guest_has_acknowledged_last():
    frame = prompt(uploading()).no_way()
    assert frame == CLIENT_MAC + GUEST_MAC + b"\x08\x00" + unreachable(CLIENTS_NAME, Serial(501))


def test_both_are_of_the_moment_at_which_they_are_made():
    trace = uploading()
    found = prompt(trace)
    trace.guest("A", 5001, 601, options=timestamps(72, 903))
    assert found.no_way().endswith(unreachable(CLIENTS_NAME, Serial(601)))


def test_also_a_segment_that_is_no_ordinary_one_tells_what_is_acknowledged():
    trace = uploading()
    trace.guest("FA", 5001, 502, options=timestamps(72, 903))
    assert prompt(trace).no_way().endswith(unreachable(CLIENTS_NAME, Serial(502)))


def test_connections_that_are_over_or_not_open_yet_are_left_alone():
    trace = uploading()
    trace.client("RA", 501, 2001)
    trace.client("S", 100, **OTHER)
    trace.guest("SA", 9000, 101, **TO_OTHER)
    assert trace.finished.prompts(9) == []


def test_those_that_were_heard_last_come_first_and_the_number_is_bounded():
    trace = uploading()
    trace.now = 1.0
    trace.client("S", 100, **OTHER)
    trace.guest("SA", 9000, 101, **TO_OTHER)
    trace.client("A", 101, 2001, **OTHER)
    (found,) = trace.finished.prompts(1)
    assert found.connection.egress_key.endswith((5001).to_bytes(2, "big"))
    assert len(trace.finished.prompts(2)) == 2


def test_in_a_vlan_nobody_is_prompted():
    rewriter = Rewriter(RewriteLimits(), 0)
    opening, answer, acknowledgment = (
        bytearray(frame)
        for frame in (
            tcp(**TO_GUEST, seq=100, flags="S", tag=7),
            tcp(**TO_CLIENT, seq=5000, ack=101, flags="S", tag=7),
            tcp(**TO_GUEST, seq=101, ack=2001, tag=7),
        )
    )
    rewriter.ingress(opening, 0, len(opening), False, 0.0)
    rewriter.egress(answer, 0, len(answer), False, 0.0)
    rewriter.ingress(acknowledgment, 0, len(acknowledgment), False, 0.0)
    assert rewriter.counters.learned == 1
    assert rewriter.prompts(9) == []
