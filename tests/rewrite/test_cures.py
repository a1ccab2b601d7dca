"""What the secondary missed is acknowledged again, and nothing that it has not sent.

Unless a test says otherwise the offsets are 3000 and 30: the client calls with 100, the secondary
answers with 5000 and TSval 70, the primary with 2000 and TSval 40.
"""

from __future__ import annotations

import pytest

from tests.packets import CLIENT_MAC, GUEST_MAC, nop, sack, tcp, timestamps
from tests.rewrite.trace import HEADER, TO_CLIENT, TO_GUEST, Trace, buffer

WINDOW = 777


def established(**more: int) -> Trace:
    trace = Trace(cures=True)
    opened(trace, **more)
    return trace


def opened(trace: Trace, primary: int = 2000, secondary: int = 5000) -> None:
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", secondary, 101, options=timestamps(70, 900))
    trace.client("A", 101, (primary + 1) % (1 << 32), options=timestamps(901, 40), window=WINDOW)


@pytest.fixture
def trace() -> Trace:
    """Established; ten octets of the guest are sent and acknowledged, at time 1."""
    trace = established()
    trace.now = 1.0
    trace.guest("PA", 5001, 101, payload=bytes(10), options=timestamps(71, 901))
    trace.client("A", 101, 2011, options=timestamps(902, 41), window=WINDOW)
    return trace


def answered(trace: Trace) -> list[int]:
    """The acknowledgements that the secondary got, in its numbers."""
    return [segment.ack for segment in trace.ready()]


# Lost acknowledgements.


def test_repeated_octets_are_acknowledged(trace):
    trace.now = 1.2
    trace.guest("PA", 5001, 101, payload=bytes(10), options=timestamps(271, 901))
    (answer,) = trace.ready()
    assert (answer.seq, answer.ack, answer.flags, answer.payload) == (101, 5011, "A", b"")
    assert answer.timestamps == (901, 271)
    assert trace.counters.repeated_acknowledgments == 1


def test_the_answer_is_a_whole_frame(trace):
    frame = buffer(tcp(**TO_CLIENT, seq=5001, ack=101, payload=bytes(10)))
    trace.finished.egress(frame, HEADER, len(frame), False, 1.2)
    (answer,) = trace.finished.ready
    expected = tcp(**TO_GUEST, seq=101, ack=5011, window=WINDOW, fragment=0x4000, identification=0)
    assert answer == bytes(HEADER) + GUEST_MAC + CLIENT_MAC + expected[12:]


def test_the_answer_expects_what_the_secondary_expects(trace):
    """A number that it takes, even where it lacks octets of the client or has no room for them."""
    trace.client("PA", 101, 2011, payload=bytes(500))
    trace.guest("PA", 5001, 101, payload=bytes(10))
    assert [segment.seq for segment in trace.ready()] == [101]


def test_a_part_of_what_was_acknowledged_is_enough(trace):
    trace.guest("PA", 5006, 101, payload=bytes(5))
    assert answered(trace) == [5011]


def test_a_repeated_syn_ack_is_acknowledged():
    trace = established()
    trace.now = 1.0
    trace.guest("SA", 5000, 101, options=timestamps(1070, 900))
    (answer,) = trace.ready()
    assert (answer.seq, answer.ack, answer.flags, answer.timestamps) == (101, 5001, "A", (900, 1070))


def test_a_syn_ack_that_the_kept_acknowledgement_answers_gets_no_other():
    trace = Trace(cures=True)
    trace.client("S", 100)
    trace.client("A", 101, 2001)
    trace.guest("SA", 5000, 101)
    assert answered(trace) == [5001]


def test_a_repeated_end_is_acknowledged(trace):
    trace.guest("FA", 5011, 101)
    trace.client("A", 101, 2012)
    trace.guest("FA", 5011, 101)
    assert answered(trace) == [5012]


def test_a_window_probe_is_answered_with_the_newest_window(trace):
    """The client's window opened again, and nobody told the secondary."""
    trace.client("A", 101, 2011, options=timestamps(902, 41), window=0)
    trace.client("A", 101, 2011, options=timestamps(903, 41), window=WINDOW)
    frame = buffer(tcp(**TO_CLIENT, seq=5010, ack=101))
    trace.finished.egress(frame, HEADER, len(frame), False, 1.3)
    (answer,) = trace.finished.ready
    assert int.from_bytes(answer[HEADER + 48 : HEADER + 50], "big") == WINDOW


def test_a_keep_alive_is_the_clients_to_answer(trace):
    """The client may be gone."""
    trace.now = 60.0
    trace.guest("A", 5010, 101)
    assert answered(trace) == []


def test_a_keep_alive_of_a_secondary_that_missed_an_acknowledgement_is_answered(trace):
    trace.now = 60.0
    trace.guest("A", 5000, 101)
    assert answered(trace) == [5011]


@pytest.mark.parametrize(
    ("flags", "seq", "ack", "payload"),
    [
        pytest.param("A", 5011, 101, b"", id="an acknowledgement"),
        pytest.param("PA", 5011, 101, b"new", id="new octets"),
        pytest.param("FA", 5011, 101, b"", id="the end"),
        pytest.param("RA", 5001, 101, b"", id="a reset"),
        pytest.param("P", 5001, None, b"x", id="no acknowledgement number to answer with"),
    ],
)
def test_what_the_client_did_not_acknowledge_is_not_answered(trace, flags, seq, ack, payload):
    trace.guest(flags, seq, ack, payload=payload)
    assert answered(trace) == []


def test_octets_that_the_client_has_not_acknowledged_are_not_either(trace):
    trace.guest("PA", 5011, 101, payload=b"new")
    trace.now = 1.2
    trace.guest("PA", 5011, 101, payload=b"new")
    assert answered(trace) == []


def test_an_older_acknowledgement_does_not_replace_the_newest(trace):
    trace.client("A", 101, 2005, window=1)
    trace.guest("PA", 5001, 101, payload=bytes(10))
    assert answered(trace) == [5011]


def test_one_answer_in_a_millisecond(trace):
    for microseconds in range(0, 3000, 100):
        trace.now = 2 + microseconds / 1e6
        trace.guest("PA", 5001, 101, payload=bytes(10))
    assert answered(trace) == [5011] * 3


def test_a_stack_that_answers_every_acknowledgement_ends_it(trace):
    """Whatever it sends to say what it has (RFC 5961 §3.2) begins where its octets end."""
    trace.guest("PA", 5001, 101, payload=bytes(10))
    for turn in range(1, 100):
        trace.now = 1.0 + turn
        answers = trace.ready()
        for _ in answers:
            trace.guest("A", 5011, 101)
        if not answers:
            break
    assert (turn, trace.counters.repeated_acknowledgments) == (2, 1)


def test_a_stack_that_answers_with_a_probe_ends_it_too(trace):
    """The worst that a stack could do gets one answer in a millisecond, and none when it slows down."""
    trace.guest("A", 5010, 101)
    for turn in range(1000):
        trace.now = 1.0 + turn / 10_000
        for _ in trace.ready():
            trace.guest("A", 5010, 101)
    assert trace.counters.repeated_acknowledgments == 1


def test_without_cures_nothing_is_answered():
    trace = Trace()
    opened(trace)
    trace.guest("SA", 5000, 101)
    assert (answered(trace), trace.counters.repeated_acknowledgments) == ([], 0)


# Acknowledgements ahead of the secondary.


def test_no_more_is_acknowledged_than_the_secondary_has_sent(trace):
    into = trace.client("A", 101, 2100, options=timestamps(903, 42) + nop(2) + sack((2200, 2300)))
    assert (into.ack, into.timestamps, into.sack) == (5011, (903, 72), [(5200, 5300)])
    assert trace.counters.clamped_acknowledgments == 1


def test_what_the_secondary_sends_late_is_acknowledged_at_once(trace):
    trace.client("A", 101, 2100)
    for start in range(5011, 5100, 10):
        trace.guest("PA", start, 101, payload=bytes(10))
    assert answered(trace) == [*range(5021, 5100, 10), 5100]


def test_once_it_has_caught_up_everything_is_as_before(trace):
    trace.client("A", 101, 2021)
    trace.guest("PA", 5011, 101, payload=bytes(20), options=timestamps(72, 902))
    assert answered(trace) == [5021]
    trace.guest("PA", 5031, 101, payload=bytes(20), options=timestamps(72, 902))
    assert trace.client("A", 101, 2051, options=timestamps(904, 42)).ack == 5051
    assert (answered(trace), trace.counters.clamped_acknowledgments) == ([], 1)


def test_the_numbers_wrap():
    trace = established(primary=0xFFFFFFF0, secondary=50)
    assert trace.client("A", 101, 5).ack == 51
    assert trace.guest("PA", 51, 101, payload=bytes(20)).seq == 0xFFFFFFF1
    assert answered(trace) == [71]
    assert trace.client("A", 101, 9).ack == 71
    assert trace.counters.clamped_acknowledgments == 2


def test_data_of_the_client_comes_through_with_a_lowered_acknowledgement(trace):
    into = trace.client("PA", 101, 2100, payload=b"GET")
    assert (into.ack, into.payload) == (5011, b"GET")


def test_a_reset_keeps_its_number(trace):
    assert trace.client("RA", 101, 2100).ack == 5100


def test_what_no_window_allows_is_not_touched_nor_believed(trace):
    """Of an earlier connection: any stack discards it."""
    assert trace.client("A", 101, 2011 + (1 << 30) + 1).ack == 5011 + (1 << 30) + 1
    trace.now = 1.5
    trace.guest("PA", 5001, 101, payload=bytes(10))
    assert answered(trace) == [5011]


def test_without_cures_nothing_is_lowered():
    trace = Trace()
    opened(trace)
    assert trace.client("A", 101, 2100).ack == 5100
    assert trace.counters.clamped_acknowledgments == 0


def test_a_connection_not_seen_opening_is_left_alone():
    """Nobody knows whether its numbers are the primary's."""
    trace = Trace(cures=True)
    trace.guest("PA", 2001, 101, payload=bytes(10))
    assert trace.client("A", 101, 2100).ack == 2100
    trace.now = 1.0
    trace.guest("PA", 2001, 101, payload=bytes(10))
    assert answered(trace) == []


def test_after_a_checkpoint_nothing_is_lowered_until_the_copy_has_sent(trace):
    trace.synchronised()
    assert trace.client("A", 101, 2100).ack == 2100
    trace.guest("A", 2100, 101)
    assert trace.client("A", 101, 2200).ack == 2100
    assert trace.counters.clamped_acknowledgments == 1


def test_a_copy_that_probes_a_closed_window_is_told_that_it_is_open(trace):
    """The probe is numbered one below what the client has acknowledged; nothing else tells what the copy has sent."""
    trace.synchronised()
    trace.guest("A", 2099, 101)
    assert trace.client("A", 101, 2100).ack == 2100
    trace.guest("PA", 2100, 101, payload=bytes(10))
    assert trace.client("A", 101, 2111).ack == 2110
    assert trace.counters.clamped_acknowledgments == 1


def test_after_a_checkpoint_connections_not_seen_opening_are_cured():
    trace = Trace(cures=True)
    trace.synchronised()
    trace.guest("PA", 2001, 101, payload=bytes(10))
    trace.client("A", 101, 2011)
    trace.now = 1.0
    trace.guest("PA", 2001, 101, payload=bytes(10))
    assert answered(trace) == [2011]


def test_the_next_connection_on_the_same_ports_begins_anew(trace):
    trace.client("A", 101, 2100)
    trace.client("S", 60_100)
    trace.guest("SA", 9000, 60_101)
    assert trace.client("A", 60_101, 7001).ack == 9001
    trace.guest("PA", 9001, 60_101, payload=bytes(10))
    assert answered(trace) == []
