"""Payload and FIN by sequence number: what is released, held and called different."""

from __future__ import annotations

import pytest

from colo_bridge.compare.decisions import Reason
from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook, octet, play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def after_opening(trace: str) -> Playbook:
    return play(OPENING + trace)


def test_whoever_comes_first() -> None:
    after_opening("""
        P b 1+10 ack 1  =>
        S   1+10 ack 1  => b
        S   11+10 ack 1 =>
        P c 11+10 ack 1 => c
    """)


def test_three_and_seven_of_the_primary_match_ten() -> None:
    after_opening("""
        P b 1+3 ack 1  =>
        P c 4+7 ack 1  =>
        S   1+10 ack 1 => b c
    """)


def test_the_first_segment_leaves_as_soon_as_its_bytes_are_known_equal() -> None:
    after_opening("""
        P b 1+3 ack 1  =>
        P c 4+7 ack 1  =>
        S   1+4 ack 1  => b
        S   5+6 ack 1  => c
    """)


def test_ten_against_five_releases_nothing_yet() -> None:
    after_opening("""
        P b 1+10 ack 1 =>
        S   1+5 ack 1  =>
        S   6+5 ack 1  => b
    """)


def test_what_is_left_of_a_secondary_segment_is_compared_later() -> None:
    after_opening("""
        S   1+10 ack 1 =>
        P b 1+3 ack 1  => b
        P c 4+3 ack 1  => c
        P d 7+5 ack 1  =>
        S   11+1 ack 1 => d
    """)


def test_a_gap_of_the_secondary_is_waited_for() -> None:
    after_opening("""
        P b 1+10 ack 1 =>
        S   6+5 ack 1  =>
        S   1+5 ack 1  => b
    """)


def test_a_gap_of_the_primary_is_waited_for() -> None:
    after_opening("""
        P c 6+5 ack 1  =>
        S   1+10 ack 1 =>
        P b 1+5 ack 1  => b c
    """)


def test_equal_bytes_at_disjoint_numbers_do_not_match() -> None:
    """The common stream repeats itself after 65,536 octets."""
    after_opening("""
        P x 1+1 ack 1     =>
        S   1+1 ack 1     => x
        P b 2+5 ack 1     =>
        S   65538+5 ack 1 =>
        S   2+5 ack 1     => b
    """)
    after_opening("""
        P x 1+1 ack 1     =>
        S   1+1 ack 1     => x
        S   2+5 ack 1     =>
        P b 65538+5 ack 1 =>
        P c 2+5 ack 1     => c
    """)


def test_overlapping_segments_of_both_sides() -> None:
    after_opening("""
        P b 1+6 ack 1  =>
        P c 4+6 ack 1  =>
        S   3+5 ack 1  =>
        S   1+4 ack 1  => b
        S   2+9 ack 1  => c
    """)


def test_a_retransmission_of_compared_bytes_is_released_at_once() -> None:
    after_opening("""
        P b 1+10 ack 1  =>
        S   1+10 ack 1  => b
        P c 1+10 ack 1  => c
        P d 3+4 ack 1   => d
        S   1+10 ack 1  =>
        P e 1+10!4 ack 1 => e
    """)


def test_a_retransmission_behind_a_partly_verified_head_is_released() -> None:
    book = after_opening("""
        P b 1+10 ack 1 =>
        S   1+5 ack 1  =>
        P c 1+5 ack 1  => c
        P d 2+7 ack 1  =>
        S   6+3 ack 1  => d
        S   9+2 ack 1  => b
    """)
    assert book["retransmissions"] == 2


def test_a_retransmission_that_goes_further_is_compared_from_the_cursor() -> None:
    after_opening("""
        P b 1+5 ack 1      =>
        S   1+5 ack 1      => b
        P c 1+10 ack 1     =>
        S   1+10!8 ack 1   => !content
    """)


def test_repeats_of_held_segments_leave_together() -> None:
    after_opening("""
        P b 1+10 ack 1 =>
        P c 1+10 ack 1 =>
        P d 1+4 ack 1  =>
        S   1+10 ack 1 => b c d
    """)


def test_repeats_of_the_secondary_are_thrown_away() -> None:
    book = after_opening("""
        S   1+10 ack 1 =>
        S   1+10 ack 1 =>
        S   4+4 ack 1  =>
        P b 1+10 ack 1 => b
        S   1+10 ack 1 =>
    """)
    assert book["secondary_packets_now"] == 0
    assert book["thrown_away_packets"] == 5


def test_a_longer_repeat_of_the_secondary_is_used() -> None:
    after_opening("""
        S   1+4 ack 1  =>
        S   1+10 ack 1 =>
        P b 1+10 ack 1 => b
    """)


@pytest.mark.parametrize("at", [1, 2, 7, 10])
def test_a_difference_is_told_exactly(at: int) -> None:
    book = after_opening(f"""
        P b 1+10 ack 1      =>
        S   1+10!{at} ack 1 => !content
    """)
    (difference,) = book.seen
    assert difference.reason is Reason.CONTENT
    assert difference.sequence == (book.isn + at) & 0xFFFFFFFF
    assert difference.stream_offset == at - 1
    assert (difference.primary_length, difference.secondary_length) == (10, 10)
    assert (difference.primary_byte, difference.secondary_byte) == (octet(at), octet(at) ^ 1)


def test_what_is_before_a_difference_leaves() -> None:
    after_opening("""
        P b 1+3 ack 1    =>
        P c 4+7 ack 1    =>
        S   1+10!6 ack 1 => b !content
    """)


def test_a_difference_in_the_second_segment_of_the_secondary() -> None:
    after_opening("""
        P b 1+10 ack 1   =>
        S   1+5 ack 1    =>
        S   6+5!8 ack 1  => !content
    """)


def test_nothing_more_leaves_after_a_difference_and_nothing_more_is_asked() -> None:
    after_opening("""
        P b 1+10 ack 1    =>
        S   1+10!4 ack 1  => !content
        P c 11+5 ack 1    =>
        S   11+5 ack 1    =>
        S   1+10 ack 1    =>
        S   16+5 ack 1    =>
        P d 16+5!18 ack 1 =>
    """)


def test_other_connections_and_retransmissions_go_on_after_a_difference() -> None:
    book = after_opening("""
        P b 1+10 ack 1          =>
        S   1+10 ack 1          => b
        P x SA 0 ack 1 @6000    =>
        S   SA 0 ack 1 @6000    => x
        P c 11+5 ack 1          =>
        S   11+5!13 ack 1       => !content
        P d 1+10 ack 1          => d
        P y 1+10 ack 1 @6000    =>
        S   1+10 ack 1 @6000    => y
        P z 11+5 ack 1 @6000    =>
        S   11+5!11 ack 1 @6000 => !content
    """)
    assert book["checkpoint_requests"] == 1
    assert book["divergences"] == 2
    assert book.comparator.latched


def test_fin_is_an_octet() -> None:
    after_opening("""
        P b F 1+10 ack 1 =>
        S   1+10 ack 1   =>
        S   F 11 ack 1   => b
        P c F 1+10 ack 1 => c
        P d A 12 ack 1   => d
    """)


def test_fin_with_and_without_payload() -> None:
    after_opening("""
        P b 1+10 ack 1   =>
        P c F 11 ack 1   =>
        S   F 1+10 ack 1 => b c
    """)


def test_fin_of_the_primary_against_data() -> None:
    book = after_opening("""
        P b F 1+5 ack 1 =>
        S   1+10 ack 1  => !control
    """)
    assert "only the primary ends" in book.seen[-1].detail
    assert book.seen[-1].stream_offset == 5


def test_fin_of_the_secondary_against_data() -> None:
    book = after_opening("""
        P b 1+10 ack 1    =>
        S   F 1+5 ack 1   => !control
    """)
    assert "only the secondary ends" in book.seen[-1].detail


def test_a_difference_before_the_fin_counts_first() -> None:
    after_opening("""
        P b F 1+5 ack 1  =>
        S   1+10!3 ack 1 => !content
    """)


def test_fin_against_nothing_is_waited_for() -> None:
    after_opening("""
        P b F 1 ack 1 =>
        S   A 1 ack 1 =>
        S   F 1 ack 1 => b
    """)


def test_headers_and_flags_that_are_not_octets_are_not_compared() -> None:
    after_opening("""
        P b PU 1+10 ack 1 win 5 =>
        S   1+10 ack 1          => b
    """)


def test_segments_that_arrive_in_reverse_order() -> None:
    after_opening("""
        P d 21+10 ack 1 =>
        P c 11+10 ack 1 =>
        S   26+5 ack 1  =>
        S   11+15 ack 1 =>
        P b 1+10 ack 1  =>
        S   1+10 ack 1  => b c d
    """)


def test_retransmissions_in_a_gap_of_the_secondary_are_thrown_away_with_the_rest() -> None:
    book = after_opening("""
        S   6+5 ack 1  =>
        S   1+8 ack 1  =>
        S   3+5 ack 1  =>
        P b 1+10 ack 1 => b
    """)
    assert book["secondary_packets_now"] == 0


def test_queues_of_any_length() -> None:
    """In order, out of order, on both sides; the longest are kept in another way."""
    for count in (3, 300, 700):
        book = Playbook().run(OPENING)
        order = [*range(0, count, 2), *range(1, count, 2)]
        for at in order:
            book.run(f"P p{at} {1 + 4 * at}+4 ack 1 =>")
        book.run(f"S 3+{4 * count - 2} ack 1 =>")
        book.run("S 1+2 ack 1 => " + " ".join(f"p{at}" for at in range(count)))
        for at in order:
            book.run(f"S {1 + 4 * (count + at)}+4 ack 1 =>")
        book.run(f"P q {1 + 4 * count}+{4 * count} ack 1 => q")
        assert book["held_packets_now"] == book["secondary_packets_now"] == 0


def test_a_long_queue_that_finds_no_more_room_keeps_what_it_has() -> None:
    book = Playbook(settings=Settings(held_packets=300, secondary_packets=300)).run(OPENING)
    for at in range(300):
        book.run(f"P p{at} {1 + 4 * at}+4 ack 1 =>")
    book.run("""
        P x 2001+4 ack 1 => -x
        P y 3+4 ack 1    => -y
    """)
    book.run("S 1+1200 ack 1 => " + " ".join(f"p{at}" for at in range(300)))
