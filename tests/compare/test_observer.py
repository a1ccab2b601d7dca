"""Observe mode: nothing waits, all is compared, and what would have been held is counted."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colo_bridge.compare.observer import Observer
from colo_bridge.compare.rule import Rule
from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook, malformed
from tests.packets import ethernet

OPENING = """
    P a SA 0 ack 1 => a
    S   SA 0 ack 1 =>
"""


def observe(trace: str = "", limits: Settings | None = None) -> Playbook:
    """Play a trace in observe mode; the account of every packet must be closed."""
    book = Playbook(settings=limits or Settings())
    book.comparator = Observer(book.settings)
    book.run(trace)
    _check_account(book)
    return book


def _check_account(book: Playbook) -> None:
    decided = sum(book[f"observed_{what}_packets"] for what in ("equal", "unequal", "uncompared"))
    assert book["observed_packets"] == book["primary_packets"] == decided + book["held_packets_now"]
    assert (book["dropped_packets"], book["checkpoint_requests"]) == (0, 0)


def services(book: Playbook) -> dict[str, dict[str, int]]:
    assert isinstance(book.comparator, Observer)
    return book.comparator.services.table()


def test_equal_streams_leave_at_once_and_count_as_equal() -> None:
    book = observe(
        OPENING
        + """
        P b 1+10 ack 1  => b
        P c A 11 ack 50 => c
        S   1+4 ack 1   =>
        S   5+6 ack 50  =>
        P d FA 11 ack 9 => d
        P b 1+10 ack 1  => b
        S   FA 11 ack 9 =>
        P u udp one     => u
        S   udp one     =>
    """
    )
    assert book["observed_equal_packets"] == 6
    assert book["observed_equal_bytes"] == book["observed_bytes"] == book["released_bytes"]
    assert book["held_packets_now"] == book["secondary_packets_now"] == 0
    assert services(book) == {"tcp 80 of the guest": {"flows": 1, "diverged": 0}, "udp 53 of the guest": _flows(1)}


def _flows(count: int, diverged: int = 0) -> dict[str, int]:
    return {"flows": count, "diverged": diverged}


@pytest.mark.parametrize("secondary_first", [False, True])
def test_behind_unequal_bytes_the_comparison_goes_on(secondary_first: bool) -> None:
    rounds = (
        ("1+10 ack 1", "1+10!4 ack 1", "!content"),
        ("11+10 ack 1", "11+10!12 ack 1", ""),
        ("21+5 ack 1",) * 2 + ("",),
    )
    lines = []
    for name, (ours, theirs, outcome) in zip("bcd", rounds, strict=True):
        if secondary_first:
            lines += [f"S {theirs} =>", f"P {name} {ours} => {name} {outcome}"]
        else:
            lines += [f"P {name} {ours} => {name}", f"S {theirs} => {outcome}"]
    book = observe(OPENING + "\n".join(lines))
    assert (book["observed_unequal_packets"], book["observed_equal_packets"]) == (2, 2)
    assert book["observed_unequal_bytes"] == 100
    assert book["divergences"] == 1
    assert book["held_packets_now"] == book["secondary_packets_now"] == 0
    assert services(book) == {"tcp 80 of the guest": _flows(1, 1)}


def test_a_segment_with_a_difference_counts_once_however_the_secondary_cuts_it() -> None:
    book = observe(
        OPENING
        + """
        P b 1+30 ack 1   => b
        S   1+10!4 ack 1 => !content
        S   11+10!12 ack 1 =>
        S   21+20!25 ack 1 =>
        P c 31+10 ack 1  => c
    """
    )
    assert (book["observed_unequal_packets"], book["observed_equal_packets"]) == (1, 2)
    assert book["secondary_packets_now"] == 0


def test_a_difference_in_a_segment_that_the_floor_holds_counts_once_it_leaves() -> None:
    book = observe(OPENING + "P b 1+10 ack 90 => b\nS 1+10!4 ack 1 => !content")
    assert (book["observed_unequal_packets"], book["held_packets_now"]) == (0, 1)
    book.run("S A 11 ack 90 =>")
    assert (book["observed_unequal_packets"], book["held_packets_now"]) == (1, 0)
    _check_account(book)


@pytest.mark.parametrize(("theirs", "equal"), [("F 1+10!4 ack 1", 2), ("1+10!4 ack 1", 2), ("F 1+5!4 ack 1", 2)])
def test_a_difference_in_front_of_a_fin(theirs: str, equal: int) -> None:
    book = observe(OPENING + f"P b F 1+10 ack 1 => b\nS {theirs} => !content\nP c A 12 ack 1 => c")
    assert (book["observed_unequal_packets"], book["observed_equal_packets"]) == (1, equal)


@pytest.mark.parametrize(
    ("trace", "unequal"),
    [
        ("P b F 1+5 ack 1 => b\nS 1+10 ack 1 => !control", 1),
        ("P b 1+10 ack 1 => b\nS R 11 =>\nP c 11+10 ack 1 => c !control", 2),
        ("P b R 1 => b\nS 1+10 ack 1 => !control", 1),
    ],
)
def test_behind_control_octets_at_different_places_nothing_is_compared_until_the_next_opening(
    trace: str, unequal: int
) -> None:
    book = observe(
        OPENING
        + trace
        + """
        P x 30+10 ack 1     => x
        S   30+10!33 ack 1  =>
        tick 100            =>
        P d SA 50000 ack 7  => d
        S   SA 50000 ack 7  =>
        P e 50001+10 ack 7  => e
        S   50001+10 ack 7  =>
    """
    )
    assert book["observed_unequal_packets"] == unequal
    assert book["observed_uncompared_packets"] == 1
    assert book["unsynchronised_packets"] == 1
    assert book["held_packets_now"] == book["secondary_packets_now"] == 0


def test_a_connection_that_the_secondary_refuses() -> None:
    book = observe("P a SA 0 ack 1 => a\nS R 0 ack 1 => !control\nP b 1+10 ack 1 => b\nS R 1 =>\ntick 100 =>")
    assert (book["observed_unequal_packets"], book["observed_uncompared_packets"]) == (1, 1)
    assert services(book)["tcp 80 of the guest"]["diverged"] == 1


def test_a_silent_secondary_is_given_up_and_compared_when_it_is_back() -> None:
    book = observe(
        OPENING
        + """
        P b 1+10 ack 1    => b
        P c 11+10 ack 1   => c
        tick 2            =>
        tick 4            => !timeout
        S   1+10 ack 1    =>
        S   11+10 ack 1   =>
        P d 21+10 ack 1   => d
        S   21+10 ack 1   =>
        P e 31+10 ack 1   => e
        tick 8            =>
    """
    )
    assert (book["observed_unequal_packets"], book["observed_equal_packets"]) == (3, 2)
    assert book["divergences"] == 1


def test_what_the_secondary_sent_behind_a_gap_is_still_compared() -> None:
    book = observe(
        OPENING
        + """
        P b 1+10 ack 1  => b
        tick 2          =>
        S   11+10 ack 1 =>
        tick 4          => !timeout
        P c 11+10 ack 1 => c
    """
    )
    assert (book["observed_unequal_packets"], book["observed_equal_packets"]) == (1, 2)


def test_a_reset_that_nothing_else_came_with_is_given_up() -> None:
    book = Playbook(isn=0)
    book.comparator = Observer(book.settings)
    book.run("P a RA 0 ack 1 => a\ntick 4 => !timeout\nP b SA 5 ack 1 => b\nS SA 5 ack 1 =>")
    assert book["observed_unequal_packets"] == 1
    assert book.comparator.released_packets == 2
    _check_account(book)


def test_a_silent_primary_is_given_up() -> None:
    book = observe(
        OPENING
        + """
        S   1+10 ack 1      =>
        S   SA 0 ack 1 @77  =>
        S   udp one         =>
        tick 4              => !timeout !timeout !timeout
        P b 1+10 ack 1      => b
        P c SA 0 ack 1 @77  => c
        P u udp one         => u
        tick 8              =>
        P d 11+10 ack 1     => d
        S   11+10 ack 1     =>
    """
    )
    assert book["secondary_packets_now"] == book["held_packets_now"] == 0
    assert (book["observed_unequal_packets"], book["observed_equal_packets"]) == (3, 2)


def test_unequal_datagrams_are_both_given_up() -> None:
    book = observe("""
        P a udp one   => a
        S   udp two   => !datagram
        P b udp two   => b
        S   udp three =>
        P c udp four  => c
        S   udp four  =>
    """)
    assert (book["observed_unequal_packets"], book["observed_equal_packets"]) == (2, 1)
    assert book["divergences"] == 1


def test_a_silent_flow_of_datagrams_is_given_up() -> None:
    book = observe("P a udp one => a\nP b icmp one => b\ntick 4 => !timeout !timeout\nP c udp two => c\nS udp two =>")
    assert (book["observed_unequal_packets"], book["observed_equal_packets"]) == (2, 1)


def test_what_cannot_be_compared_leaves_too() -> None:
    book = observe("P a cut one => a !cut-short\nP b arp => b\nP c 500+10 ack 1 => c\nS 500+10!502 ack 1 =>")
    book.comparator.primary_malformed("bad", 60)
    assert book.comparator.released == ["bad"]
    assert malformed(ethernet(b"\x45"))
    assert (book["observed_unequal_packets"], book["observed_uncompared_packets"]) == (1, 3)
    assert book["malformed_primary"] == 1
    _check_account(book)


def test_limits_cost_comparisons_and_nothing_else() -> None:
    book = observe(
        OPENING
        + """
        P b 1+10 ack 1     => b
        P c 11+10 ack 1    => c
        P d A 21 ack 90    => d
        P e 21+10 ack 1    => e
        P f SA 0 ack 1 @7  => f
        P g SA 0 ack 1 @8  => g
        S   1+10!2 ack 1   => !content
        S   11+10 ack 1    =>
        tick 4             =>
    """,
        Settings(held_packets=2, connections=1),
    )
    assert book["held_limit_drops"] > 0
    assert book["connection_limit_drops"] == 2
    assert book["held_packets_now"] == 0


def test_a_difference_that_the_limit_forgets_is_not_remembered() -> None:
    book = observe(
        OPENING
        + """
        P b A 1 ack 90    => b
        P c A 1 ack 91    => c
        S   1+10!2 ack 1  =>
        P d 1+10 ack 92   => d !content
    """,
        Settings(held_packets=2),
    )
    assert (book["observed_unequal_packets"], book["observed_uncompared_packets"]) == (0, 1)


def test_passthrough_flows_are_not_compared() -> None:
    book = observe(OPENING + "P b 1+10 ack 1 => b")
    book.comparator.passthrough.add(Rule("web", protocol=6))
    book.run("P c 11+10 ack 1 => c\nS 1+10!4 ack 1 =>")
    assert (book["observed_equal_packets"], book["observed_uncompared_packets"]) == (1, 2)
    assert book["passthrough_packets"] == 2
    _check_account(book)


def test_services_tell_who_serves() -> None:
    book = observe("""
        P a S 0 @443      => a
        P b SA 0 ack 1 @9 => b
        P c 5+1 ack 1 @7  => c
        P d icmp one      => d
        P e igmp one      => e
    """)
    assert set(services(book)) == {"tcp 443 of a peer", "tcp 80 of the guest", "tcp 7 of a peer", "icmp", "protocol 2"}


def test_the_table_of_services_is_bounded_and_begins_with_what_diverged() -> None:
    book = observe(
        "\n".join(f"P a S 0 @{port} => a" for port in range(1_000, 1_300)) + "\ntick 4 =>" + " !timeout" * 300
    )
    table = services(book)
    assert len(table) == 20
    assert next(iter(table.items())) == ("others", _flows(44, 44))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**48))
def test_every_packet_leaves_at_once_and_is_accounted_for(seed: int) -> None:
    """Output commit has this exception, and every packet of it is counted."""
    random = Random(seed)
    limits = random.choice([Settings(), Settings(held_packets=6, secondary_packets=6, connections=3)])
    book = Playbook(settings=limits)
    comparator = book.comparator = Observer(limits)
    for number in range(200):
        side = random.choice("PS")
        kind = random.choice(["SA", "A", "FA", "R", "", "", "", "", "udp", "icmp", "cut", "arp"])
        range_ = (
            f"{random.choice([0, 1, 1, 11, 21, 31])}+{random.choice([0, 5, 10, 20])}{random.choice(['', '', '!12'])}"
        )
        words = (
            f"{kind} x{random.randrange(3)}"
            if kind in ("udp", "icmp", "cut", "arp")
            else f"{kind} {range_} ack {random.choice([1, 9])}"
        )
        line = f"{side} {number if side == 'P' else ''} {words} @{random.choice([5000, 5001])}"
        book._act(line.replace(f"P {number}", f"P t{number}").split())
        assert comparator.released == ([f"t{number}"] if side == "P" else [])
        assert comparator.dropped == comparator.revised == []
        comparator.released.clear()
        if random.random() < 0.02:
            book.now += 4
            comparator.tick(book.now)
    comparator.tick(book.now + 100)
    assert book["held_packets_now"] == book["secondary_packets_now"] == 0
    _check_account(book)
