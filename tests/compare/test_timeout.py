"""The compare timeout: the age of what waits, on either side, whatever it waits for."""

from __future__ import annotations

from colo_bridge.compare.settings import Settings
from tests.compare.playbook import play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def reason(trace: str) -> str:
    return play(OPENING + trace).seen[-1].detail


def test_a_silent_secondary() -> None:
    detail = reason("""
        P b 1+10 ack 1 =>
        tick 2.9       =>
        tick 3.1       => !timeout
        tick 9         =>
    """)
    assert "the secondary has not sent" in detail


def test_a_silent_primary() -> None:
    detail = reason("""
        S   1+10 ack 1 =>
        tick 3.1       => !timeout
    """)
    assert "the primary has not sent" in detail


def test_the_floor() -> None:
    detail = reason("""
        P b A 1 ack 50 =>
        tick 3.1       => !timeout
    """)
    assert "has not acknowledged" in detail


def test_the_rest_of_a_partly_compared_segment() -> None:
    book = play(
        OPENING
        + """
        P b 1+10 ack 1 =>
        S   1+4 ack 1  =>
        tick 3.1       => !timeout
    """
    )
    assert book.seen[-1].stream_offset == 4


def test_retransmissions_do_not_restart_it() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 1  =>
        tick 2          =>
        P c 1+10 ack 1  =>
        tick 3.1        => !timeout
    """
    )
    play(
        OPENING
        + """
        S   1+10 ack 1  =>
        tick 2          =>
        S   1+10 ack 1  =>
        S   1+12 ack 1  =>
        tick 3.1        => !timeout
    """
    )


def test_what_left_in_time_does_not_count() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 1  =>
        tick 2          =>
        S   1+10 ack 1  => b
        P c 11+10 ack 1 =>
        tick 4          =>
        S   11+10 ack 1 => c
        tick 20         =>
    """
    )


def test_it_is_configured() -> None:
    play(
        """
        P a 1+10 ack 1 =>
        tick 0.4       =>
        tick 0.6       => !timeout
    """,
        settings=Settings(timeout=0.5),
    )


def test_what_comes_late_is_still_compared() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 1  =>
        tick 9          => !timeout
        S   1+10 ack 1  => b
    """
    )


def test_it_starts_again_after_the_checkpoint() -> None:
    book = play(
        OPENING
        + """
        P b 1+10 ack 1  =>
        tick 9          => !timeout
        checkpoint      => b
        tick 20         =>
        P c 11+10 ack 1 =>
        tick 22         =>
        tick 24         => !timeout
    """
    )
    assert book["checkpoint_requests"] == 2


def test_silence_in_datagrams() -> None:
    book = play("""
        P a udp one    =>
        tick 9         => !timeout
        checkpoint     => a
        S   udp two    =>
        tick 19        => !timeout
        checkpoint     =>
    """)
    assert [divergence.detail[:13] for divergence in book.seen] == ["the secondary", "the primary h"]
