"""What a failover takes over from the side that was live before, and hands on."""

from __future__ import annotations

from colo_bridge.rewrite.inheritance import Offsets
from tests.packets import tcp, timestamps
from tests.rewrite.trace import HEADER, Trace, buffer

CONNECTION = bytes((10, 0, 0, 2, 10, 0, 0, 9, 0, 80, 0x13, 0x88))
OFFSETS = Offsets(CONNECTION, 3000, 30)


def heir(*offsets: Offsets, **limits: int) -> Trace:
    """The rewriter of a live guest's secondary."""
    trace = Trace(**limits)
    for rewriter in (trace.finished, trace.partial):
        rewriter.inherit(offsets, anew=True)
    return trace


def take_over(trace: Trace) -> None:
    for rewriter in (trace.finished, trace.partial):
        rewriter.take_over(trace.now)


def test_a_live_guests_rewriter_tells_what_it_moves():
    trace = Trace()
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    trace.client("A", 101, 2001, options=timestamps(901, 40))
    assert trace.finished.offsets() == [OFFSETS]


def test_it_tells_nothing_of_those_with_equal_numbers():
    trace = Trace()
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    trace.client("A", 101, 5001)
    assert trace.finished.offsets() == []


def test_before_a_failover_what_is_inherited_changes_nothing():
    trace = heir(OFFSETS)
    assert trace.guest("PA", 5001, 101, payload=b"x").seq == 5001
    assert trace.client("A", 101, 5002).ack == 5002


def test_after_it_the_numbers_are_those_that_clients_know():
    trace = heir(OFFSETS)
    take_over(trace)
    out = trace.guest("PA", 5001, 101, payload=b"x", options=timestamps(71, 900))
    assert (out.seq, out.timestamps) == (2001, (41, 900))
    into = trace.client("A", 101, 2002, options=timestamps(901, 41))
    assert (into.ack, into.timestamps) == (5002, (901, 71))
    assert trace.counters.inherited == 1


def test_also_of_a_connection_that_is_known():
    trace = heir(OFFSETS)
    trace.guest("PA", 5001, 101, payload=b"x")
    trace.client("A", 101, 5002)
    take_over(trace)
    assert trace.guest("PA", 5002, 101, payload=b"y").seq == 2002
    assert trace.client("A", 101, 2003).ack == 5003


def test_a_checkpoint_does_not_end_it():
    """It makes the two guests equal; the clients' numbers are others than theirs all the same."""
    trace = heir(OFFSETS)
    trace.guest("PA", 5001, 101, payload=b"x")
    trace.synchronised()
    take_over(trace)
    assert trace.guest("PA", 5002, 101, payload=b"y").seq == 2002


def test_it_is_handed_on_to_the_next():
    trace = heir(OFFSETS)
    take_over(trace)
    assert trace.finished.offsets() == [OFFSETS]


def test_a_new_connection_of_the_same_name_has_not_inherited():
    trace = heir(OFFSETS)
    trace.client("S", 100)
    trace.guest("SA", 7000, 101)
    trace.client("A", 101, 7001)
    take_over(trace)
    assert trace.guest("PA", 7001, 101, payload=b"x").seq == 7001


def test_what_is_told_anew_replaces_what_was_told():
    trace = heir(OFFSETS)
    for rewriter in (trace.finished, trace.partial):
        rewriter.inherit([], anew=True)
    take_over(trace)
    assert trace.guest("PA", 5001, 101, payload=b"x").seq == 5001


def test_what_is_told_in_parts_is_taken_over_whole():
    other = Offsets(CONNECTION[:-1] + b"\x89", 1, 0)
    trace = heir(OFFSETS)
    for rewriter in (trace.finished, trace.partial):
        rewriter.inherit([other], anew=False)
    take_over(trace)
    assert sorted(trace.finished.offsets(), key=lambda each: each.connection) == [OFFSETS, other]


def test_there_is_room_for_as_many_as_in_the_table():
    other = Offsets(CONNECTION[:-1] + b"\x89", 1, 0)
    trace = heir(OFFSETS, other, connections=1)
    assert trace.counters.inheritance_overflow == 1
    take_over(trace)
    assert len(trace.finished.offsets()) == 1


def test_frames_that_were_rewritten_before_the_failover_are_recognised():
    rewriter = heir(OFFSETS).finished
    segment = {"source": "10.0.0.2", "destination": "10.0.0.9", "sport": 80, "seq": 5001, "ack": 101, "payload": b"x"}
    ours, others = (buffer(tcp(**segment, dport=port)) for port in (5000, 5001))
    assert rewriter.is_inherited(ours, HEADER, len(ours))
    assert not rewriter.is_inherited(others, HEADER, len(others))
    assert not rewriter.is_inherited(ours, HEADER, HEADER + 20)
