"""Connections whose opening was not seen: held and compared from where both meet, or passed and counted."""

from __future__ import annotations

import pytest

from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook, play

PASS = Settings(pass_unsynchronised=True)


def test_the_comparison_starts_at_the_primarys_lowest_byte() -> None:
    """Small print 6."""
    play("""
        P a 500+10 ack 1 =>
        S   505+5 ack 1  =>
        S   490+12 ack 1 =>
        S   502+3 ack 1  => a
    """)


def test_a_secondary_that_starts_later_is_waited_for() -> None:
    play("""
        P a 500+10 ack 1 =>
        S   510+10 ack 1 =>
        P b 510+10 ack 1 =>
        S   500+10 ack 1 => a b
    """)


def test_bytes_below_the_start_are_no_retransmission() -> None:
    book = play("""
        P a 500+10 ack 1 =>
        S   500+10 ack 1 => a
        P b 490+10 ack 1 =>
        P c 495+10 ack 1 =>
        P d 495+20 ack 1 =>
        P e 502+4 ack 1  => e
        checkpoint       => b c d
        P f 490+10 ack 1 => f
    """)
    assert book["retransmissions"] == 2


def test_bytes_below_the_start_pass_where_that_is_configured() -> None:
    """Once a synchronising checkpoint made it a connection that is compared, nothing is below its start."""
    play(
        """
        P a 500+10 ack 1        => a
        S   500+10!503 ack 1    =>
        checkpoint synchronised =>
        P b 490+10 ack 1        => b
        P c 510+10 ack 1        =>
        S   510+10 ack 1        => c
        S   520+10 ack 1        =>
        P d 520+10!522 ack 1    => !content
    """,
        settings=PASS,
    )


def test_a_connection_that_was_not_seen_to_open_passes_and_is_counted() -> None:
    book = play(
        """
        P a 500+10 ack 1 => a
        P b A 510 ack 9  => b
        S   505+5 ack 1  =>
        P c R 510        => c
        checkpoint       =>
        P d 510+5 ack 9  => d
    """,
        settings=PASS,
    )
    assert book["unsynchronised_packets"] == 4
    assert book.comparator.unsynchronised_connections() == 1


def test_the_secondary_is_seen_first() -> None:
    play(
        """
        S   500+10 ack 1 =>
        P a 500+10 ack 1 => a
        P b 510+5 ack 1  => b
    """,
        settings=PASS,
    )


def test_new_connections_are_compared_also_where_old_ones_pass() -> None:
    play(
        """
        P a 500+10 ack 1       => a
        P b SA 9000 ack 70     =>
        S   SA 9000 ack 70     => b
        P c 9001+10 ack 70     =>
        S   9001+10!9003       => !content
    """,
        settings=PASS,
    )


def test_a_refusal_is_compared_also_where_old_connections_pass() -> None:
    Playbook(isn=0, settings=PASS).run("""
        P a RA 0 ack 1 =>
        S   RA 0 ack 1 => a
    """)


def test_a_secondary_that_lost_input_to_a_checkpoint_passes_after_the_second() -> None:
    """A checkpoint that copies no state, twice, without an ACK from the secondary between them."""
    book = play(
        """
        P a SA 0 ack 1   =>
        S   SA 0 ack 1   => a
        P b A 1 ack 100  =>
        tick 9           => !timeout
        checkpoint       => b
        P c A 1 ack 200  =>
        tick 19          => !timeout
        checkpoint       => c
        P d A 1 ack 300  => d
        S   A 1 ack 50   =>
        P e 1+5 ack 300  => e
    """,
        settings=PASS,
    )
    assert book["unsynchronised_packets"] == 2


def test_a_secondary_that_was_only_late_stays_compared() -> None:
    play(
        """
        P a SA 0 ack 1   =>
        S   SA 0 ack 1   => a
        P b A 1 ack 100  =>
        tick 9           => !timeout
        checkpoint       => b
        S   A 1 ack 100  =>
        P c A 1 ack 200  =>
        tick 19          => !timeout
        checkpoint       => c
        P d 1+5 ack 200  =>
        S   1+5 ack 200  => d
    """,
        settings=PASS,
    )


def test_where_nothing_passes_a_secondary_that_lost_input_goes_on_being_waited_for() -> None:
    play("""
        P a SA 0 ack 1   =>
        S   SA 0 ack 1   => a
        P b A 1 ack 100  =>
        checkpoint       => b
        P c A 1 ack 200  =>
        checkpoint       => c
        P d A 1 ack 300  =>
    """)


def test_bytes_numbered_below_the_syn_were_never_compared() -> None:
    below = 0xFFFFFFFF - 99
    play(f"""
        P a SA 0 ack 1       =>
        S   SA 0 ack 1       => a
        P b {below}+10 ack 1 =>
        checkpoint           => b
    """)
    book = play(
        f"""
        P a SA 0 ack 1       =>
        S   SA 0 ack 1       => a
        P b {below}+10 ack 1 => b
    """,
        settings=PASS,
    )
    assert book["unverified_packets"] == 1


# Only octets set the cursor: a keep-alive or a probe without data stands at the number below the next octet.


@pytest.mark.parametrize("probe", [0, 499])
@pytest.mark.parametrize("checkpoint", ["checkpoint", "checkpoint synchronised"])
def test_a_keep_alive_does_not_set_the_cursor_at_a_checkpoint(probe: int, checkpoint: str) -> None:
    for waits in (True, False):
        heard = f"S A {probe} ack 5 =>" + "a" * (not waits)
        play(f"""
            P a A {probe} ack 5       =>
            {"" if waits else heard}
            {checkpoint}              => {"a" if waits else ""}
            P b {probe + 1}+10 ack 5  =>
            S   {probe + 1}+10 ack 5  => b
            P c F {probe + 11} ack 5  =>
            S   F {probe + 11} ack 5  => c
        """)


def test_a_keep_alive_does_not_set_the_cursor_at_a_checkpoint_for_another_connection() -> None:
    play("""
        P a A 499 ack 5        =>
        S   A 499 ack 5        => a
        P b 1+10 ack 1 @6000   =>
        S   1+10!3 ack 1 @6000 => !content
        checkpoint             => b
        S   F 500 ack 5        =>
        P c F 500 ack 5        => c
        tick 9                 =>
    """)


@pytest.mark.parametrize("probe", [0, 499])
def test_a_keep_alive_does_not_set_the_cursor_where_old_connections_pass(probe: int) -> None:
    play(
        f"""
        P a A {probe} ack 5       => a
        checkpoint synchronised   =>
        P b {probe + 1}+10 ack 5  =>
        S   {probe + 1}+10 ack 5  => b
    """,
        settings=PASS,
    )


def test_a_reset_does_not_set_the_cursor_where_old_connections_pass() -> None:
    """What it carries is an explanation, not octets of the stream (RFC 1122 §4.2.2.12)."""
    play(
        """
        P a 500+10 ack 5        => a
        P b R 600+10            => b
        checkpoint synchronised =>
        P c 510+10 ack 5        =>
        S   510+10 ack 5        => c
    """,
        settings=PASS,
    )


def test_what_lies_below_a_pure_ack_is_compared_after_the_checkpoint() -> None:
    play("""
        P a A 500 ack 5         =>
        checkpoint synchronised => a
        P b 450+50 ack 5        =>
        S   450+50!470 ack 5    => !content
    """)
