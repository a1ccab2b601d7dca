"""Connections are bounded in number and age; open ones are the last to go."""

from __future__ import annotations

from time import perf_counter

import pytest

from colo_bridge.rewrite import RewriteLimits, Rewriter
from tests.packets import tcp, timestamps
from tests.rewrite.trace import TO_CLIENT, TO_GUEST, Trace


def call(trace: Trace, port: int) -> None:
    trace.client("S", 100, sport=port)


def establish(trace: Trace, port: int) -> None:
    call(trace, port)
    trace.guest("SA", 5000, 101, dport=port)
    trace.client("A", 101, 2001, sport=port)


def is_known(trace: Trace, port: int) -> bool:
    return trace.guest("A", 5001, 101, dport=port).seq == 2001


def test_an_idle_half_open_connection_is_forgotten():
    trace = Trace(closing_idle=10.0)
    call(trace, 1)
    trace.tick(9.0)
    assert trace.finished.connections == 1
    trace.tick(12.5)
    assert (trace.finished.connections, trace.counters.expired) == (0, 1)


def test_an_open_connection_is_kept():
    trace = Trace(closing_idle=10.0, established_idle=1000.0)
    establish(trace, 1)
    trace.tick(999.0)
    assert trace.finished.connections == 1
    trace.tick(1251.0)
    assert trace.finished.connections == 0


def test_traffic_keeps_a_connection():
    trace = Trace(established_idle=100.0)
    establish(trace, 1)
    for now in range(0, 1000, 90):
        trace.tick(float(now))
        assert is_known(trace, 1)


def test_a_closed_connection_is_forgotten_soon():
    trace = Trace(closing_idle=10.0)
    establish(trace, 1)
    trace.guest("FA", 5001, 101, dport=1)
    trace.client("FA", 101, 2002, sport=1)
    trace.tick(11.0)
    assert trace.finished.connections == 0


def test_a_connection_closed_on_one_side_is_kept():
    trace = Trace(closing_idle=10.0)
    establish(trace, 1)
    trace.guest("FA", 5001, 101, dport=1)
    trace.tick(11.0)
    assert trace.finished.connections == 1


@pytest.mark.parametrize("options", [b"", timestamps(71, 901)])
def test_a_reset_connection_is_forgotten_soon(options):
    trace = Trace(closing_idle=10.0)
    establish(trace, 1)
    trace.guest("RA", 5001, 101, dport=1, options=options)
    trace.tick(11.0)
    assert trace.finished.connections == 0


def test_a_reset_that_the_guest_did_not_accept_closes_nothing():
    """It answers with an ACK (RFC 5961 §3) and goes on."""
    trace = Trace(closing_idle=10.0)
    establish(trace, 1)
    trace.client("R", 9999, sport=1)
    trace.guest("A", 5001, 101, dport=1)
    trace.tick(11.0)
    assert is_known(trace, 1)


def test_a_reset_of_an_earlier_connection_closes_nothing():
    trace = Trace(closing_idle=10.0)
    call(trace, 1)
    trace.guest("SA", 5000, 101, dport=1)
    trace.client("RA", 3_000_000_000, 777, sport=1)
    trace.client("FA", 3_000_000_000, 777, sport=1)
    trace.client("A", 101, 2001, sport=1)
    trace.tick(11.0)
    assert is_known(trace, 1)


def test_half_open_connections_go_first():
    trace = Trace(connections=16)
    for port in range(8):
        establish(trace, port)
    for port in range(100, 1100):
        call(trace, port)
    assert (trace.finished.connections, trace.counters.evicted) == (16, 992)
    assert all(is_known(trace, port) for port in range(8))


def test_the_longest_idle_half_open_connection_goes_first():
    trace = Trace(connections=3)
    for port in (1, 2, 3):
        call(trace, port)
    trace.now = 1.0
    trace.client("S", 100, sport=1)
    call(trace, 4)
    for port in (1, 3, 4):
        trace.guest("SA", 5000, 101, dport=port)
    assert trace.counters.evicted == 1


def test_among_open_connections_the_longest_idle_goes_first():
    trace = Trace(connections=4)
    for port in range(4):
        establish(trace, port)
    trace.now = 1.0
    for port in (0, 2, 3):
        assert is_known(trace, port)
    establish(trace, 9)
    assert [port for port in range(4) if is_known_without_effect(trace, port)] == [0, 2, 3]


def test_so_many_busy_connections_get_a_second_chance_and_no_more():
    """One of them has to go, and looking for a better one costs no more than that."""
    trace = Trace(connections=20)
    for port in range(20):
        establish(trace, port)
    trace.now = 1.0
    for port in range(20):
        assert is_known(trace, port)
    establish(trace, 99)
    assert [port for port in range(20) if not is_known_without_effect(trace, port)] == [8]


def is_known_without_effect(trace: Trace, port: int) -> bool:
    evicted = trace.counters.evicted
    known = trace.counters.unknown
    trace.client("R", 101, sport=port)
    return trace.guest("R", 5001, dport=port).seq == 2001 and (evicted, known) == (
        trace.counters.evicted,
        trace.counters.unknown,
    )


def test_acknowledgements_out_of_nowhere_push_out_no_open_connection():
    trace = Trace(connections=16)
    establish(trace, 1)
    for port in range(100, 300):
        trace.client("A", 7, 7, sport=port)
    assert is_known(trace, 1)


def test_resets_out_of_nowhere_are_not_remembered():
    trace = Trace()
    trace.client("RA", 7, 7)
    trace.guest("R", 7)
    assert trace.finished.connections == 0


def test_a_tick_does_bounded_work():
    rewriter = Rewriter(RewriteLimits(closing_idle=10.0), 0)
    for port in range(5000):
        frame = bytearray(tcp(**TO_GUEST | {"sport": port}, seq=1, flags="S"))
        rewriter.ingress(frame, 0, len(frame), False, 0.0)
    rewriter.tick(100.0)
    assert 0 < rewriter.connections < 5000
    for _ in range(5):
        rewriter.tick(100.0)
    assert rewriter.connections == 0


def test_a_flood_costs_no_more_with_a_full_table_than_with_an_empty_one():
    def seconds(calls: range, rewriter: Rewriter) -> float:
        frames = [bytearray(tcp(**TO_GUEST | {"sport": port}, seq=1, flags="S")) for port in calls]
        began = perf_counter()
        for frame in frames:
            rewriter.ingress(frame, 0, len(frame), False, 0.0)
        return perf_counter() - began

    rewriter = Rewriter(RewriteLimits(connections=10_000), 0)
    empty = seconds(range(10_000), rewriter)
    full = min(seconds(range(10_000 * turn, 10_000 * (turn + 1)), rewriter) for turn in range(1, 4))
    assert full < 10 * empty
    assert rewriter.counters.evicted == 30_000


def test_a_flood_of_syn_acks_is_bounded_too():
    rewriter = Rewriter(RewriteLimits(connections=100), 0)
    for port in range(1000):
        frame = bytearray(tcp(**TO_CLIENT | {"dport": port}, seq=1, ack=1, flags="S"))
        rewriter.egress(frame, 0, len(frame), False, 0.0)
    assert rewriter.connections == 100
