"""What the secondary sent ahead outlives a checkpoint that leaves it as it is: it would not send that again."""

from __future__ import annotations

from tests.compare.test_forwarding import opened


def test_what_it_sent_ahead_is_compared_after_a_checkpoint() -> None:
    book = opened("""
        P b 1+10 ack 1          =>
        S   1+10!3 ack 1        => !content
        S   11+20 ack 1         =>
        checkpoint              => b
        P c 11+10 ack 1         => c
        P d 21+10 ack 1         => d
    """)
    assert book["secondary_packets_now"] == 0


def test_the_connection_need_not_have_diverged() -> None:
    opened("""
        S   1+10 ack 1          =>
        S   11+10 ack 1         =>
        P b 1+4 ack 1           => b
        P c udp one             =>
        checkpoint              => c
        P d 5+16 ack 1          => d
    """)


def test_what_lies_below_the_primarys_end_is_forgotten() -> None:
    book = opened("""
        P b 1+10 ack 1          =>
        P c 11+10 ack 1         =>
        S   1+10!3 ack 1        => !content
        S   11+5 ack 1          =>
        S   16+10 ack 1         =>
        S   16+10 ack 1         =>
        checkpoint              => b c
        P d 21+10 ack 1         =>
        S   26+5 ack 1          => d
    """)
    assert book["secondary_packets_now"] == 0


def test_other_bytes_among_it_are_found() -> None:
    opened("""
        S   1+10!3 ack 1        =>
        P b udp one             =>
        checkpoint              => b
        P c 1+10 ack 1          => !content
        checkpoint              => c
        P d 11+10 ack 1         =>
        S   11+10 ack 1         => d
    """)


def test_a_copy_of_the_primary_sends_it_again() -> None:
    book = opened("""
        P b 1+10 ack 1          =>
        S   1+10!3 ack 1        => !content
        S   11+20 ack 1         =>
        checkpoint synchronised => b
        P c 11+10 ack 1         =>
        S   11+10 ack 1         => c
    """)
    assert book["secondary_packets_now"] == 0


def test_where_the_streams_do_not_go_on_alike_it_is_forgotten() -> None:
    opened("""
        P b F 1+10 ack 1        =>
        S   1+20 ack 1          => !control
        S   21+5 ack 1          =>
        checkpoint              => b
        tick 9                  =>
    """)


def test_what_the_primary_never_sends_is_forgotten_without_a_word() -> None:
    """It would have been forgotten at the checkpoint; what came later is looked at as ever."""
    book = opened("""
        S   1+10 ack 1          =>
        P b udp one             =>
        checkpoint              => b
        tick 1                  =>
        S   11+10 ack 1         =>
        tick 3.9                =>
        tick 4.0005             =>
        tick 4.002              => !timeout
        checkpoint              =>
    """)
    assert book["thrown_away_packets"] > 0


def test_a_further_checkpoint_gives_it_time_anew() -> None:
    opened("""
        S   1+10 ack 1          =>
        P b udp one             =>
        checkpoint              => b
        tick 1                  =>
        tick 3.9                =>
        P c udp one             =>
        checkpoint              => c
        tick 4                  =>
        tick 6                  =>
        P d 1+10 ack 1          => d
    """)
