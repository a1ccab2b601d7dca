"""Datagrams by content, fragments by themselves, packets cut short never, everything else by policy."""

from __future__ import annotations

import pytest

from colo_bridge.compare.settings import Settings
from colo_bridge.wire.flow import describe_flow
from tests.compare.playbook import play


@pytest.mark.parametrize("kind", ["udp", "icmp", "igmp", "fragment 8"])
def test_the_same_content_matches_in_any_order(kind: str) -> None:
    book = play(f"""
        P a {kind} one   =>
        P b {kind} two   =>
        P c {kind} one   =>
        S   {kind} two   => b
        S   {kind} one   => a
        S   {kind} one   => c
        S   {kind} three =>
        P d {kind} three => d
    """)
    assert book["held_packets_now"] == book["secondary_packets_now"] == 0


@pytest.mark.parametrize("kind", ["udp", "icmp", "igmp", "fragment 8"])
def test_one_unmatched_on_each_side_diverges(kind: str) -> None:
    """Small print 11."""
    book = play(f"""
        P a {kind} abcd =>
        S   {kind} abXd => !datagram
        P b {kind} efgh =>
        S   {kind} ijkl =>
        S   {kind} efgh => b
        checkpoint      => a
        S   {kind} abXd =>
        P c {kind} abcd => !datagram
    """)
    assert "differ at byte" in book.seen[0].detail


def test_where_datagrams_differ() -> None:
    book = play("""
        P a udp abcd =>
        S   udp abXd => !datagram
    """)
    assert "byte 2 " in book.seen[0].detail
    assert (book.seen[0].primary_length, book.seen[0].secondary_length) == (4, 4)
    book = play("""
        P a udp abcd  =>
        S   udp abcde => !datagram
    """)
    assert "byte 4 " in book.seen[0].detail
    assert describe_flow(book.seen[0].flow) == "10.0.0.2:53 > 10.0.0.9:5000 udp"


def test_flows_are_told_apart_by_their_ports() -> None:
    play("""
        P a udp one @6000 =>
        S   udp two @6001 =>
        S   udp one @6001 =>
        S   udp one @6000 => a
    """)


def test_fragments_are_told_apart_by_their_place() -> None:
    play("""
        P a fragment 8 data  =>
        P b fragment 16 data =>
        S   fragment 16 data => b
        S   fragment 24 data => !datagram
    """)


def test_an_empty_datagram_is_a_datagram() -> None:
    play("""
        P a udp =>
        S   udp => a
    """)


def test_the_secondarys_datagrams_are_thrown_away_until_the_checkpoint() -> None:
    book = play("""
        P a udp one  =>
        S   udp two  => !datagram
        S   udp four =>
    """)
    assert book["secondary_packets_now"] == 1
    assert book["thrown_away_packets"] == 1


def test_a_packet_that_was_cut_short_waits_for_a_checkpoint() -> None:
    book = play("""
        P a cut 'only the beginning' => !cut-short
        P b cut 'only the beginning' =>
        S   cut 'only the beginning' =>
        checkpoint                   => a b
        P c cut 'only the beginning' => !cut-short
    """)
    assert describe_flow(book.seen[0].flow) == "10.0.0.2 > 10.0.0.9 cut short"


def test_what_is_not_ip_passes_from_the_primary_alone() -> None:
    book = play("""
        P a arp => a
        S   arp =>
    """)
    assert (book["not_ip_passed"], book["not_ip_thrown_away"]) == (1, 1)
    assert (book["primary_packets"], book["secondary_packets"]) == (1, 1)


@pytest.mark.parametrize("kind", ["ipv6", "vlan"])
def test_what_is_not_compared_yet_is_dropped_or_passes(kind: str) -> None:
    book = play(f"""
        P a {kind} => -a
        S   {kind} =>
    """)
    assert (book["uncompared_packets"], book["dropped_packets"], book["not_ip_thrown_away"]) == (1, 1, 0)
    play(f"P a {kind} => a", settings=Settings(pass_uncompared=True))


def test_what_is_malformed_is_dropped_and_counted() -> None:
    book = play("P a udp one =>")
    book.comparator.primary_malformed("m", 17)
    book.comparator.secondary_malformed(9)
    assert book.comparator.dropped == ["m"]
    assert (book["malformed_primary"], book["malformed_secondary"]) == (1, 1)
    assert (book["primary_packets"], book["secondary_packets"]) == (2, 1)
