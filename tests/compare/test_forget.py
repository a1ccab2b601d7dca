"""Nobody is left to compare with: what is held leaves, and what goes on afterwards is unsynchronised."""

from __future__ import annotations

from tests.compare.playbook import play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def test_everything_that_is_held_leaves_and_is_counted() -> None:
    book = play(
        OPENING
        + """
        P b 1+10 ack 1   =>
        P e A 11 ack 7   =>
        P u udp one      =>
        P s S 0 @6000    =>
        S   5+20 ack 1   =>
        S   udp two      => !datagram
        forget           => b e u s
    """
    )
    assert book["released_uncompared_packets"] == 4
    assert book["released_by_checkpoint_packets"] == book["checkpoints_done"] == 0
    assert book["held_packets_now"] == book["secondary_packets_now"] == book["connections_now"] == 0
    assert not book.comparator.latched


def test_a_connection_of_before_is_seen_in_midstream_afterwards() -> None:
    book = play(
        OPENING
        + """
        forget           =>
        P b 1+10 ack 1   =>
        S   1+10 ack 1   => b
        P c SA 0 ack 1 @6000 =>
        S   SA 0 ack 1 @6000 => c
    """
    )
    assert book["connections_now"] == 2
