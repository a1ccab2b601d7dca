"""RST: by number, exempt from the floor, different when the other side goes on."""

from __future__ import annotations

import pytest

from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook, play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def after_opening(trace: str) -> Playbook:
    return play(OPENING + trace)


def test_a_reset_of_both_at_the_same_number_leaves_whatever_the_floor() -> None:
    after_opening("""
        P b RA 1 ack 500 =>
        S   RA 1 ack 1   => b
        P c RA 1 ack 500 => c
    """)


def test_the_secondary_resets_first() -> None:
    after_opening("""
        S   R 1 =>
        P b R 1 => b
    """)


def test_all_resets_at_the_number_leave_with_the_match() -> None:
    after_opening("""
        P b R 1 =>
        P c R 1 =>
        S   R 1 => b c
        S   R 1 =>
    """)


def test_resets_at_two_numbers_match_one_after_the_other() -> None:
    after_opening("""
        P b R 1 =>
        P c R 9 =>
        S   R 1 => b
        S   R 9 => c
    """)


def test_a_reset_is_no_pure_ack() -> None:
    after_opening("""
        S   A 1 ack 900  =>
        P b RA 1 ack 500 =>
    """)


def test_resets_at_different_numbers_diverge() -> None:
    book = after_opening("""
        P b R 1 =>
        S   R 5 => !control
    """)
    assert "at different numbers" in book.seen[-1].detail
    after_opening("""
        S   R 5 =>
        P b R 1 => !control
    """)


def test_a_reset_of_the_primary_against_data_diverges() -> None:
    book = after_opening("""
        P b R 1      =>
        S 1+10 ack 1 => !control
    """)
    assert "the secondary goes on" in book.seen[-1].detail
    book = after_opening("""
        S 1+10 ack 1 =>
        P b R 1      => !control
    """)
    assert "only the primary resets" in book.seen[-1].detail


def test_a_reset_of_the_secondary_against_data_diverges() -> None:
    book = after_opening("""
        S   R 1        =>
        P b 1+10 ack 1 => !control
    """)
    assert "the primary goes on" in book.seen[-1].detail
    book = after_opening("""
        P b 1+10 ack 1 =>
        S   R 1        => !control
    """)
    assert "only the secondary resets" in book.seen[-1].detail


def test_a_pure_ack_is_no_octet_behind_a_reset() -> None:
    """In either order: only octets say that the other side goes on."""
    play("""
        S   A 510 ack 5 =>
        P a R 500       =>
        S   R 500       => a
    """)
    play("""
        P a R 500       =>
        S   A 510 ack 5 =>
        S   R 500       => a
    """)
    play("""
        S   A 500 ack 5 =>
        P a A 510 ack 5 => a
        S   R 500       =>
        P b R 500       => b
    """)
    play("""
        P a A 510 ack 5  =>
        S   RA 500 ack 5 => a
        P b R 500        => b
    """)


def test_a_side_goes_on_behind_its_reset_whatever_pure_acks_it_sent() -> None:
    play("""
        S   A 510 ack 5   =>
        S   R 500         =>
        P a 500+5 ack 5   => !control
    """)


def test_a_reset_behind_all_octets_of_the_other_side_is_waited_for() -> None:
    after_opening("""
        P b 1+10 ack 1 =>
        P c R 11       =>
        S   1+10 ack 1 => b
        S   R 11       => c
    """)
    after_opening("""
        S   R 11       =>
        P b 1+10 ack 1 =>
        S   1+10 ack 1 => b
        P c R 11       => c
    """)


@pytest.mark.parametrize(
    "cuts",
    [
        "S 1+10 ack 1 => b \n S 11+10 ack 1 => !control",
        "S 1+20 ack 1 => b !control",
    ],
)
def test_what_is_equal_in_front_of_a_reset_of_the_primary_leaves_however_the_secondary_cuts(cuts: str) -> None:
    after_opening(f"""
        P b 1+10 ack 1 =>
        P c R 11       =>
        {cuts}
        P d 1+10 ack 1 => d
        checkpoint     => c
    """)


@pytest.mark.parametrize(
    "cuts",
    [
        "P b 1+10 ack 1 => b \n P c 11+10 ack 1 => !control",
        "P c 1+20 ack 1 => !control",
    ],
)
def test_what_is_equal_in_front_of_a_reset_of_the_secondary_leaves_however_the_primary_cuts(cuts: str) -> None:
    after_opening(f"""
        S   1+10 ack 1 =>
        S   R 11       =>
        {cuts}
        P d 1+10 ack 1 => d
        checkpoint     => c
    """)


@pytest.mark.parametrize("reset", ["P c R 21 =>", "S R 21 =>"])
def test_a_difference_in_front_of_a_reset_is_one_of_content(reset: str) -> None:
    after_opening(f"""
        P b 1+20 ack 1     =>
        {reset}
        S   1+30!5 ack 1   => !content
    """)


def test_a_reset_at_a_number_below_the_cursor_is_waited_for() -> None:
    """RFC 9293: a RST that answers a segment stands at that segment's ACK."""
    after_opening("""
        P b 1+10 ack 1 =>
        S   1+10 ack 1 => b
        P c R 5        =>
        S   R 5        => c
    """)


def test_a_refusal_by_the_secondary_alone() -> None:
    """Small print 3: before a side's SYN its RST stands at that SYN, not at its own number."""
    for isn in (1_000, 0x80000001, 0xFFFFFFF0):
        book = Playbook(isn=isn).run("P a SA 0 ack 1 =>")
        refusal = -isn & 0xFFFFFFFF
        book.run(f"S RA {refusal} ack 1 => !control")
        assert "the secondary refused" in book.seen[-1].detail
        book = Playbook(isn=isn).run(f"""
            S   RA {refusal} ack 1 =>
            P a SA 0 ack 1         => !control
        """)
        assert "the secondary refused" in book.seen[-1].detail


def test_a_refusal_by_the_primary_alone() -> None:
    for isn in (1_000, 0x80000001, 0xFFFFFFF0):
        refusal = -isn & 0xFFFFFFFF
        book = Playbook(isn=isn).run(f"""
            S   SA 0 ack 1         =>
            P a RA {refusal} ack 1 => !control
        """)
        assert "the primary refused" in book.seen[-1].detail
        book = Playbook(isn=isn).run(f"""
            P a RA {refusal} ack 1 =>
            S   SA 0 ack 1         => !control
        """)
        assert "the primary refused" in book.seen[-1].detail


def test_a_refusal_by_both() -> None:
    Playbook(isn=0).run("""
        P a RA 0 ack 1 =>
        S   RA 0 ack 1 => a
    """)


def test_a_refused_connection_is_opened_by_both_at_the_next_try() -> None:
    Playbook(isn=0).run("""
        P a RA 0 ack 1     =>
        S   RA 0 ack 1     => a
        P b SA 700 ack 9   =>
        S   SA 700 ack 9   => b
        P c 701+10 ack 9   =>
        S   701+10 ack 9   => c
    """)


def refused(isn: int, trace: str) -> Playbook:
    """Play a trace in which `0` stands for the number 0 of a refusal, wherever the numbers begin."""
    return Playbook(isn=isn).run(trace.replace("RA 0", f"RA {-isn & 0xFFFFFFFF}"))


ANYWHERE = pytest.mark.parametrize("isn", [0, 1_000, 0x80000001, 0xFFFFFFFC])


def test_a_reset_at_a_number_that_has_matched_leaves_whatever_it_acknowledges() -> None:
    """Whichever side was the last one to send it."""
    play("""
        P a RA 500 ack 90 =>
        S   RA 500 ack 90 => a
        P b R 500         => b
        P c RA 500 ack 7  => c
        S   R 500         =>
    """)
    play("""
        P a RA 500 ack 90 =>
        P b R 500         =>
        P c RA 500 ack 7  =>
        S   RA 500 ack 90 => a b c
    """)


@ANYWHERE
def test_refusals_of_two_syns_wait_each_for_its_equal(isn: int) -> None:
    """Whichever side was the last one to send them."""
    refused(
        isn,
        """
        P a RA 0 ack 1    =>
        S   RA 0 ack 1    => a
        P b RA 0 ack 9000 =>
        P c RA 0 ack 1    => c
        S   RA 0 ack 9000 => b
    """,
    )
    refused(
        isn,
        """
        P a RA 0 ack 1    =>
        P b RA 0 ack 9000 =>
        P c RA 0 ack 1    =>
        S   RA 0 ack 1    => a c
        S   RA 0 ack 9000 => b
    """,
    )
    refused(
        isn,
        """
        S   RA 0 ack 1    =>
        S   RA 0 ack 9000 =>
        P b RA 0 ack 9000 => b
        P a RA 0 ack 1    => a
    """,
    )


@ANYWHERE
def test_a_refusal_says_nothing_about_the_connection_that_had_the_ports_before(isn: int) -> None:
    """Neither does it raise the floor, nor is its number one that the other side has passed."""
    refused(
        isn,
        OPENING
        + """
        P b 1+10 ack 500  =>
        S   1+10 ack 500  => b
        P c A 11 ack 600  =>
        S   RA 0 ack 9000 =>
        P d RA 0 ack 9000 => d
        P e 11+10 ack 500 =>
        S   11+10 ack 500 => e
        S   A 21 ack 600  => c
    """,
    )


@pytest.mark.parametrize(
    "trace",
    [
        OPENING + "P b 1+10 ack 1 =>\n S 1+10 ack 1 => b\n P c RA 11 ack 90 =>\n S RA 11 ack 1 => c",
        OPENING + "P b 1+10 ack 1 =>\n S 1+10 ack 1 => b\n S RA 11 ack 90 =>\n P c 11+5 ack 1 => !control",
        OPENING + "P b 1+10 ack 1 =>\n S RA 11 ack 1 =>\n P c RA 11 ack 90 => c\n S 1+10 ack 1 => b",
        "P a 1+10 ack 1 =>\n S RA 11 ack 1 =>\n P b RA 11 ack 90 => b",
        "S 1+10 ack 1 =>\n P b RA 11 ack 90 =>\n S RA 11 ack 1 => b",
        "S A 11 ack 1 =>\n S RA 11 ack 1 =>\n P a 11+5 ack 1 => !control",
        "P a A 11 ack 9 =>\n P b RA 11 ack 9 =>\n S 11+5 ack 1 => !control",
        "S SA 0 ack 1 =>\n S RA 11 ack 1 =>\n P a SA 0 ack 1 => a\n P b RA 11 ack 90 => b",
    ],
)
def test_a_reset_at_number_0_is_no_refusal_where_the_streams_get_to_there(trace: str) -> None:
    """Octets in front of it may be missing yet, of either side."""
    Playbook(isn=0xFFFFFFF5).run(trace)


def test_a_refusal_for_which_there_is_no_room_is_dropped() -> None:
    book = Playbook(isn=0, settings=Settings(held_packets=1)).run("""
        P a RA 0 ack 1 @6000 =>
        P b RA 0 ack 1       => -b
        S   RA 0 ack 1 @6000 => a
        P c RA 0 ack 1       =>
        S   RA 0 ack 1       => c
    """)
    assert book["held_limit_drops"] == 1


@ANYWHERE
def test_a_checkpoint_releases_refusals(isn: int) -> None:
    refused(
        isn,
        """
        P a RA 0 ack 1          =>
        P b RA 0 ack 9000       =>
        S   RA 0 ack 7000       =>
        checkpoint synchronised => a b
        P c RA 0 ack 1          => c
        P d RA 0 ack 7000       =>
    """,
    )


def test_a_reset_in_midstream_of_both() -> None:
    play("""
        P a R 900 =>
        S   R 900 => a
    """)


def test_resets_and_their_divergence_are_forgotten_at_a_checkpoint() -> None:
    after_opening("""
        P b R 1    =>
        S   R 5    => !control
        checkpoint => b
        P c R 1    => c
        P d R 5    =>
        S   R 5    => d
    """)


def test_a_side_that_resets_everywhere_is_remembered_within_bounds() -> None:
    book = Playbook().run(OPENING)
    for number in range(1, 200):
        book.run(f"S R {number} =>")
    book.run("P b R 5 => !control")


def test_a_held_reset_counts_as_waiting() -> None:
    after_opening("""
        P b R 1  =>
        tick 9   => !timeout
    """)


def test_a_repeated_reset_of_the_secondary_counts_once() -> None:
    after_opening("""
        S   R 1 =>
        S   R 1 =>
        P b R 1 => b
        P c R 1 => c
    """)
