"""Fragments: put together on each side, compared as the packet that they make, decided as one."""

from __future__ import annotations

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.settings import Settings
from colo_bridge.wire.flow import describe_flow
from colo_bridge.wire.packet import Parsed
from tests.compare.playbook import Playbook, play

# 8 bytes of UDP header, then these: 40 bytes behind the IP header.
TEXT = "udp 'thirty-two bytes of text, all of it.'"[:-6] + "'"
OTHER = TEXT.replace("bytes", "BYTES")


def test_cut_alike() -> None:
    book = play(f"""
        P a {TEXT} [0:16]  =>
        P b {TEXT} [16:]   =>
        S   {TEXT} [0:16]  =>
        S   {TEXT} [16:]   => a b
    """)
    assert (book["reassembled_primary"], book["reassembled_secondary"]) == (1, 1)
    assert nothing_waits(book)
    assert_conserved(book)


def nothing_waits(book: Playbook) -> bool:
    names = ("held_packets_now", "held_bytes_now", "secondary_packets_now", "secondary_bytes_now")
    return not any(book[name] for name in names)


def assert_conserved(book: Playbook) -> None:
    """Every packet and every byte is decided, once."""
    assert book["primary_packets"] == book["released_packets"] + book["dropped_packets"]
    assert book["secondary_packets"] == book["thrown_away_packets"] + book["malformed_secondary"]
    if not book["dropped_packets"]:
        assert book["primary_bytes"] == book["released_bytes"]
    if not book["malformed_secondary"]:
        assert book["secondary_bytes"] == book["thrown_away_bytes"]


def test_cut_in_different_ways_and_out_of_order() -> None:
    book = play(f"""
        S   {TEXT} [32:]   =>
        S   {TEXT} [8:32]  =>
        S   {TEXT} [0:8]   =>
        P a {TEXT} [16:]   =>
        P b {TEXT} [0:16]  => a b
    """)
    assert nothing_waits(book)
    assert_conserved(book)


@pytest.mark.parametrize("kind", [TEXT, "icmp 'sixteen bytes and more'", "igmp 'sixteen bytes and more'", "1+80 ack 1"])
def test_cut_on_one_side_only(kind: str) -> None:
    """Connection tracking on the host puts the primary's fragments together, and not the secondary's."""
    opening = "P x SA 0 ack 1 =>\nS SA 0 ack 1 => x\n" if "ack" in kind else ""
    book = play(f"""{opening}
        P a {kind}        =>
        S   {kind} [0:16] =>
        S   {kind} [16:]  => a
    """)
    assert_conserved(book)
    book = play(f"""{opening}
        S   {kind} [16:]  =>
        S   {kind} [0:16] =>
        P a {kind}        => a
        S   {kind}        =>
        P b {kind} [8:16] =>
        P c {kind} [16:]  =>
        P d {kind} [0:8]  => b c d
    """)
    assert_conserved(book)
    assert nothing_waits(book)


def test_where_the_packets_differ() -> None:
    book = play(f"""
        P a {TEXT} [0:16]  =>
        P b {TEXT} [16:]   =>
        S   {OTHER} [0:24] =>
        S   {OTHER} [24:]  => !datagram
        checkpoint         => a b
        P c {TEXT} [0:16] #2 =>
        P d {TEXT} [16:] #2 =>
        S   {TEXT}         => c d
    """)
    assert "byte 11 " in book.seen[0].detail
    assert describe_flow(book.seen[0].flow) == "10.0.0.2:53 > 10.0.0.9:5000 udp"


def test_several_packets_at_once_are_told_apart_by_their_identification() -> None:
    book = play(f"""
        P a {TEXT} [0:16] #1   =>
        P b {OTHER} [0:16] #2  =>
        P c vlan 9 {TEXT} [0:16] #1 =>
        P d {OTHER} [16:] #2   =>
        P e {TEXT} [16:] #1    =>
        P f vlan 9 {TEXT} [16:] #1 =>
        S   {TEXT}             => a e
        S   {OTHER}            => b d
        S   vlan 9 {TEXT}      => c f
    """)
    assert nothing_waits(book)


def test_one_acknowledgement_in_fragments_leaves_as_one_packet() -> None:
    """What is revised replaces the first fragment; the others are dropped."""
    book = Playbook(settings=Settings(cure_after=0.01), scale=0).run("""
        P a SA 0 ack 1       =>
        S   SA 0 ack 1       => a
        S   A 1 ack 1        =>
        P b A 1 ack 9 [0:8]  =>
        P c A 1 ack 9 [8:]   =>
        P d A 1 ack 10       =>
        cure 1               => -c ~b
    """)
    assert len(book.revised["b"]) == 40
    assert (book["released_packets"], book["dropped_packets"], book["held_packets_now"]) == (2, 1, 1)


class Recorder(Comparator):
    """A comparator that notes what it is given."""

    __slots__ = ("given",)

    def primary(self, packet: Parsed, token: object, now: float) -> None:
        self.given.append(token)
        super().primary(packet, token, now)

    def secondary(self, packet: Parsed, now: float) -> None:
        self.given.append("S")
        super().secondary(packet, now)


def test_what_is_put_together_is_not_given_again() -> None:
    book = Playbook()
    book.comparator = recorder = Recorder()
    recorder.given = []
    book.run(f"""
        P a {TEXT} [0:16]  =>
        P b {TEXT} [16:]   =>
        S   {TEXT} [0:16]  =>
        S   {TEXT} [16:]   => a b
    """)
    assert recorder.given == ["a", "b", "S", "S"]
    assert recorder.released_packets == 2


def test_cures_leave_fragments_alone() -> None:
    play(
        f"""
        P a {TEXT} [0:16] =>
        P b {TEXT} #2     =>
        cure 1            =>
        P c {TEXT} [16:]  =>
        cure 2            =>
        S   {TEXT}        => b
        S   {TEXT}        => a c
    """,
        settings=Settings(cure_after=0.01),
    )


# Repeats.


def test_a_repeat_of_a_fragment_leaves_with_its_packet() -> None:
    book = play(f"""
        P a {TEXT} [0:16]  =>
        P b {TEXT} [0:16]  =>
        P c {TEXT} [16:]   =>
        P d {TEXT} [0:16]  =>
        P e {TEXT} [16:]   =>
        S   {TEXT} [16:]   =>
        S   {TEXT} [16:]   =>
        S   {TEXT} [0:16]  => a b c d e
        S   {TEXT} [0:16]  =>
        P f {TEXT} [16:]   => f
    """)
    assert book["retransmissions"] == 1
    assert nothing_waits(book)
    assert_conserved(book)


def test_a_repeat_of_a_dropped_packet_is_dropped() -> None:
    refused = Playbook(settings=Settings(connections=1)).run(f"""
        P x icmp one       =>
        P a {TEXT} [0:16]  =>
        P b {TEXT} [16:]   => -a -b
        P c {TEXT} [16:]   => -c
    """)
    assert refused["connection_limit_drops"] == 1


def test_an_identification_may_be_used_again() -> None:
    """With other contents at once, with the same contents after half a second."""
    book = play(f"""
        P a {TEXT} [0:16]   =>
        P b {TEXT} [16:]    =>
        S   {TEXT}          => a b
        P c {OTHER} [0:16]  =>
        P d {OTHER} [16:]   =>
        S   {OTHER}         => c d
        tick 1              =>
        P e {OTHER} [0:16]  =>
        P f {OTHER} [16:]   =>
        S   {OTHER}         => e f
    """)
    assert book["retransmissions"] == 0


# What is refused.

CONTRADICTIONS = {
    "the next one begins too early": ("[0:16]", "[8:]"),
    "the one before ends too late": ("[16:]", "[0:24]"),
    "other bytes at the same place": ("[0:16]", "[0:24]"),
    "two last ones": ("[24:]", "[16:24.]"),
    "something behind the last one": ("[16:24.]", "[24:32]"),
    "the last one before another": ("[24:32]", "[16:24.]"),
    "the last one is not the last": ("[16:24.]", "[16:24]"),
    "what was not the last one is": ("[16:24]", "[16:24.]"),
}


@pytest.mark.parametrize(("first", "second"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_refused_whole(first: str, second: str) -> None:
    """RFC 5722: what was received and what is still to come."""
    book = play(f"""
        P a {TEXT} {first}  =>
        P b {TEXT} {second} => -a -b
        P c {TEXT} [0:8]    => -c
        S   {TEXT} {first}  =>
        S   {TEXT} {second} =>
        S   {TEXT} [0:8]    =>
    """)
    assert book["overlapping_fragments"] == 2
    assert nothing_waits(book)
    assert_conserved(book)


def test_a_refused_identification_may_be_used_again_later() -> None:
    play(f"""
        P a {TEXT} [0:16]   =>
        P b {TEXT} [8:]     => -a -b
        tick 3.1            =>
        P c {TEXT} [0:16]   =>
        P d {TEXT} [16:]    =>
        S   {TEXT}          => c d
    """)


def test_the_same_place_with_another_content_is_refused() -> None:
    book = play(f"""
        P a {TEXT} [0:24]  =>
        P b {OTHER} [0:24] => -a -b
    """)
    assert book["overlapping_fragments"] == 1


def test_what_makes_no_sense_when_put_together() -> None:
    # A TCP header of 20 bytes, without the last four.
    book = play("""
        P a A 1 ack 1 [0:8]          =>
        P b A 1 ack 1 [8:16.]        => -a -b
        P c A 1 ack 1 [8:16.]        => -c
        S   A 1 ack 1 [0:8]          =>
        S   A 1 ack 1 [8:16.]        =>
        S   A 1 ack 1 [8:16.]        =>
    """)
    assert (book["malformed_primary"], book["malformed_secondary"]) == (1, 1)
    assert_conserved(book)


# Time and checkpoints.


def test_a_packet_of_the_primary_that_stays_incomplete_times_out() -> None:
    book = play(f"""
        P a {TEXT} [16:]   =>
        P b {TEXT} [8:16]  =>
        P c {TEXT} [8:16]  =>
        S   {TEXT}         =>
        tick 2.9           =>
        tick 3.1           => !timeout
        checkpoint         => a b c
        P d {TEXT} [16:]   =>
    """)
    assert "all fragments" in book.seen[0].detail
    assert describe_flow(book.seen[0].flow) == "10.0.0.2 > 10.0.0.9 udp"
    assert book["released_by_checkpoint_packets"] == 3


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_a_packet_of_the_secondary_that_stays_incomplete_is_thrown_away(seconds: float) -> None:
    settings = Settings(reassembly=seconds)
    book = play(
        f"""
        S   {TEXT} [16:]       =>
        S   {TEXT} [8:16]      =>
        tick {seconds - 0.1}   =>
        S   {TEXT} [8:] #2     =>
    """,
        settings=settings,
    )
    assert book["secondary_packets_now"] == 3
    book.run(f"tick {seconds + 0.001} =>")
    assert (book["incomplete_fragments"], book["secondary_packets_now"]) == (2, 1)
    book.run(f"tick {2 * seconds} =>")
    assert (book["incomplete_fragments"], book["divergences"]) == (3, 0)
    assert nothing_waits(book)
    assert_conserved(book)


def test_a_checkpoint_forgets_the_secondarys_fragments() -> None:
    book = play(f"""
        S   {TEXT} [0:16] =>
        checkpoint        =>
        S   {TEXT} [16:]  =>
        P a {TEXT}        =>
        S   {TEXT} [0:16] => a
    """)
    assert book["incomplete_fragments"] == 1


def test_what_is_held_of_different_flows_is_released_in_order_of_arrival() -> None:
    play(f"""
        P a {TEXT} [0:16]    =>
        P b icmp one         =>
        P c {TEXT} [0:16] #2 =>
        P d {TEXT} [16:] #2  =>
        P e {TEXT} [24:]     =>
        checkpoint           => a e b c d
    """)


# Limits.


def test_incomplete_packets_are_limited() -> None:
    book = Playbook(settings=Settings(incomplete_packets=2)).run(f"""
        P a {TEXT} [0:16] #1 =>
        P b {TEXT} [0:16] #2 =>
        P c {TEXT} [0:16] #3 => -c
        P d {TEXT} [16:] #3  => -d
        P e {TEXT} [16:] #1  =>
        P f {TEXT} [0:16] #4 =>
        S   {TEXT} [0:16] #1 =>
        S   {TEXT} [0:16] #2 =>
        S   {TEXT} [0:16] #3 =>
        S   {TEXT} [16:] #3  =>
        S   {TEXT} [16:] #2  => a e
    """)
    assert (book["fragment_limit_drops"], book["secondary_packets_now"]) == (2, 1)


def test_fragments_of_one_packet_are_limited() -> None:
    book = Playbook(settings=Settings(fragments=3)).run(f"""
        P a {TEXT} [0:8]     =>
        P b {TEXT} [0:8]     =>
        P c {TEXT} [8:16]    =>
        P d {TEXT} [16:]     => -a -b -c -d
        P e {TEXT} [0:8] #2  =>
        P f {TEXT} [8:] #2   =>
        P g {TEXT} [8:] #2   =>
        P h {TEXT} [8:] #2   => -h
        S   {TEXT}           => e f g
    """)
    assert book["fragment_limit_drops"] == 2


def test_fragments_count_in_what_is_held() -> None:
    book = Playbook(settings=Settings(held_packets=2)).run(f"""
        P a {TEXT} [0:8]     =>
        P b {TEXT} [8:16]    =>
        P c {TEXT} [16:]     => -c -a -b
        P d {TEXT} [24:]     => -d
    """)
    assert (book["held_limit_drops"], book["held_packets_now"], book["held_bytes_now"]) == (1, 0, 0)
    book = Playbook(settings=Settings(held_bytes=60)).run(f"""
        P a {TEXT} [0:8]     =>
        P b {TEXT} [8:16]    =>
        P c {TEXT} [16:24]   => -c -a -b
    """)
    assert book["held_bytes_most"] == 56


def test_fragments_count_in_what_waits_of_the_secondary() -> None:
    book = Playbook(settings=Settings(secondary_packets=2)).run(f"""
        S {TEXT} [0:8]     =>
        S {TEXT} [8:16]    =>
        S {TEXT} [16:]     =>
        S {TEXT} [24:]     =>
    """)
    assert book["secondary_limit_drops"] == 1
    assert nothing_waits(book)
    assert_conserved(book)


def test_only_the_latest_packets_are_known_again() -> None:
    """64 of them: a repeat of an older one would begin a packet that never becomes whole."""
    book = Playbook()
    for number in range(65):
        book.run(f"""
            S   {TEXT}                   =>
            P a {TEXT} [0:16] #{number}  =>
            P b {TEXT} [16:] #{number}   => a b
        """)
    book.now = 0.1
    book.run(f"""
        P c {TEXT} [0:16] #64 => c
        P d {TEXT} [0:16] #1  => d
        P e {TEXT} [0:16] #0  =>
    """)
