"""Datagrams by content, packets cut short never, everything else by policy."""

from __future__ import annotations

import pytest

from colo_bridge.compare.settings import Settings
from colo_bridge.wire.flow import describe_flow
from tests.compare.playbook import Playbook, play


@pytest.mark.parametrize("kind", ["udp", "icmp", "igmp", "v6 udp", "v6 icmp", "vlan 7 udp", "vlan 7 vlan 8 v6 icmp"])
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


@pytest.mark.parametrize("kind", ["udp", "icmp", "igmp", "v6 udp", "v6 icmp", "vlan 7 udp", "vlan 7 vlan 8 v6 icmp"])
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


@pytest.mark.parametrize("kind", ["udp one", "icmp one", "SA 0 ack 1"])
def test_flows_are_told_apart_by_their_vlans_and_their_family(kind: str) -> None:
    book = Playbook().run(f"""
        P a vlan 7 {kind}           =>
        P b vlan 8 vlan 7 {kind}    =>
        P c v6 {kind}               =>
        S   {kind}                  =>
        S   vlan 8 {kind}           =>
        S   vlan 7 vlan 8 {kind}    =>
        S   v6 vlan 7 {kind}        =>
    """)
    assert book["connections_now"] == 7
    book.run(f"""
        S   vlan 7 {kind}           => a
        S   vlan 8 vlan 7 {kind}    => b
        S   v6 {kind}               => c
    """)


def test_a_priority_tag_is_no_vlan() -> None:
    Playbook().run("""
        P a vlan 0 udp one        =>
        S   udp one               => a
        P b vlan 7 udp two        =>
        S   vlan 0 vlan 7 udp two => b
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


@pytest.mark.parametrize("form", ["", "vlan 7", "vlan 7 vlan 8"])
def test_what_a_guest_tells_its_link_passes_from_the_primary_alone(form: str) -> None:
    book = Playbook().run(f"""
        P a {form} neighbour => a
        S   {form} neighbour =>
        S   {form} v6 icmp one =>
    """)
    assert (book["neighbour_passed"], book["neighbour_thrown_away"]) == (1, 1)
    assert (book["secondary_packets"], book["thrown_away_packets"], book["secondary_packets_now"]) == (2, 1, 1)


def test_more_than_two_tags_are_dropped_or_pass() -> None:
    trace = "vlan 1 vlan 2 vlan 3 udp one =>"
    book = Playbook().run(f"P a {trace} -a").run(f"S {trace}")
    assert (book["uncompared_packets"], book["dropped_packets"], book["not_ip_thrown_away"]) == (1, 1, 0)
    Playbook(settings=Settings(pass_uncompared=True)).run(f"P a {trace} a")


def test_what_is_malformed_is_dropped_and_counted() -> None:
    book = play("P a udp one =>")
    book.comparator.primary_malformed("m", 17)
    book.comparator.secondary_malformed(9)
    assert book.comparator.dropped == ["m"]
    assert (book["malformed_primary"], book["malformed_secondary"]) == (1, 1)
    assert (book["primary_packets"], book["secondary_packets"]) == (2, 1)
