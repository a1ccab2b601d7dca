"""The acknowledged floor: nothing is acknowledged to the client that the secondary lacks."""

from __future__ import annotations

from tests.compare.playbook import play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def test_a_pure_ack_waits_for_the_floor_alone() -> None:
    play(
        OPENING
        + """
        P b A 1 ack 100   =>
        S   A 1 ack 99    =>
        S   A 1 ack 100   => b
        P c A 1 ack 100   => c
        P d A 1 ack 50    => d
    """
    )


def test_a_pure_ack_needs_no_cursor() -> None:
    """Small print 1: in a connection of which nothing else is known yet."""
    play("""
        P a A 500 ack 100 =>
        S   A 400 ack 100 => a
        P b A 500 ack 100 => b
    """)


def test_without_an_ack_of_the_secondary_there_is_no_floor() -> None:
    """Small print 2."""
    play("""
        P a A 500 ack 100  =>
        S   500+5          =>
        P b 500+5 ack 100  =>
        S   A 505 ack 100  => a b
    """)


def test_what_carries_no_ack_needs_no_floor() -> None:
    play("""
        P a S 0 =>
        S   S 0 => a
    """)


def test_the_first_ack_of_a_guest_that_opened_waits() -> None:
    play("""
        P a S 0        =>
        P b S 0        =>
        S   S 0        => a b
        P c A 1 ack 1  =>
        S   A 1 ack 1  => c
    """)


def test_acks_leave_as_far_as_the_floor_rises() -> None:
    play(
        OPENING
        + """
        P b A 1 ack 10 =>
        P c A 1 ack 20 =>
        P d A 1 ack 30 =>
        S   A 1 ack 25 => b c
        S   A 1 ack 30 => d
    """
    )


def test_acks_out_of_order_leave_in_order_of_what_they_acknowledge() -> None:
    play(
        OPENING
        + """
        P b A 1 ack 30 =>
        P c A 1 ack 10 =>
        P d A 1 ack 20 =>
        S   A 1 ack 15 => c
        S   A 1 ack 30 => d b
    """
    )


def test_an_older_ack_of_the_secondary_does_not_lower_the_floor() -> None:
    play(
        OPENING
        + """
        S   A 1 ack 30 =>
        S   A 1 ack 10 =>
        P b A 1 ack 30 => b
    """
    )


def test_several_acks_of_the_secondary_against_one() -> None:
    play(
        OPENING
        + """
        P b A 1 ack 30 =>
        S   A 1 ack 10 =>
        S   A 1 ack 20 =>
        S   A 1 ack 40 => b
    """
    )


def test_verified_data_waits_for_the_floor_and_the_next_does_not_wait_for_it() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 50  =>
        S   1+10 ack 1   =>
        P c 11+10 ack 1  =>
        S   11+10 ack 1  => c
        S   A 21 ack 50  => b
    """
    )


def test_a_retransmission_waits_for_the_floor_too() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 1  =>
        S   1+10 ack 1  => b
        P c 1+10 ack 90 =>
        S   A 11 ack 90 => c
    """
    )


def test_an_ack_on_a_data_segment_of_the_secondary_raises_the_floor() -> None:
    play(
        OPENING
        + """
        P b A 1 ack 50  =>
        S   1+10 ack 50 => b
        S   11+5!12     =>
    """
    )


def test_a_retransmitted_segment_of_the_secondary_may_carry_a_new_ack() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 1  =>
        S   1+10 ack 1  => b
        P c A 11 ack 80 =>
        S   1+10 ack 80 => c
    """
    )


def test_a_diverged_connection_still_follows_the_floor() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 1   =>
        S   1+10!3 ack 1 => !content
        P c A 11 ack 20  =>
        S   A 11 ack 20  => c
    """
    )


def test_fin_waits_for_the_floor() -> None:
    play(
        OPENING
        + """
        P b F 1 ack 7 =>
        S   F 1 ack 1 =>
        S   A 2 ack 7 => b
    """
    )


def test_keep_alive_probes_are_judged_by_the_floor() -> None:
    play(
        OPENING
        + """
        P b A 0 ack 1 => b
        S   A 0 ack 2 =>
        P c A 0 ack 2 => c
    """
    )
