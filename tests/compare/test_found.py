"""Faults of the comparator, each as the shortest trace that shows it."""

from __future__ import annotations

import pytest

from colo_bridge.compare import datagram
from colo_bridge.compare.decisions import Divergence
from colo_bridge.compare.item import Item
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.settings import Settings
from colo_bridge.errors import InternalError
from tests.compare.playbook import Playbook, play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def test_a_datagram_flow_that_diverged_and_matched_after_all_is_compared_again_after_the_checkpoint() -> None:
    play("""
        P a udp one   =>
        S   udp two   => !datagram
        S   udp one   => a
        P b udp two   => b
        checkpoint    =>
        S   udp three =>
        P c udp three => c
    """)


def test_after_a_synchronising_checkpoint_both_sides_stand_in_the_same_connection() -> None:
    """The primary had moved on to a new connection of the same ports, the secondary had not."""
    play(
        OPENING
        + """
        P b 1+10 ack 1          =>
        S   1+10 ack 1          => b
        P c SA 5000 ack 9000    =>
        tick 9                  => !timeout
        checkpoint synchronised => c
        P d 5001+10 ack 9000    =>
        S   5001+10 ack 9000    => d
    """
    )


def test_a_synchronising_checkpoint_opens_a_connection_whose_syn_the_secondary_never_sent() -> None:
    play("""
        P a SA 0 ack 1          =>
        tick 9                  => !timeout
        checkpoint synchronised => a
        P b 1+10 ack 1          =>
        S   1+10 ack 1          => b
    """)


def test_reset_by_both_after_a_synchronising_checkpoint_is_no_refusal() -> None:
    play("""
        P a SA 0 ack 1          =>
        tick 9                  => !timeout
        checkpoint synchronised => a
        S   RA 1 ack 1          =>
        P b RA 1 ack 1          => b
    """)


@pytest.mark.parametrize("kind", ["checkpoint", "checkpoint synchronised"])
def test_a_syn_that_the_secondary_sent_before_the_checkpoint_matches_nothing_after_it(kind: str) -> None:
    play(f"""
        S   SA 0 ack 1 =>
        {kind}         =>
        P a SA 0 ack 1 =>
        S   SA 0 ack 1 => a
    """)


def test_a_late_syn_of_the_secondary_does_not_take_the_cursor_back() -> None:
    play("""
        P a SA 0 ack 1  =>
        tick 9          => !timeout
        checkpoint      => a
        P b 1+10 ack 1  =>
        tick 19         => !timeout
        checkpoint      => b
        S   SA 0 ack 1  =>
        S   1+10 ack 1  =>
        P c 11+5 ack 1  =>
        S   11+5 ack 1  => c
        tick 40         =>
    """)


def test_a_newer_isn_that_was_not_chosen_does_not_move_the_cursor_at_a_checkpoint() -> None:
    """SYN cookies: the client answered the first SYN, the second has a higher number."""
    play("""
        P a SA 0 ack 1          =>
        S   SA 0 ack 1          => a
        P b SA 900000 ack 1     => b
        P c 1+10 ack 1          =>
        S   1+10 ack 1          => c
        checkpoint synchronised =>
        P d 11+10 ack 1         =>
        S   11+10 ack 1         => d
    """)


def test_a_new_client_behind_a_half_open_connection_has_a_floor_of_its_own() -> None:
    """Nothing followed the first SYN; the next client on these ports began at a lower number."""
    play("""
        P a SA 0 ack 5000  =>
        S   SA 0 ack 5000  => a
        P b SA 70 ack 100  =>
        S   SA 70 ack 100  => b
        P c A 71 ack 200   =>
        S   A 71 ack 200   => c
    """)


def test_a_refusal_of_another_syn_is_no_repeat() -> None:
    """Both refused one SYN; the next one is refused by the primary alone."""
    book = Playbook(isn=0).run("""
        P a RA 0 ack 1    =>
        S   RA 0 ack 1    => a
        P b RA 0 ack 9000 =>
    """)
    assert book["held_packets_now"] == 1


def test_what_the_secondary_sent_in_an_unseen_connection_does_not_free_the_next_one_from_comparison() -> None:
    play(
        """
        S   A 50 ack 40    =>
        P a SA 5000 ack 90 =>
        S   SA 5000 ack 90 => a
    """,
        settings=Settings(pass_unsynchronised=True),
    )


def test_ports_of_an_unsynchronised_connection_can_be_used_again() -> None:
    play(
        """
        P a 100+10 ack 1   => a
        S   100+10 ack 1   =>
        P b SA 5000 ack 90 =>
        S   SA 5000 ack 90 => b
    """,
        settings=Settings(pass_unsynchronised=True),
    )


def test_retransmissions_behind_a_divergence_are_released() -> None:
    """The cursor reaches 5 and the octet at 5 differs, in one step."""
    play(
        OPENING
        + """
        P b 1+10 ack 1    =>
        P c 1+5 ack 1     =>
        S   4+2 ack 1     =>
        S   6+5!6 ack 1   =>
        S   1+3 ack 1     => c !content
    """
    )


def test_a_flow_with_a_syn_of_the_secondary_waiting_is_not_evicted() -> None:
    settings = Settings(connections=16)
    book = Playbook(settings=settings).run("S SA 0 ack 1 =>")
    for port in range(6000, 6040):
        book.run(f"S SA 0 ack 1 @{port} =>")
    book.run("P a SA 0 ack 1 => a")


def test_half_open_connections_are_evicted_before_open_ones() -> None:
    book = Playbook(settings=Settings(connections=200))
    for port in range(1000, 1100):
        book.run(f"""
            P a SA 0 ack 1 @{port}   =>
            S   SA 0 ack 1 @{port}   => a
            P b 1+1 ack 1 @{port}    =>
            S   1+1 ack 1 @{port}    => b
        """)
    for port in range(2000, 2150):
        book.run(f"""
            P a SA 0 ack 1 @{port}   =>
            S   SA 0 ack 1 @{port}   => a
        """)
    for port in range(1000, 1100):
        book.run(f"P c 1+1 ack 1 @{port} => c")


def test_a_difference_of_datagrams_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a search byte by byte, and a guest may send much before the checkpoint."""
    searches = []
    monkeypatch.setattr(datagram, "_first_difference", lambda ours, theirs: searches.append(ours) or 0)
    play("""
        S   udp other =>
        P a udp one   => !datagram
        P b udp two   =>
        P c udp three =>
    """)
    assert set(searches) == {b"one"}


def test_a_syn_that_the_secondary_left_behind_does_not_time_out() -> None:
    play("""
        S   SA 0 ack 1       =>
        S   1+5 ack 1        =>
        S   SA 5000 ack 9000 =>
        P a SA 5000 ack 9000 => a
        tick 9               =>
    """)


def test_at_a_checkpoint_what_begins_at_the_same_number_leaves_in_order_of_arrival() -> None:
    play("""
        P a A 100 ack 500  =>
        P b 100+10 ack 600 =>
        checkpoint         => a b
    """)


def test_at_a_checkpoint_what_came_in_the_same_moment_leaves_in_order_of_arrival() -> None:
    Playbook(step=0.0).run("""
        P a A 100 ack 500  =>
        P b 100+10 ack 600 =>
        P c R 100          =>
        P d A 100 ack 700  =>
        P e 100+5 ack 600  =>
        P f 90+5 ack 600   =>
        checkpoint         => f a b c d e
    """)


def test_data_that_the_same_packet_verifies_leaves_before_the_ack_that_it_frees() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 9 =>
        P c A 11 ack 9 =>
        S   1+10 ack 9 => b c
    """
    )


@pytest.mark.parametrize("cuts", ["S 1+20!15 ack 1", "S F 1+13 ack 1"])
def test_everything_before_a_difference_leaves_however_the_secondary_cuts(cuts: str) -> None:
    reason = "!control" if "F" in cuts else "!content"
    play(
        OPENING
        + f"""
        P b 1+20 ack 1 =>
        P c 5+9 ack 1  =>
        {cuts}         => c {reason}
        P d 1+13 ack 1 => d
    """
    )


@pytest.mark.parametrize("at", [1, 4])
def test_a_second_version_of_what_diverged_is_thrown_away(at: int) -> None:
    play(
        OPENING
        + f"""
        P b 1+10 ack 1      =>
        S   1+10!{at} ack 1 => !content
        S   1+10 ack 1      =>
    """
    )


def test_a_secondary_that_lags_by_a_connection_answers_the_one_in_between() -> None:
    """A checkpoint that copies nothing let the primary run ahead: its third SYN is not what the second is equal to."""
    play(
        OPENING
        + """
        P b 1+10 ack 1          =>
        P c SA 90000 ack 700000 =>
        tick 4                  => !timeout
        checkpoint              => b c
        P d 90001+5 ack 700000  =>
        checkpoint              => d
        P e SA 50000 ack 900000 =>
        S   SA 90000 ack 700000 =>
        S   90001+5 ack 700000  =>
        S   SA 50000 ack 900000 => e
        P f 50001+5 ack 900000  =>
        S   50001+5 ack 900000  => f
    """
    )


def test_two_openings_that_either_side_answers_in_turn() -> None:
    """A client that has no answer tries again with another number."""
    play("""
        P a SA 0 ack 1         =>
        P b SA 5000 ack 900000 =>
        S   SA 0 ack 1         => a
        S   SA 5000 ack 900000 => b
    """)
    play("""
        S   SA 0 ack 1         =>
        S   SA 5000 ack 900000 =>
        P a SA 0 ack 1         =>
        P b SA 5000 ack 900000 => b
    """)


def test_an_answer_to_data_in_the_clients_syn_is_the_same_opening() -> None:
    """Fast Open: one replica took the data, the other not."""
    play(
        OPENING
        + """
        P b SA 90000 ack 700000 =>
        S   SA 90000 ack 700500 => b
    """
    )


def test_a_reset_of_a_secondary_whose_syn_a_checkpoint_forgot_is_no_refusal() -> None:
    play("""
        S   SA 0 ack 1 =>
        checkpoint     =>
        P a SA 0 ack 1 =>
        checkpoint     => a
        S   1+5 ack 1  =>
        P b 1+5 ack 1  => b
        P c R 6        =>
        S   R 6        => c
    """)


def test_streams_do_not_meet_before_their_syns_do() -> None:
    """The checkpoint made forget the secondary's SYN; its data alone is no midstream of the primary's connection."""
    play("""
        S   SA 0 ack 1 =>
        S   1+5 ack 1  =>
        checkpoint     =>
        P a SA 0 ack 1 =>
        P b 1+5 ack 1  =>
        S   1+5 ack 1  =>
        checkpoint     => a b
    """)


def test_a_connection_diverges_once_between_checkpoints() -> None:
    book = play(
        OPENING
        + """
        P b 1+10 ack 1   =>
        S   1+10!3 ack 1 => !content
        P c R 11         =>
        S   R 50         =>
        checkpoint       => b c
    """
    )
    assert book["divergences"] == 1


def test_a_checkpoint_that_leaves_a_packet_undecided_is_a_fault_of_ours() -> None:
    class Stubborn:
        def renew(self, synchronised: bool, /) -> None:
            """Decides nothing."""

        def why_silent(self, item: Item) -> Divergence:
            raise AssertionError("nobody asks")

    item = Item()
    item.owner, item.token, item.length, item.arrived = Stubborn(), "a", 40, 0.0
    ledger = Ledger(Settings())
    ledger.hold(item)
    with pytest.raises(InternalError):
        ledger.renew(synchronised=True)


def test_a_secondary_that_lags_by_a_connection_does_not_raise_the_floor_of_the_next() -> None:
    """Two checkpoints that copied nothing let the primary run ahead before the secondary sent anything."""
    play("""
        P a 500+5 ack 9             =>
        checkpoint                  => a
        P b SA 90000 ack 700000000  =>
        checkpoint                  => b
        P c A 90001 ack 700000000   =>
        S   A 505 ack 900000000     =>
        S   90001+5 ack 700000000   => c
        P d 90001+5 ack 700000000   => d
    """)


def test_a_secondary_whose_syn_was_lost_goes_on_behind_the_checkpoint() -> None:
    play("""
        P a S 0             =>
        checkpoint          => a
        S   1+5             =>
        P b 1+5             => b
    """)


def test_a_late_reset_of_the_connection_before_is_no_refusal_and_no_floor() -> None:
    play("""
        P a 500+5 ack 9            =>
        checkpoint                 => a
        P b SA 90000 ack 700000000 =>
        S   RA 505 ack 900000000   =>
        S   SA 90000 ack 700000000 => b
        P c A 90001 ack 700000100  =>
        S   A 90001 ack 700000100  => c
    """)
