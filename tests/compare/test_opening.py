"""SYNs: initial numbers differ, repeats, cookies, used ports, data in the SYN."""

from __future__ import annotations

import pytest

from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook, play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""
TALK = """
    P b 1+10 ack 1 =>
    S   1+10 ack 1 => b
"""


def test_the_secondarys_syn_matches_whatever_its_number() -> None:
    """Small print 4."""
    for secondary_isn in (0, 1_000, 0x80000000, 0xFFFFFFFF):
        Playbook(secondary_isn=secondary_isn).run(OPENING + TALK)


def test_the_secondary_opens_first() -> None:
    play("""
        S   SA 0 ack 1 =>
        P a SA 0 ack 1 => a
    """)


def test_a_syn_waits_for_its_acknowledgment() -> None:
    play("""
        P a SA 0 ack 9 =>
        S   SA 0 ack 1 =>
        S   SA 0 ack 9 => a
    """)


def test_repeated_syns_of_the_primary_leave_at_once() -> None:
    play("""
        P a SA 0 ack 1 =>
        P b SA 0 ack 1 =>
        S   SA 0 ack 1 => a b
        P c SA 0 ack 1 => c
    """)


def test_repeated_syns_of_the_secondary_change_nothing() -> None:
    """With its own number, and with the primary's once the rewriter knows it."""
    book = Playbook().run(OPENING + "S SA 0 ack 1 =>" + TALK + "S SA 0 ack 1 =>")
    book.secondary_isn = book.isn
    book.run("""
        S   SA 0 ack 1  =>
        P c 11+10 ack 1 =>
        S   11+10 ack 1 => c
    """)


@pytest.mark.parametrize("isn", [1_000, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("secondary_isn", [77_000_000, 0xFFFFFFFF])
def test_a_late_repeat_with_the_secondarys_own_number_changes_nothing_either(isn: int, secondary_isn: int) -> None:
    """Its SYN with the primary's number did not make it forget its own."""
    book = Playbook(isn=isn, secondary_isn=secondary_isn).run(OPENING)
    book.secondary_isn = isn
    book.run("S SA 0 ack 1 =>" + TALK)
    book.secondary_isn = secondary_isn
    book.run("""
        S   SA 0 ack 1  =>
        P c 11+10 ack 1 =>
        S   11+10 ack 1 => c
    """)


def test_a_late_repeat_of_a_number_that_was_replaced_changes_nothing() -> None:
    play(
        OPENING
        + """
        S   SA 900 ack 1 =>
        S   SA 9 ack 1   =>
    """
        + TALK
        + """
        S   SA 0 ack 1   =>
        S   SA 900 ack 1 =>
        P c 11+10 ack 1  =>
        S   11+10 ack 1  => c
    """
    )


def test_a_newer_number_replaces_a_syn_that_nothing_followed() -> None:
    """Small print 5: SYN cookies."""
    play("""
        P a SA 0 ack 1           =>
        P b SA 4000000000 ack 1  =>
        S   SA 9 ack 1           => a b
        P c 4000000001+5 ack 1   =>
        S   4000000001+5 ack 1   => c
    """)


def test_the_client_may_answer_an_older_syn() -> None:
    play(
        OPENING
        + """
        P b SA 900000 ack 1 => b
        S   SA 33 ack 1     =>
        P c 1+10 ack 1      =>
        S   1+10 ack 1      => c
        P d 1+10 ack 1      => d
    """
    )


TWO_SYNS = (
    OPENING
    + """
    P b SA 900000 ack 1 => b
"""
)


@pytest.mark.parametrize("flags", ["", "F"])
@pytest.mark.parametrize("other", [900_000, 4_000_000_000])
def test_the_secondary_may_be_the_first_to_tell_which_syn_the_client_answered(other: int, flags: str) -> None:
    """Above or below: the client answered the first one."""
    play(
        OPENING
        + f"""
        P b SA {other} ack 1   => b
        S   {flags} 1+10 ack 1 =>
        P c {flags} 1+10 ack 1 => c
    """
    )


def test_the_secondary_may_be_the_first_to_tell_that_the_client_answered_the_newest_syn() -> None:
    play(
        TWO_SYNS
        + """
        S   900001+10 ack 1   =>
        P c 900001+10 ack 1   => c
    """
    )


def test_a_difference_behind_the_syn_that_the_secondary_told_first() -> None:
    play(
        TWO_SYNS
        + """
        S   1+10!1 ack 1 =>
        P c 1+10 ack 1   => !content
    """
    )


def test_a_newer_syn_does_not_change_what_the_secondary_told() -> None:
    """The SYN-ACK crossed the client's answer to the first one."""
    play(
        OPENING
        + """
        S   1+10 ack 1      =>
        P b SA 900000 ack 1 => b
        S   11+10 ack 1     =>
        P c 1+20 ack 1      => c
    """
    )


def test_a_newer_syn_that_the_client_did_not_answer_does_not_move_the_cursor_at_a_checkpoint() -> None:
    play(
        OPENING
        + """
        S   A 1 ack 1       =>
        P b SA 900000 ack 1 => b
        checkpoint          =>
        S   1+10 ack 1      =>
        P c 1+10 ack 1      => c
    """
    )


@pytest.mark.parametrize(("reset", "data"), [("P c R 1", "S 1+10 ack 1"), ("S R 1", "P c 1+10 ack 1")])
def test_a_reset_tells_which_syn_the_client_answered(reset: str, data: str) -> None:
    play(TWO_SYNS + f"{reset} =>\n {data} => !control")


def test_the_primary_has_the_last_word_about_which_syn_the_client_answered() -> None:
    play(
        TWO_SYNS
        + """
        S   A 1 ack 1       =>
        P c 900001+10 ack 1 =>
        S   900001+10 ack 1 => c
    """
    )


def test_only_so_many_syns_are_remembered() -> None:
    book = Playbook().run(OPENING)
    for number in range(1, 9):
        book.run(f"P b SA {number}00000 ack 1 => b")
    book.run("""
        P c 800001+5 ack 1 =>
        S   800001+5 ack 1 => c
    """)


@pytest.mark.parametrize("number", [5_000, 4_000_000_000])
def test_used_ports_with_a_higher_and_with_a_lower_number(number: int) -> None:
    """Small print 5: a new connection has neither cursor nor queues nor ACKs."""
    play(
        OPENING
        + TALK
        + f"""
        P c SA {number} ack 3000000000       =>
        S   SA {number} ack 3000000000       => c
        P d {number + 1}+10 ack 3000000005   =>
        S   {number + 1}+10 ack 3000000000   =>
        S   A {number + 11} ack 3000000005   => d
        P e {number + 11}+5 ack 3000000005   =>
        S   {number + 11}+5!{number + 12}    => !content
    """
    )


def test_the_secondary_moves_to_the_next_connection_first() -> None:
    play(
        OPENING
        + TALK
        + """
        S   SA 5000 ack 70    =>
        P c 11+5 ack 1        =>
        P d SA 5000 ack 70    => d
        S   5001+10 ack 70    =>
        P e 5001+10 ack 70    => e
        tick 1                =>
        tick 9                => !timeout
        checkpoint            => c
    """
    )


def test_the_primary_moves_to_the_next_connection_first() -> None:
    """What the secondary still sends in the old one is compared there."""
    play(
        OPENING
        + """
        P b 1+10 ack 1        =>
        P c SA 5000 ack 70    =>
        P d 5001+10 ack 70    =>
        S   1+10 ack 1        => b
        S   SA 5000 ack 70    => c
        S   5001+10 ack 70    => d
    """
    )


def test_used_ports_after_a_reset() -> None:
    play(
        OPENING
        + """
        P b R 1            =>
        S   R 1            => b
        P c SA 5000 ack 70 =>
        S   SA 5000 ack 70 => c
        P d 5001+3 ack 70  =>
        S   5001+3 ack 70  => d
    """
    )


def test_data_in_the_syn() -> None:
    """RFC 7413."""
    play("""
        P a S 0+10  =>
        S   S 0+10  => a
        P b 11+5    =>
        S   11+5    => b
    """)
    play("""
        S   S 0+4      =>
        P a S 0+10     =>
        S   5+6        => a
        P b S 0+10     => b
    """)
    play("""
        P a S 0+10     =>
        S   S 0+10!4   => !content
    """)


def test_data_in_the_syn_of_one_side() -> None:
    play("""
        P a S 0    =>
        S   S 0+10 => a
        P b 1+10   => b
    """)
    play("""
        P a S 0+10 =>
        S   S 0    =>
        S   1+10   => a
    """)


def test_fin_in_the_syn() -> None:
    play("""
        P a SF 0 =>
        S   SF 0 => a
    """)


def test_a_secondary_in_a_connection_that_the_primary_left_is_of_no_use() -> None:
    """Its first packet is no SYN, the primary's was one: it comes from an older connection."""
    book = play("""
        P a SA 0 ack 1 =>
        S   7000+5 ack 1 =>
        S   SA 0 ack 1 => a
    """)
    assert book["thrown_away_packets"] == 2


@pytest.mark.parametrize("hold", [True, False])
def test_a_primary_in_midstream_while_the_secondary_opens(hold: bool) -> None:
    """The two stand in different connections until the primary opens too."""
    mid = "=>" if hold else "=> a"
    play(
        f"""
        S   SA 0 ack 1      =>
        P a 70000+5 ack 900 {mid}
        P b SA 0 ack 1      => b
    """,
        settings=Settings(pass_unsynchronised=not hold),
    )
