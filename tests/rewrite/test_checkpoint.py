"""After a checkpoint that copies the state both replicas have the same numbers."""

from __future__ import annotations

from tests.packets import timestamps
from tests.rewrite.trace import Trace


def established() -> Trace:
    trace = Trace()
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    trace.client("A", 101, 2001, options=timestamps(901, 40))
    return trace


def test_known_connections_get_offset_zero():
    trace = established()
    trace.synchronised()
    assert trace.client("A", 101, 2001, options=timestamps(902, 41)).ack == 2001
    out = trace.guest("PA", 2001, 101, payload=b"x", options=timestamps(42, 902))
    assert (out.seq, out.timestamps) == (2001, (42, 902))
    assert (trace.counters.unknown, trace.counters.synchronisations) == (0, 1)


def test_the_guests_syn_is_forgotten():
    """A checkpoint between the SYN-ACK and its acknowledgement: the secondary has the primary's number now."""
    trace = Trace()
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    trace.synchronised()
    assert trace.client("A", 101, 2001).ack == 2001
    assert trace.guest("A", 2001, 101).seq == 2001


def test_the_old_number_of_the_guest_may_come_again():
    trace = established()
    trace.synchronised()
    trace.client("S", 60_100)
    trace.guest("SA", 5000, 60_101)
    assert trace.client("A", 60_101, 9001).ack == 5001


def test_a_syn_ack_repeated_after_the_checkpoint_teaches_offset_zero():
    trace = Trace()
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    trace.synchronised()
    trace.guest("SA", 2000, 101)
    assert trace.client("A", 101, 2001).ack == 2001
    assert trace.guest("A", 2001, 101).seq == 2001


def test_a_guests_syn_repeated_after_the_checkpoint_teaches_offset_zero():
    trace = Trace()
    trace.guest("S", 5000, options=timestamps(70))
    trace.synchronised()
    trace.guest("S", 2000, options=timestamps(41))
    into = trace.client("SA", 100, 2001, options=timestamps(900, 41))
    assert (into.ack, into.timestamps) == (2001, (900, 41))


def test_new_connections_learn_their_offsets():
    trace = established()
    trace.synchronised()
    trace.client("S", 60_100)
    trace.guest("SA", 8000, 60_101)
    assert trace.client("A", 60_101, 7001).ack == 8001
    assert trace.guest("A", 8001, 60_101).seq == 7001


def test_what_was_kept_is_delivered_unchanged():
    trace = Trace()
    trace.client("S", 100)
    trace.client("A", 101, 2001)
    trace.synchronised()
    assert [segment.ack for segment in trace.ready()] == [2001]
    assert trace.client("A", 101, 2001).ack == 2001
