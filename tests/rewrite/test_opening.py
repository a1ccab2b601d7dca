"""What the offsets are learned from, and what must not ruin them.

Unless a test says otherwise the client's initial number is 100, the secondary's 5000 with
TSval 70, the primary's 2000 with TSval 40: offsets 3000 and 30.
"""

from __future__ import annotations

import pytest

from tests.packets import Segment, bare_timestamps, maximum_segment_size, sack, sack_permitted, timestamps
from tests.rewrite.trace import Trace


@pytest.fixture
def trace() -> Trace:
    return Trace()


def called(trace: Trace) -> None:
    """The client calls: SYN, SYN-ACK, ACK."""
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    trace.client("A", 101, 2001, options=timestamps(901, 40))


def assert_offsets(trace: Trace, sequence: int = 3000, stamp: int = 30) -> None:
    """Data in both directions comes out moved."""
    out = trace.guest("PA", 6000, 101, payload=b"x", options=timestamps(80, 901))
    assert (out.seq, out.ack, out.timestamps) == (6000 - sequence, 101, (80 - stamp, 901))
    into = trace.client("A", 101, 3000, options=timestamps(902, 50))
    assert into is not None
    assert (into.seq, into.ack, into.timestamps) == (101, 3000 + sequence, (902, 50 + stamp))


def moved(segment: Segment | None) -> tuple[int, int, tuple[int, int] | None]:
    assert segment is not None
    return segment.seq, segment.ack, segment.timestamps


def test_the_client_calls(trace):
    assert moved(trace.client("S", 100, options=timestamps(900))) == (100, 0, (900, 0))
    assert moved(trace.guest("SA", 5000, 101, options=timestamps(70, 900))) == (5000, 101, (70, 900))
    assert moved(trace.client("A", 101, 2001, options=timestamps(901, 40))) == (101, 5001, (901, 70))
    assert_offsets(trace)
    assert trace.counters.learned == 1
    assert trace.counters.unknown == 0


def test_the_guest_calls(trace):
    assert moved(trace.guest("S", 5000, options=timestamps(70))) == (5000, 0, (70, 0))
    assert moved(trace.client("SA", 100, 2001, options=timestamps(900, 40))) == (100, 5001, (900, 70))
    assert moved(trace.guest("A", 5001, 101, options=timestamps(75, 900))) == (2001, 101, (45, 900))
    assert_offsets(trace)


def test_both_call(trace):
    trace.guest("S", 5000, options=timestamps(70))
    assert moved(trace.client("S", 100, options=timestamps(900))) == (100, 0, (900, 0))
    trace.guest("SA", 5000, 101, options=timestamps(71, 900))
    assert moved(trace.client("SA", 100, 2001, options=timestamps(901, 41))) == (100, 5001, (901, 71))
    assert_offsets(trace)


def test_both_call_and_the_client_acknowledges_without_a_second_syn(trace):
    trace.client("S", 100, options=timestamps(900))
    trace.guest("S", 5000, options=timestamps(70))
    trace.client("S", 100, options=timestamps(900))
    assert moved(trace.client("A", 101, 2001, options=timestamps(901, 40))) == (101, 5001, (901, 70))


def test_without_timestamps(trace):
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    assert moved(trace.client("A", 101, 2001)) == (101, 5001, None)
    assert moved(trace.guest("A", 5001, 101)) == (2001, 101, None)
    assert moved(trace.guest("PA", 5001, 101, payload=b"hello")) == (2001, 101, None)
    assert moved(trace.client("A", 101, 2006)) == (101, 5006, None)


def test_the_guest_offers_timestamps_and_the_client_declines(trace):
    trace.guest("S", 5000, options=timestamps(70))
    assert moved(trace.client("SA", 100, 2001)) == (100, 5001, None)
    assert trace.counters.timestamp_unlearned == 0


def test_an_echo_that_is_missing_is_not_guessed(trace):
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    trace.client("A", 101, 2001)
    assert trace.counters.timestamp_unlearned == 1
    assert_offsets(trace, stamp=0)


def test_the_first_acknowledgement_may_carry_data(trace):
    """The handshake's ACK was lost on the way to the secondary."""
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    assert moved(trace.client("PA", 101, 2001, payload=b"GET")) == (101, 5001, None)
    assert trace.counters.learned == 1


def test_the_first_acknowledgement_may_follow_lost_data(trace):
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    assert moved(trace.client("A", 3101, 2001, payload=b"GET")) == (3101, 5001, None)


def test_a_secondary_that_is_behind_the_primary(trace):
    trace.client("S", 100)
    trace.guest("SA", 10, 101)
    assert moved(trace.client("A", 101, 0xFFFFFFFF)) == (101, 11, None)
    assert moved(trace.guest("A", 11, 101)) == (0xFFFFFFFF, 101, None)


def test_the_secondary_repeats_its_syn_ack_before_the_acknowledgement(trace):
    """Its newest TSval is the one that a stack accepts in any case."""
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    trace.guest("SA", 5000, 101, options=timestamps(1070, 900))
    assert moved(trace.client("A", 101, 2001, options=timestamps(901, 40))) == (101, 5001, (901, 1070))
    out = trace.guest("A", 5001, 101, options=timestamps(1080, 901))
    assert out.timestamps == (50, 901)


def test_a_syn_ack_repeated_after_the_acknowledgement_ruins_nothing(trace):
    called(trace)
    assert moved(trace.guest("SA", 5000, 101, options=timestamps(1070, 900))) == (2000, 101, (1040, 900))
    assert moved(trace.client("A", 101, 2001, options=timestamps(902, 40))) == (101, 5001, (902, 70))
    assert_offsets(trace)
    assert trace.counters.learned == 1


def test_a_syn_repeated_by_the_client_ruins_nothing(trace):
    called(trace)
    assert moved(trace.client("S", 100, options=timestamps(900))) == (100, 0, (900, 0))
    assert moved(trace.client("PA", 101, 2001, payload=b"x")) == (101, 5001, None)
    assert_offsets(trace)


def test_a_syn_repeated_by_the_guest_ruins_nothing(trace):
    trace.guest("S", 5000, options=timestamps(70))
    trace.guest("S", 5000, options=timestamps(71))
    trace.client("SA", 100, 2001, options=timestamps(900, 41))
    assert moved(trace.guest("S", 5000, options=timestamps(72))) == (2000, 0, (42, 0))
    assert_offsets(trace)


def test_a_syn_ack_repeated_by_the_client_ruins_nothing(trace):
    trace.guest("S", 5000, options=timestamps(70))
    trace.client("SA", 100, 2001, options=timestamps(900, 40))
    assert moved(trace.client("SA", 100, 2001, options=timestamps(950, 40))) == (100, 5001, (950, 70))
    assert_offsets(trace)


def test_a_stray_syn_of_the_client_ruins_nothing(trace):
    """An established guest answers it with an ACK of its own numbers (RFC 5961 §4)."""
    called(trace)
    trace.client("S", 77_000)
    assert moved(trace.client("PA", 101, 2001, payload=b"x")) == (101, 5001, None)
    assert moved(trace.guest("A", 5001, 102, options=timestamps(76, 901))) == (2001, 102, (46, 901))
    assert_offsets(trace)


@pytest.mark.parametrize(("primary", "secondary"), [(9000, 12_500), (9000, 3000), (0xFFFFFFFF, 0)])
def test_a_port_used_again_by_the_client_starts_anew(trace, primary, secondary):
    called(trace)
    trace.client("S", 50_100, options=timestamps(990))
    trace.guest("SA", secondary, 50_101, options=timestamps(70, 990))
    trace.client("A", 50_101, primary + 1 & 0xFFFFFFFF, options=timestamps(991, 45))
    sent = trace.guest("A", secondary + 1, 50_101, options=timestamps(80, 991))
    assert moved(sent) == (primary + 1 & 0xFFFFFFFF, 50_101, (55, 991))
    assert trace.counters.learned == 2


@pytest.mark.parametrize("secondary", [12_500, 3000])
def test_a_port_used_again_by_the_guest_starts_anew(trace, secondary):
    trace.guest("S", 5000)
    trace.client("SA", 100, 2001)
    trace.guest("RA", 5001, 101)
    trace.guest("S", secondary)
    assert moved(trace.client("SA", 700, 9001)) == (700, secondary + 1, None)
    assert moved(trace.guest("A", secondary + 1, 701)) == (9001, 701, None)


def test_a_newer_syn_ack_before_anything_followed_replaces_the_old(trace):
    """SYN cookies change with the time."""
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    trace.client("S", 100)
    trace.guest("SA", 8000, 101)
    assert moved(trace.client("A", 101, 2001)) == (101, 8001, None)


def test_an_old_duplicate_is_not_taken_for_the_acknowledgement(trace):
    """It belongs to an earlier use of the port; its number says so."""
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    assert moved(trace.client("A", 3_000_000_000, 777)) == (3_000_000_000, 777, None)
    assert trace.counters.stale == 1
    assert moved(trace.client("A", 101, 2001)) == (101, 5001, None)


def test_a_client_that_still_has_the_old_connection_is_not_believed(trace):
    """It answers a guest's SYN with an ACK of the old numbers (RFC 9293 §3.5.1); both replicas reset it."""
    trace.guest("S", 5000)
    assert moved(trace.client("A", 4444, 777)) == (4444, 777, None)
    assert moved(trace.guest("R", 777)) == (777, 0, None)
    trace.guest("S", 5000)
    assert moved(trace.client("SA", 100, 2001)) == (100, 5001, None)


def test_octets_sent_before_the_acknowledgement_make_the_offset_unknowable(trace):
    """Fast Open (RFC 7413): the client may have acknowledged the SYN, or the data too."""
    trace.client("S", 100, payload=b"GET")
    trace.guest("SA", 5000, 104)
    trace.guest("PA", 5001, 104, payload=b"early")
    assert moved(trace.client("A", 104, 2006)) == (104, 2006, None)
    assert moved(trace.guest("A", 5006, 104)) == (5006, 104, None)
    assert (trace.counters.learned, trace.counters.unlearnable) == (0, 1)


def test_an_acknowledgement_before_the_acknowledgement_changes_nothing(trace):
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    trace.guest("A", 5001, 101)
    assert moved(trace.client("A", 101, 2001)) == (101, 5001, None)


def test_a_repeated_syn_ack_does_not_hide_octets_sent_before(trace):
    trace.client("S", 100, payload=b"GET")
    trace.guest("SA", 5000, 104)
    trace.guest("PA", 5001, 104, payload=b"early")
    trace.guest("SA", 5000, 104)
    trace.client("A", 104, 2006)
    assert (trace.counters.learned, trace.counters.unlearnable) == (0, 1)


def test_octets_in_the_guests_own_syn_make_the_offset_unknowable(trace):
    trace.guest("S", 5000, payload=b"early")
    assert moved(trace.client("SA", 100, 2006)) == (100, 2006, None)
    assert trace.counters.unlearnable == 1


def test_octets_in_the_clients_syn_make_no_difference(trace):
    trace.client("S", 100, payload=b"GET")
    trace.guest("SA", 5000, 104)
    assert moved(trace.client("A", 104, 2001)) == (104, 5001, None)


def test_options_of_both_syns_pass_unchanged(trace):
    options = maximum_segment_size() + sack_permitted() + bare_timestamps(70, 900)
    trace.client("S", 100, options=options)
    out = trace.guest("SA", 5000, 101, options=options)
    assert out.options == options


def test_many_connections_do_not_mix(trace):
    for port in range(40_000, 40_050):
        trace.client("S", port, sport=port)
        trace.guest("SA", 3 * port, port + 1, dport=port)
        trace.client("A", port + 1, 2 * port + 1, sport=port)
    for port in range(40_000, 40_050):
        out = trace.guest("PA", 3 * port + 1, port + 1, dport=port, payload=b"x", options=sack((1, 2)))
        assert (out.seq, out.sack) == (2 * port + 1, [(1, 2)])
