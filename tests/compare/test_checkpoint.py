"""A checkpoint orders everything: what was held leaves, what the secondary sent before is forgotten."""

from __future__ import annotations

import pytest

from tests.compare.playbook import play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""
BOTH_KINDS = pytest.mark.parametrize("checkpoint", ["checkpoint", "checkpoint synchronised"])


@BOTH_KINDS
def test_what_is_held_leaves_in_sequence_order(checkpoint: str) -> None:
    book = play(
        OPENING
        + f"""
        P d 21+10 ack 1  =>
        P c 11+10 ack 1  =>
        P b 1+10 ack 1   =>
        P e A 31 ack 7   =>
        S   1+10!1 ack 1 => !content
        {checkpoint}     => b c d e
    """
    )
    assert book["released_by_checkpoint_packets"] == 4
    assert book["held_packets_now"] == book["held_bytes_now"] == 0
    assert not book.comparator.latched


@BOTH_KINDS
def test_connections_leave_in_order_of_their_oldest_packet(checkpoint: str) -> None:
    play(f"""
        P a 1+10 ack 1 @6000  =>
        P b 1+10 ack 1 @5000  =>
        P c 11+10 ack 1 @6000 =>
        P u udp one           =>
        P d 11+10 ack 1 @5000 =>
        {checkpoint}          => a c b d u
    """)


@BOTH_KINDS
def test_datagrams_leave_in_order_of_arrival(checkpoint: str) -> None:
    play(f"""
        P a udp zz   =>
        P b udp aa   =>
        P c udp mm   =>
        P d udp aa   =>
        {checkpoint} => a b c d
    """)


@BOTH_KINDS
def test_the_cursor_moves_to_the_primarys_end(checkpoint: str) -> None:
    play(
        OPENING
        + f"""
        P b 1+10 ack 1     =>
        S   1+10!4 ack 1   => !content
        {checkpoint}       => b
        S   1+10 ack 1     =>
        P c 1+10 ack 1     => c
        P d 11+10 ack 1    =>
        S   11+10 ack 1    => d
        P e 21+10 ack 1    =>
        S   21+10!21 ack 1 => !content
    """
    )


@BOTH_KINDS
def test_the_cursor_does_not_move_back(checkpoint: str) -> None:
    play(
        OPENING
        + f"""
        P b 1+10 ack 1  =>
        S   1+10 ack 1  => b
        {checkpoint}    =>
        P c 1+10 ack 1  => c
        S   11+10 ack 1 =>
        P d 11+10 ack 1 => d
    """
    )


@BOTH_KINDS
def test_what_the_secondary_sent_before_is_forgotten(checkpoint: str) -> None:
    book = play(
        OPENING
        + f"""
        S   1+10!3 ack 1 =>
        S   udp old      =>
        S   1+10 ack 1 @6000 =>
        {checkpoint}     =>
        P b 1+10 ack 1   =>
        P u udp old      =>
        P c 1+10 ack 1 @6000 =>
        S   1+10 ack 1   => b
        S   udp old      => u
        S   1+10 ack 1 @6000 => c
    """
    )
    assert book["secondary_packets_now"] == book["secondary_bytes_now"] == 0


@BOTH_KINDS
def test_held_resets_and_syns_leave(checkpoint: str) -> None:
    play(
        OPENING
        + f"""
        P b R 1 ack 1         =>
        P c SA 0 ack 1 @6000  =>
        {checkpoint}          => b c
        P d SA 0 ack 1 @6000  {"=>" if checkpoint == "checkpoint" else "=> d"}
    """
    )


def test_after_a_synchronising_one_the_secondary_has_what_the_primary_had() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 500        =>
        P c A 11 ack 600        =>
        checkpoint synchronised => b c
        P d A 11 ack 600        => d
        P e A 11 ack 601        =>
        S   A 11 ack 601        => e
    """
    )


def test_after_another_one_the_floor_is_what_the_secondary_acknowledged() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 500 =>
        P c A 11 ack 600 =>
        checkpoint       => b c
        P d A 11 ack 600 =>
        P e A 11 ack 1   => e
        S   A 11 ack 600 => d
    """
    )


def test_a_connection_that_waited_for_nothing_follows_with_its_next_packet() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 500        =>
        S   1+10 ack 500        => b
        checkpoint              =>
        checkpoint synchronised =>
        checkpoint              =>
        S   11+5 ack 500        =>
        P c 11+5 ack 500        => c
    """
    )


def test_a_connection_that_diverged_is_compared_again() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 1      =>
        S   1+10!10 ack 1   => !content
        checkpoint          => b
        P c 11+10 ack 1     =>
        S   11+10!15 ack 1  => !content
        checkpoint          => c
    """
    )


def test_what_is_compared_after_the_midstream_start_of_a_checkpoint() -> None:
    """The primary's end is known, so the comparison goes on there without the secondary's cover."""
    play("""
        P a 500+10 ack 1 =>
        checkpoint       => a
        P b 510+10 ack 1 =>
        S   495+25 ack 1 => b
    """)


def test_nothing_known_nothing_moved() -> None:
    play("""
        P a A 500 ack 1  =>
        checkpoint       => a
        P b 500+5 ack 1  =>
        S   500+5 ack 1  => b
    """)


def test_checkpoints_are_counted() -> None:
    book = play("checkpoint => \n checkpoint synchronised =>")
    assert book["checkpoints_done"] == 2
