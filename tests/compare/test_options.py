"""SYNs that offer the client different things for the whole connection."""

from __future__ import annotations

import pytest

from colo_bridge.compare.decisions import Reason
from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook, play

LINUX = "mss 1460 sack time 71 scale 7"
TALK = """
    P x 1+10 ack 1 =>
    S   1+10 ack 1 => x
"""


def test_equal_offers_match_whatever_the_clocks_and_the_order_of_the_options() -> None:
    play(
        f"""
        P a SA 0 ack 1 {LINUX}                        =>
        S   SA 0 ack 1 scale 7 time 9 sack mss 1460   => a
    """
        + TALK
    )


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ("mss 1400 sack time 71 scale 7", "MSS 1400, window scale 7, SACK, timestamps"),
        ("mss 1460 sack time 71 scale 8", "MSS 1460, window scale 8, SACK, timestamps"),
        ("mss 1460 sack time 71", "MSS 1460, SACK, timestamps"),
        ("mss 1460 sack time 71 scale 0", "MSS 1460, window scale 0, SACK, timestamps"),
        ("mss 1460 time 71 scale 7", "MSS 1460, window scale 7, timestamps"),
        ("mss 1460 sack scale 7", "MSS 1460, window scale 7, SACK"),
        ("", "nothing"),
    ],
)
def test_different_offers_diverge_whoever_comes_first(theirs: str, told: str) -> None:
    book = play(f"""
        P a SA 0 ack 1 {LINUX}  =>
        S   SA 0 ack 1 {theirs} => !options
    """)
    (difference,) = book.seen
    assert difference.reason is Reason.OPTIONS
    assert difference.detail.endswith(f"the secondary's {told}")
    assert difference.sequence == book.isn
    assert difference.primary_packet and difference.secondary_packet
    play(f"""
        S   SA 0 ack 1 {theirs} =>
        P a SA 0 ack 1 {LINUX}  => !options
    """)


def test_the_syn_of_a_guest_that_opens_is_compared_too() -> None:
    play("""
        P a S 0 mss 1460 =>
        S   S 0 mss 536  => !options
    """)


def test_a_fast_open_cookie_is_no_offer() -> None:
    play("""
        P a S 0 mss 1460 cookie 5 =>
        S   S 0 mss 1460          => a
    """)


def test_the_syn_waits_for_the_checkpoint_and_is_reported_once() -> None:
    play(
        """
        P a SA 0 ack 1 scale 7 =>
        S   SA 0 ack 1 scale 8 => !options
        P b SA 0 ack 1 scale 7 =>
        S   SA 0 ack 1 scale 8 =>
        checkpoint             => a b
        P c SA 0 ack 1 scale 7 => c
        S   SA 0 ack 1 scale 8 =>
    """
        + TALK
        + """
        S   SA 0 ack 1 scale 8 =>
        P d SA 0 ack 1 scale 7 => d
    """
    )


@pytest.mark.parametrize(("checkpoint", "scale"), [("checkpoint", 8), ("checkpoint synchronised", 7)])
def test_a_repeat_in_the_primarys_numbers_is_no_second_offer(checkpoint: str, scale: int) -> None:
    book = Playbook().run(f"""
        P a SA 0 ack 1 scale 7 =>
        S   SA 0 ack 1 scale 8 => !options
        {checkpoint}           => a
    """)
    book.secondary_isn = book.isn
    book.run(f"S SA 0 ack 1 scale {scale} =>" + TALK)


def test_a_first_offer_in_the_primarys_numbers_is_compared() -> None:
    Playbook(secondary_isn=1_000).run("""
        P a SA 0 ack 1 scale 7 =>
        S   SA 0 ack 1 scale 8 => !options
    """)


def test_a_syn_of_the_secondary_that_came_after_the_checkpoint_is_compared() -> None:
    play(
        """
        P a SA 0 ack 1 scale 7 =>
        checkpoint             => a
        S   SA 0 ack 1 scale 8 => !options
        P b SA 0 ack 1 scale 7 =>
        checkpoint             => b
    """
        + TALK
    )


def test_a_newer_syn_offers_anew() -> None:
    """SYN cookies (RFC 4987 §3.6): a server that runs out of memory offers less."""
    play("""
        P a SA 0 ack 1 mss 1460 scale 7 =>
        S   SA 0 ack 1 mss 1460 scale 7 => a
        P b SA 700 ack 1 mss 1460       => !options
        P c SA 700 ack 1 mss 1460       =>
        checkpoint                      => b c
        P d SA 700 ack 1 mss 1460       => d
        P e 701+10 ack 1                =>
        S   701+10 ack 1                => e
    """)
    play(
        """
        P a SA 0 ack 1 mss 1460 scale 7 =>
        S   SA 0 ack 1 mss 1460 scale 7 => a
        S   SA 700 ack 1 mss 1460       => !options
        checkpoint                      =>
        P b SA 0 ack 1 mss 1460 scale 7 => b
    """
        + TALK
    )


def test_a_client_that_answers_the_older_of_two_offers_is_compared_at_its_numbers() -> None:
    play("""
        P a SA 0 ack 1 scale 7  =>
        S   SA 0 ack 1 scale 7  => a
        P b SA 70000 ack 1      => !options
        P c 1+10 ack 1          =>
        checkpoint              => c b
        P d 11+10 ack 1         =>
        S   11+10!15 ack 1      => !content
    """)


def test_an_offer_is_compared_where_the_primarys_syn_found_no_room() -> None:
    book = Playbook(settings=Settings(held_packets=1)).run("""
        P u udp other          =>
        P a SA 0 ack 1 scale 7 => -a
        S   SA 0 ack 1 scale 8 => !options
    """)
    assert book.seen[-1].primary_packet is None


def test_what_followed_a_syn_ends_the_talk_about_offers() -> None:
    play(
        """
        P a SA 0 ack 1 scale 7 =>
        S   SA 0 ack 1 scale 7 => a
    """
        + TALK
        + """
        S   SA 0 ack 1         =>
        P b SA 0 ack 1         => b
    """
    )


def test_data_behind_a_syn_with_another_offer_leaves_with_the_checkpoint() -> None:
    """RFC 7413: data in the SYN."""
    play("""
        P a S 0+10 mss 1460 =>
        S   S 0+10 mss 1400 => !options
        checkpoint          => a
        P b 11+5            =>
        S   11+5            => b
    """)
