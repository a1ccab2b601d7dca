"""Fragments in observe mode: each leaves at once, and the packet that they make is compared once."""

from __future__ import annotations

from tests.compare.test_observer import observe

TEXT = "udp 'thirty-two bytes of text, all of'"


def test_fragments_leave_at_once_and_are_compared_as_one_packet() -> None:
    book = observe(f"""
        P a {TEXT} [0:16]    => a
        P b {TEXT} [16:]     => b
        S   {TEXT}           =>
        P c {TEXT} [0:16] #2 => c
        P d {TEXT} [16:] #2  => d
        S   udp other        => !datagram
    """)
    assert (book["observed_equal_packets"], book["observed_unequal_packets"]) == (2, 2)


def test_fragments_that_stay_alone_are_given_up() -> None:
    book = observe(f"""
        S   {TEXT} [16:]     =>
        tick 4               =>
        P a {TEXT} [0:16]    => a
        tick 8               => !timeout
    """)
    assert (book["incomplete_fragments"], book["observed_unequal_packets"]) == (1, 1)
    assert book["held_packets_now"] == book["secondary_packets_now"] == 0


def test_refused_fragments_leave_too() -> None:
    observe(f"""
        P a {TEXT} [0:16]    => a
        P b {TEXT} [8:]      => b
    """)
