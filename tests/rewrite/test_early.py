"""Client segments that are ahead of the secondary's SYN: kept, in order, bounded."""

from __future__ import annotations

from tests.packets import timestamps
from tests.rewrite.trace import Trace


def test_the_acknowledgement_comes_before_the_syn_ack():
    trace = Trace()
    trace.client("S", 100, options=timestamps(900))
    assert trace.client("A", 101, 2001, options=timestamps(901, 40)) is None
    assert trace.client("PA", 101, 2001, payload=b"GET", options=timestamps(902, 40)) is None
    assert trace.ready() == []
    out = trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    assert (out.seq, out.timestamps) == (2000, (40, 900))
    first, second = trace.ready()
    assert (first.ack, first.timestamps, first.payload) == (5001, (901, 70), b"")
    assert (second.ack, second.timestamps, second.payload) == (5001, (902, 70), b"GET")
    assert trace.client("A", 104, 2001).ack == 5001
    assert (trace.counters.early_kept, trace.counters.learned) == (2, 1)


def test_the_lowest_acknowledgement_is_the_handshakes():
    """The network may have reordered them; the client acknowledged released data with the other."""
    trace = Trace()
    trace.client("S", 0xFFFFFFFF)
    trace.client("A", 0, 9)
    trace.client("A", 0, 0xFFFFFFFF)
    trace.guest("SA", 5000, 0)
    assert [segment.ack for segment in trace.ready()] == [5011, 5001]


def test_the_clients_syn_ack_comes_before_the_guests_syn():
    trace = Trace()
    assert trace.client("SA", 100, 2001) is None
    assert trace.guest("S", 5000).seq == 2000
    assert [segment.ack for segment in trace.ready()] == [5001]
    assert trace.guest("A", 5001, 101).seq == 2001


def test_what_was_kept_but_answers_another_syn_teaches_nothing():
    trace = Trace()
    trace.client("S", 100)
    trace.client("A", 3_000_000_000, 777)
    trace.guest("SA", 5000, 101)
    assert [segment.ack for segment in trace.ready()] == [777]
    assert (trace.counters.learned, trace.counters.stale) == (0, 1)


def test_everything_behind_a_kept_segment_waits_in_order():
    trace = Trace()
    trace.client("S", 100)
    trace.client("A", 101, 2001)
    assert trace.client("R", 101) is None
    trace.guest("SA", 5000, 101)
    assert [segment.flags for segment in trace.ready()] == ["A", "R"]


def test_a_reset_with_nothing_kept_is_delivered():
    trace = Trace()
    trace.client("S", 100)
    assert trace.client("RA", 101, 2001).ack == 2001


def test_what_the_guest_refuses_is_not_delivered():
    trace = Trace()
    trace.client("S", 100)
    trace.client("A", 101, 2001)
    trace.guest("RA", 0, 101)
    assert trace.ready() == []
    assert (trace.counters.early_dropped, trace.finished.connections) == (1, 0)


def test_the_port_is_used_again():
    """The old offset must not be applied to the new connection."""
    trace = Trace()
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    trace.client("A", 101, 2001)
    trace.client("S", 70_000)
    assert trace.client("A", 70_001, 9001) is None
    trace.guest("SA", 20_000, 70_001)
    assert [segment.ack for segment in trace.ready()] == [20_001]


def test_the_guest_still_has_the_old_connection():
    """Its challenge ACK says so: what waited belongs to the old numbers."""
    trace = Trace()
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    trace.client("A", 101, 2001)
    trace.client("S", 5000)
    assert trace.client("A", 5001, 2001) is None
    assert trace.guest("A", 5001, 101).seq == 2001
    assert [segment.ack for segment in trace.ready()] == [5001]


def test_the_guest_has_the_connection_and_nobody_saw_it_open():
    trace = Trace()
    trace.client("S", 100)
    trace.client("A", 101, 2001)
    assert trace.guest("A", 2001, 101).seq == 2001
    assert [segment.ack for segment in trace.ready()] == [2001]
    assert trace.counters.unknown == 1


def test_kept_segments_are_bounded_for_each_connection():
    trace = Trace(early_packets_per_connection=3)
    trace.client("S", 100)
    for number in range(10):
        trace.client("A", 101 + number, 2001, payload=b"x")
    assert (trace.counters.early_kept, trace.counters.early_overflow) == (3, 7)
    trace.guest("SA", 5000, 101)
    assert [segment.seq for segment in trace.ready()] == [101, 102, 103]


def test_kept_segments_are_bounded_for_all_connections():
    trace = Trace(early_packets=5)
    for port in range(10):
        trace.client("S", 100, sport=port)
        trace.client("A", 101, 2001, sport=port)
    assert (trace.counters.early_kept, trace.counters.early_overflow) == (5, 5)
    trace.guest("SA", 5000, 101, dport=0)
    trace.client("S", 100, sport=11)
    trace.client("A", 101, 2001, sport=11)
    assert trace.counters.early_kept == 6


def test_kept_segments_are_forgotten_with_their_connection():
    trace = Trace(closing_idle=10.0, early_packets=1)
    trace.client("S", 100)
    trace.client("A", 101, 2001)
    trace.tick(11.0)
    assert (trace.counters.early_dropped, trace.finished.connections) == (1, 0)
    trace.client("S", 200)
    trace.client("A", 201, 2001)
    assert trace.counters.early_kept == 2
