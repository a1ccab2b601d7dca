"""TCP at its edges: probes, urgent data, half-closed and reused connections, and stacks that break the rules."""

from __future__ import annotations

import pytest

from tests.compare.playbook import Playbook, play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""
TALK = """
    P b 1+10 ack 1 =>
    S   1+10 ack 1 => b
"""


def after_opening(trace: str) -> Playbook:
    return play(OPENING + trace)


def after_talk(trace: str) -> Playbook:
    return play(OPENING + TALK + trace)


# Keep-alives, probes and window updates.


def test_a_keep_alive_without_data_on_one_side() -> None:
    after_talk("""
        P c A 10 ack 1 => c
        S   A 10 ack 1 =>
        P d A 10 ack 1 => d
    """)


def test_a_keep_alive_with_a_byte_of_garbage_on_one_side() -> None:
    """RFC 9293 §3.8.4: the byte lies below what was sent; nobody reads it."""
    after_talk("""
        P c 10+1!10 ack 1 => c
        S   10+1!10 ack 1 =>
        P d 11+5 ack 1    =>
        S   11+5 ack 1    => d
    """)


def test_a_keep_alive_with_a_byte_of_garbage_where_nothing_was_sent_yet() -> None:
    after_opening("P b 0+1!0 ack 1 => b \n S 0+1!0 ack 1 =>" + TALK)


def test_a_zero_window_probe_of_the_primary_waits_for_the_byte_not_for_the_probe() -> None:
    """RFC 9293 §3.8.6.1: one byte beyond the window. The secondary sends it when the window opens."""
    after_talk("""
        P c 11+1 ack 1   =>
        P d 11+1 ack 1   =>
        S   11+10 ack 1  => c d
        P e 11+10 ack 1  => e
    """)


def test_a_zero_window_probe_of_the_secondary_is_kept_until_the_primary_sends_the_byte() -> None:
    after_talk("""
        S   11+1 ack 1   =>
        S   11+1 ack 1   =>
        P c 11+10 ack 1  =>
        S   12+9 ack 1   => c
    """)
    after_talk("""
        S   11+1!11 ack 1 =>
        P c 11+10 ack 1   => !content
    """)


def test_a_window_update_of_one_side() -> None:
    after_talk("""
        P c A 11 ack 1 win 0    => c
        P d A 11 ack 1 win 9000 => d
        S   A 11 ack 1 win 0    =>
        P e A 11 ack 2 win 9000 =>
        S   A 11 ack 2 win 0    => e
    """)


def test_a_challenge_ack_of_one_side() -> None:
    """RFC 5961 §3.2, §4.2: a pure ACK like any other."""
    after_talk("""
        P c A 11 ack 1  => c
        P d 11+5 ack 1  =>
        S   11+5 ack 1  => d
        S   A 16 ack 1  =>
    """)


def test_a_challenge_ack_above_the_floor_waits() -> None:
    after_talk("""
        P c A 11 ack 9  =>
        S   A 11 ack 1  =>
        S   A 11 ack 9  => c
    """)


def test_an_acknowledgment_of_what_no_client_sent_waits_for_the_secondarys() -> None:
    after_talk("""
        P c A 11 ack 1000000 =>
        P d 11+5 ack 1       =>
        S   11+5 ack 1       => d
        tick 4               => !timeout
        checkpoint           => c
    """)


# Urgent data: the pointer is a header.


def test_urgent_data_is_compared_as_the_bytes_that_it_is() -> None:
    after_talk("""
        P c U 11+10 ack 1     =>
        S   11+4 ack 1        =>
        S   U 15+6 ack 1      => c
        P d U 21+1 ack 1      =>
        S   U 21+1!21 ack 1   => !content
    """)


# Closing.


def test_both_close_at_once_with_the_client() -> None:
    after_talk("""
        P c F 11 ack 5 =>
        S   F 11 ack 5 => c
        P d A 12 ack 6 =>
        S   A 12 ack 6 => d
    """)


def test_a_half_closed_connection_goes_on_acknowledging() -> None:
    after_talk("""
        P c F 11 ack 1   =>
        S   F 11 ack 1   => c
        P d A 12 ack 500 =>
        S   A 12 ack 400 =>
        S   A 12 ack 500 => d
        P e A 11 ack 500 => e
        P f F 11 ack 500 => f
    """)


def test_a_client_that_closes_first_still_gets_everything() -> None:
    after_talk("""
        P c A 11 ack 2    =>
        S   A 11 ack 2    => c
        P d 11+10 ack 2   =>
        S   11+10 ack 2   => d
        P e F 21 ack 2    =>
        S   F 21 ack 2    => e
    """)


@pytest.mark.parametrize(("ours", "theirs"), [("F 11+5", "F 11+9"), ("F 11+9", "F 11+5"), ("F 11", "F 11+1")])
def test_fins_at_different_places(ours: str, theirs: str) -> None:
    after_talk(f"""
        P c {ours} ack 1   =>
        S   {theirs} ack 1 => !control
        checkpoint         => c
    """)


def test_a_fin_that_moves_backward_or_forward() -> None:
    """A stack that changes its mind about where its stream ends: only what both have leaves."""
    after_talk("""
        P c F 11+5 ack 1 =>
        P d F 11+9 ack 1 =>
        S   F 11+5 ack 1 => c
        tick 4           => !timeout
    """)


def test_data_beyond_the_fin() -> None:
    after_talk("""
        P c F 11 ack 1     =>
        P d 12+5 ack 1     =>
        S   F 11 ack 1     => c
        S   12+5!14 ack 1  => !content
    """)
    after_talk("""
        P c 12+5 ack 1     =>
        S   F 11 ack 1     =>
        S   12+5 ack 1     =>
        P d F 11 ack 1     => d c
    """)


def test_data_beyond_the_fin_of_one_side() -> None:
    after_talk("""
        P c F 11 ack 1     =>
        S   11+5 ack 1     => !control
        P d 12+5 ack 1     =>
        checkpoint         => c d
    """)


# RST.


def test_a_reset_that_carries_data() -> None:
    """RFC 1122 §4.2.2.12: an explanation for people, no part of the stream."""
    after_talk("""
        P c R 11+5     =>
        S   R 11       => c
    """)


def test_a_reset_behind_the_fin() -> None:
    after_talk("""
        P c F 11 ack 1 =>
        S   F 11 ack 1 => c
        P d R 12       =>
        S   R 12       => d
        P e R 12       => e
    """)


def test_a_reset_where_the_other_side_closes() -> None:
    after_talk("""
        P c R 11       =>
        S   F 11 ack 1 => !control
    """)
    after_talk("""
        P c F 11 ack 1 =>
        S   R 11       => !control
    """)


@pytest.mark.parametrize("side", ["P c", "S"])
def test_a_reset_of_one_side_is_not_waited_for_for_ever(side: str) -> None:
    after_talk(f"""
        {side} R 11       =>
        P d A 11 ack 500  =>
        tick 4            => !timeout
    """)


def test_resets_that_answer_stragglers_of_a_connection_that_both_reset() -> None:
    """The primary still had the connection when the first straggler came, so it answered one less."""
    after_talk("""
        S   R 5        =>
        S   R 11       =>
        P c R 11       => c
        P d R 20       =>
        S   R 20       => d
    """)


# Ports used again.


@pytest.mark.parametrize("number", [90_000, 4_000_000_000])
def test_what_is_left_of_the_connection_before_is_not_compared_with_the_new_one(number: int) -> None:
    """Late segments of either side: the primary's is held, the secondary's of no use, nothing leaves unequal."""
    after_talk(f"""
        P c SA {number} ack 70        =>
        S   SA {number} ack 70        => c
        S   11+5!12 ack 1             =>
        P d {number + 1}+5 ack 70     =>
        S   {number + 1}+5 ack 70     => d
        S   R 11                      =>
    """)


def test_a_late_segment_of_the_connection_before_is_held() -> None:
    after_talk("""
        P c SA 90000 ack 70    =>
        S   SA 90000 ack 70    => c
        P d 11+5 ack 1         =>
        P e 90001+5 ack 70     =>
        S   90001+5 ack 70     => e
        tick 4                 => !timeout
    """)


# Opening.


def test_both_sides_open_at_once() -> None:
    """RFC 9293 §3.5: a guest's SYN crosses the client's, so a SYN with an ACK follows the one without."""
    play(
        """
        P a S 0         =>
        S   S 0         => a
        P b SA 0 ack 1  =>
        S   SA 0 ack 1  => b
    """
        + TALK
    )
    play(
        """
        P a S 0         =>
        P b SA 0 ack 1  =>
        S   SA 0 ack 1  => a b
    """
        + TALK
    )


def test_a_syn_with_data_against_one_without_is_waited_for_and_its_repeat_without_leaves() -> None:
    """RFC 7413 §4.2.1: without an answer the SYN is sent again without data."""
    play("""
        P a S 0+10      =>
        S   S 0         =>
        P b S 0         => b
        P c 1+10 ack 1  =>
        S   1+10 ack 1  => a c
    """)


def test_a_syn_of_the_secondary_that_is_sent_again_without_the_primarys() -> None:
    play(
        """
        S   SA 0 ack 1 =>
        S   SA 0 ack 1 =>
        P a SA 0 ack 1 => a
        S   SA 0 ack 1 =>
    """
        + TALK
    )


def test_a_connection_first_seen_at_its_end() -> None:
    play("""
        P a F 500 ack 9 =>
        S   F 500 ack 9 => a
        P b A 501 ack 9 => b
    """)
    play("""
        P a F 490+10 ack 9 =>
        S   495+5 ack 9    =>
        S   F 490+10 ack 9 => a
    """)


def test_a_connection_first_seen_at_a_keep_alive() -> None:
    play("""
        P a A 499 ack 9   =>
        S   A 499 ack 9   => a
        P b 500+10 ack 9  =>
        S   500+10 ack 9  => b
    """)


def test_flags_that_make_no_sense_together() -> None:
    """Nothing but an ACK, or not even that; SYN with FIN or RST: held, and equal only to the same."""
    after_talk("""
        P c 11 =>  c
        P d FP 11 ack 1 =>
        S   FP 11 ack 1 => d
    """)
    play("""
        P a SR 0       =>
        P b SA 0 ack 1 =>
        S   SA 0 ack 1 => b
        tick 4         => !timeout
        checkpoint     => a
    """)


# Large segments and all ways to overlap.


def test_segments_of_64_kilobytes() -> None:
    largest = 65_535 - 40
    pieces = "".join(f"S {at}+{min(1448, 1 + largest - at)} ack 1 =>\n" for at in range(1, 1 + largest - 1448, 1448))
    rest = 1 + largest - largest % 1448
    after_opening(f"""
        P b 1+{largest} ack 1 =>
        {pieces}
        S {rest}+{largest - rest + 1} ack 1 => b
    """)
    after_opening(f"""
        S   1+{largest} ack 1                     =>
        P b 1+{largest}!{largest} ack 1           => !content
    """)


@pytest.mark.parametrize("start", [1, 3, 5])
@pytest.mark.parametrize("end", [5, 8, 11, 14])
@pytest.mark.parametrize("spoiled", [False, True])
def test_every_overlap_of_two_segments(start: int, end: int, spoiled: bool) -> None:
    """The primary's is [3, 11); below 3 and above 11 the secondary's bytes may be anything yet."""
    common = range(max(start, 3), min(end, 11))
    book = after_opening("""
        P b 1+2 ack 1 =>
        S   1+2 ack 1 => b
        P c 3+8 ack 1 =>
    """)
    if not common:
        book.run(f"S {start}+{end - start} ack 1 =>")
        return
    spoil = f"!{common[-1]}" if spoiled else ""
    outcome = "!content" if spoiled and start <= 3 else "c" if start <= 3 and end >= 11 else ""
    book.run(f"S {start}+{end - start}{spoil} ack 1 => {outcome}")
    if start > 3:
        book.run(f"S 3+{start - 3} ack 1 => " + ("!content" if spoiled else "c" if end >= 11 else ""))
