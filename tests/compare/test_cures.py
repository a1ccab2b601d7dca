"""Where cures are on: ACKs lowered to the floor, windows narrowed to what the secondary takes."""

from __future__ import annotations

from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook
from tests.packets import ethernet, read_tcp

CURES = Settings(cure_after=0.010)
OPENING = """
    P a SA 0 ack 1 win 0 =>
    S   SA 0 ack 1 win 0 => a
"""


def opened(scale: int | None = 0) -> Playbook:
    return Playbook(settings=CURES, scale=scale).run(OPENING)


def left_as(book: Playbook, token: str) -> tuple[int, int]:
    """The relative ACK and the raw window of a revised packet, whose checksum is right."""
    packet = book.revised[token]
    segment = read_tcp(ethernet(packet))
    assert segment.checksum_right
    return segment.ack - book.client_isn, int.from_bytes(packet[34:36], "big")


def test_nothing_is_changed_where_cures_are_off() -> None:
    Playbook(scale=0).run(OPENING).run("""
        S   A 1 ack 1 win 100 =>
        P b A 1 ack 50        =>
        P c A 1 ack 90        =>
        cure 1                =>
        S   A 1 ack 90 win 0  => b c
    """)


def test_an_ack_that_the_floor_held_for_a_while_leaves_lowered() -> None:
    book = opened().run("""
        S   A 1 ack 40        =>
        P b A 1 ack 50        =>
        P c A 1 ack 90        =>
        cure 0.011            =>
        cure 0.100            => ~b
        S   A 1 ack 90        => c
    """)
    assert left_as(book, "b") == (40, 0xFFFF - 0)
    assert book["revised_acknowledgments"] == 1
    assert book["held_packets_now"] == 0


def test_a_lowered_ack_offers_no_more_than_the_primary_did() -> None:
    book = opened().run("""
        S   A 1 ack 40 win 60000 =>
        P b A 1 ack 50 win 100   =>
        P c A 1 ack 90 win 100   =>
        cure 0.100               => ~b
    """)
    assert left_as(book, "b") == (40, 110)


def test_the_newest_ack_stays_as_it_is() -> None:
    """Nobody would send it again."""
    opened().run("""
        P b A 1 ack 50   =>
        cure 0.100       =>
        S   A 1 ack 50   => b
    """)


def test_young_acks_stay() -> None:
    opened().run("""
        P b A 1 ack 50  =>
        P c A 1 ack 60  =>
        cure 0.012      =>
    """)


def test_data_is_never_lowered() -> None:
    opened().run("""
        P b 1+10 ack 50  =>
        S   1+10 ack 1   =>
        P c A 11 ack 90  =>
        cure 0.100       =>
        S   A 11 ack 90  => b c
    """)


def test_without_a_floor_nothing_is_lowered() -> None:
    Playbook(settings=CURES).run("""
        P a A 1 ack 50  =>
        P b A 1 ack 60  =>
        P u udp one     =>
        cure 0.100      =>
    """)


def test_where_no_syn_was_seen_windows_stay() -> None:
    """The window scale is unknown."""
    book = Playbook(settings=CURES).run("""
        S   A 500 ack 1 win 10  =>
        P a A 500 ack 50 win 99 =>
        P b A 500 ack 60        =>
        cure 0.100              => ~a
        S   A 500 ack 60 win 1  => b
    """)
    assert left_as(book, "a") == (1, 99)


def test_a_wider_window_than_the_secondarys_is_narrowed() -> None:
    book = opened().run("""
        S   A 1 ack 50 win 2000 =>
        P b A 1 ack 50 win 9000 => ~b
        P c A 1 ack 50 win 2000 => c
        P d A 1 ack 50 win 10   => d
    """)
    assert left_as(book, "b") == (50, 2000)


def test_windows_are_scaled() -> None:
    book = opened(scale=7).run("""
        S   A 1 ack 50 win 20 =>
        P b A 1 ack 50 win 90 => ~b
        S   A 1 ack 60 win 20 =>
        P c A 1 ack 55 win 90 => ~c
    """)
    assert left_as(book, "b") == (50, 20)
    assert left_as(book, "c") == (55, 20)


def test_without_room_for_a_segment_the_ack_waits() -> None:
    opened().run("""
        S   A 1 ack 50 win 100   =>
        P b A 1 ack 50 win 9000  =>
        S   A 1 ack 50 win 1459  =>
        S   A 1 ack 50 win 1460  => ~b
    """)


def test_a_receiver_never_takes_back_what_it_offered() -> None:
    """RFC 9293 §3.8.6."""
    opened().run("""
        S   A 1 ack 50 win 9000 =>
        S   A 1 ack 50 win 10   =>
        P b A 1 ack 50 win 9000 => b
    """)


def test_a_window_that_is_closed_on_both_sides_is_told() -> None:
    opened().run("""
        S   A 1 ack 50 win 0 =>
        P b A 1 ack 50 win 0 => b
    """)


def test_an_ack_that_waits_for_room_leaves_at_a_checkpoint() -> None:
    opened(scale=7).run("""
        S   A 1 ack 50 win 1    =>
        P b A 1 ack 50 win 90   =>
        checkpoint synchronised => b
        P c A 1 ack 50 win 90   => c
        S   A 1 ack 50 win 40   =>
        P d A 1 ack 50 win 90   => ~d
    """)


def test_windows_on_data_are_left_alone() -> None:
    opened().run("""
        S   1+10 ack 50 win 2000 =>
        P b 1+10 ack 50 win 9000 => b
    """)
