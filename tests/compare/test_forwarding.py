"""Packets of our own: verified parts of what may not leave yet, and what the client was told less of."""

from __future__ import annotations

from colo_bridge.compare.decisions import Forward
from colo_bridge.compare.settings import Settings
from colo_bridge.wire.build import sack_blocks, timestamps
from tests.compare.playbook import Playbook, play
from tests.packets import CLIENT_MAC, GUEST_MAC, ethernet, ones_sum, read_tcp

FORWARD = Settings(cure_after=0.010, forward=True)
OPENING = """
    P a SA 0 ack 1 win 0 =>
    S   SA 0 ack 1 win 0 => a
    S   A 1 ack 1 win 0  =>
"""


def opened(trace: str, *, scale: int | None = 0, ipv6: bool = False, vlans: tuple[int, ...] = ()) -> Playbook:
    return Playbook(settings=FORWARD, scale=scale, ipv6=ipv6, vlans=vlans).run(OPENING + trace)


def ack_of(book: Playbook, forward: Forward) -> int:
    return book.read(forward).acknowledgment - book.client_isn


def stamps_of(forward: Forward) -> tuple[int, int] | None:
    return timestamps(forward.packet[: forward.payload], forward.tcp)


# Straddling segments.

STRADDLE = """
    P b 1+10 ack 1  =>
    S   1+4  ack 1  =>
    cure 0.005      =>
    cure 0.100      => ^1+4
    cure 0.110      =>
    S   5+3  ack 1  =>
    cure 0.120      => ^5+3
    S   8+3  ack 1  => ^8+3 =b
    cure 0.130      =>
"""


def test_the_verified_part_of_a_segment_is_forwarded_and_the_rest_later() -> None:
    play(OPENING + STRADDLE, settings=FORWARD)


def test_without_a_way_out_nothing_is_forwarded() -> None:
    for settings in (Settings(cure_after=0.01), Settings()):
        play(OPENING + "P b 1+10 ack 1 =>\n S 1+4 ack 1 =>\n cure 1 =>\n S 5+6 ack 1 => b", settings=settings)


def test_without_an_ethernet_header_nothing_is_forwarded() -> None:
    """A secondary whose packets came in fragments, say: the header is unknown."""
    opened("""
        P b 1+10 ack 1     =>
        S [0:8]  1+4 ack 1 =>
        S [8:]   1+4 ack 1 =>
        cure 0.100         => ^1+4
    """)
    book = Playbook(settings=FORWARD).run("""
        P a SA 0 ack 1            =>
        S [0:8] SA 0 ack 1        =>
        S [8:]  SA 0 ack 1        => a
        P b 1+10 ack 1            =>
    """)
    flow = next(iter(book.comparator._flows.values()))
    assert flow.primary.ethernet == b""
    book.run("cure 0.100 =>")


def test_nothing_unverified_is_forwarded() -> None:
    opened("""
        P b 1+10 ack 1        =>
        S   1+4!4 ack 1       => !content
        cure 0.100            =>
        checkpoint            => b
    """)


def test_what_a_checkpoint_releases_leaves_as_it_is() -> None:
    opened("""
        P b 1+10 ack 1  =>
        S   1+4  ack 1  =>
        cure 0.100      => ^1+4
        checkpoint      => b
        P c 11+5 ack 1  =>
        S   11+5 ack 1  => c
    """)


def test_every_straddling_retransmission_is_forwarded_too() -> None:
    """The first copy may be lost."""
    opened("""
        P b 1+10 ack 1  =>
        S   1+4  ack 1  =>
        cure 0.100      => ^1+4
        P c 1+10 ack 1  =>
        P d 3+10 ack 1  =>
        cure 0.105      =>
        cure 0.200      => ^1+4 ^3+2
        S   5+8  ack 1  => ^5+6 ^5+6 ^5+8 =b =c =d
    """)


def test_all_fragments_of_a_segment_are_replaced_together() -> None:
    opened("""
        P b [0:16] 1+10 ack 1 =>
        P c [16:]  1+10 ack 1 =>
        S   1+4  ack 1        =>
        cure 0.100            => ^1+4
        S   5+6  ack 1        => ^5+6 =b =c
    """)


def test_a_fin_is_forwarded_with_the_rest() -> None:
    opened("""
        P b F 1+10 ack 1 =>
        S   1+4 ack 1    =>
        cure 0.100       => ^1+4
        S   F 5+6 ack 1  => ^F5+6 =b
    """)


def test_what_no_one_may_rebuild_is_not_forwarded() -> None:
    """Urgent data, and what stands behind IP options or extension headers."""
    for kind in ("U", "routed"):
        opened(f"P b {kind} 1+10 ack 1 =>\n S {kind} 1+4 ack 1 =>\n cure 0.1 =>\n S {kind} 5+6 ack 1 => b")


def test_a_forwarded_packet_is_a_right_one() -> None:
    """Lengths, the IPv4 header's checksum, the pseudo-header's sum, and the secondary's way to the client."""
    for ipv6, vlans in ((False, ()), (True, ()), (True, (7,))):
        book = opened("P b PA 1+10 ack 1 =>\n S 1+4 ack 1 =>\n cure 0.1 => ^1+4", ipv6=ipv6, vlans=vlans)
        forward = book.forwarded[0]
        packet, tcp = forward.packet, forward.tcp
        assert forward.ethernet[:12] == CLIENT_MAC + GUEST_MAC
        assert len(forward.ethernet) == 14 + 4 * len(vlans)
        addresses = packet[8:40] if ipv6 else packet[12:20]
        pseudo = addresses + (len(packet) - tcp).to_bytes(2, "big") + bytes((0, 6))
        assert int.from_bytes(packet[tcp + 16 : tcp + 18], "big") == ones_sum(pseudo)
        assert ipv6 or ones_sum(packet[:tcp]) == 0xFFFF
        assert forward.segment_size == 0
        assert not book.read(forward).flags & 8, "PSH belongs to the last octet"


def test_a_large_part_says_how_it_may_be_cut() -> None:
    book = opened(
        "P b 1+60000 ack 1 =>\n S 1+50000 ack 1 =>\n cure 0.1 => ^1+50000\n S 50001+10000 ack 1 => ^50001+10000 =b"
    )
    assert [forward.segment_size for forward in book.forwarded] == [1_200, 1_200]


# Output commit.


def test_a_forwarded_part_acknowledges_no_more_than_the_floor() -> None:
    book = opened("""
        S   A 1 ack 40   =>
        P b 1+10 ack 90  =>
        S   1+4  ack 50  =>
        cure 0.100       => ^1+4
        S   5+6  ack 60  => ^5+6 =b
        cure 0.110       =>
        S   A 11 ack 70  =>
        cure 0.120       => ^11+0
        S   A 11 ack 95  =>
        cure 0.130       => ^11+0
        cure 0.140       =>
    """)
    assert [ack_of(book, forward) for forward in book.forwarded] == [50, 60, 70, 90]


def test_without_a_floor_nothing_is_forwarded() -> None:
    Playbook(settings=FORWARD).run("""
        P a 1+10 ack 50  =>
        S   1+4          =>
        cure 0.100       =>
    """)


def test_octets_that_the_floor_alone_holds_are_forwarded_lowered() -> None:
    """The application behind them may have to read them before it takes what it lacks."""
    book = opened("""
        S   A 1 ack 40    =>
        S   1+10 ack 40   =>
        P b 1+10 ack 90   =>
        cure 0.100        => ^1+10 =b
        S   A 11 ack 90   =>
        cure 0.110        => ^11+0
    """)
    assert [ack_of(book, forward) for forward in book.forwarded] == [40, 90]


def test_the_newest_ack_is_told_lowered_and_leaves_in_the_end() -> None:
    book = opened("""
        S   A 1 ack 40    =>
        P b A 1 ack 90    =>
        cure 0.100        => ^1+0
        cure 0.110        =>
        S   A 1 ack 60    =>
        cure 0.120        => ^1+0
        S   A 1 ack 90    => b
    """)
    assert [ack_of(book, forward) for forward in book.forwarded] == [40, 60]


def test_an_urgent_ack_is_not_told_lowered() -> None:
    opened("""
        S   A 1 ack 40     =>
        P b UA 1 ack 90    =>
        cure 0.100         =>
        S   A 1 ack 90     => b
    """)


def test_an_ack_is_told_lowered_where_no_octet_was_compared_yet() -> None:
    """A client that uploads on a connection from before: the guest has sent nothing but ACKs."""
    book = Playbook(settings=FORWARD).run("""
        P a A 500 ack 40        =>
        checkpoint synchronised => a
        S   A 500 ack 40        =>
        P b A 500 ack 90        =>
        cure 0.100              => ^500+0
        S   A 500 ack 90        => b
    """)
    assert ack_of(book, book.forwarded[0]) == 40


def sack_of(book: Playbook, forward: Forward) -> list[tuple[int, int]]:
    return [
        (first - book.client_isn, behind - book.client_isn)
        for first, behind in sack_blocks(forward.packet[: forward.payload], forward.tcp)
    ]


def test_a_lowered_ack_says_what_the_secondary_has_above_it() -> None:
    """Else a client that relies on SACK would send one segment per time-out, and take the primary's for duplicates."""
    for blocks, told in (
        ("block 60 70", [(60, 70)]),
        ("block 60 70 block 80 85", [(60, 70), (80, 85)]),
        ("block 20 30 block 60 70", [(60, 70)]),
        ("block 62 65 block 60 70", [(60, 70)]),
        ("block 20 30", []),
    ):
        book = opened(f"""
            S   A 1 ack 40 time 9 {blocks}      =>
            P b A 1 ack 90 time 5 block 20 30   =>
            cure 0.100                          => ^1+0
        """)
        assert sack_of(book, book.forwarded[0]) == told


def test_blocks_are_told_as_soon_as_they_are_news() -> None:
    """A time-out before that would seem spurious to the client: it would take back what it has begun to repair."""
    book = opened("""
        S   A 1 ack 40 time 9              =>
        P b A 1 ack 90 time 5              =>
        cure 0.100                         => ^1+0
        cure 0.110                         =>
        S   A 1 ack 40 time 9 block 60 70  =>
        cure 0.120                         => ^1+0
        cure 0.130                         =>
        S   A 1 ack 40 time 9 block 60 80  =>
        cure 0.140                         => ^1+0
    """)
    assert [sack_of(book, forward) for forward in book.forwarded] == [[], [(60, 70)], [(60, 80)]]


def test_blocks_without_timestamps_are_told() -> None:
    book = opened("S A 1 ack 40 block 60 70 =>\n P b A 1 ack 90 =>\n cure 0.100 => ^1+0")
    assert sack_of(book, book.forwarded[0]) == [(60, 70)]


def test_blocks_of_an_older_ack_are_not_told() -> None:
    book = opened("""
        S   A 1 ack 40 time 9 block 60 70  =>
        S   1+5 ack 80 time 9              =>
        P b A 1 ack 90 time 5              =>
        cure 0.100                         => ^1+0
    """)
    assert sack_of(book, book.forwarded[0]) == []


def test_blocks_are_told_by_what_is_owed() -> None:
    book = opened("""
        S   A 1 ack 40 time 9              =>
        S   1+10 ack 40 time 9             =>
        P b 1+10 ack 90 time 5             =>
        cure 0.100                         => ^1+10 =b
        S   A 11 ack 40 time 9 block 60 70 =>
        cure 0.110                         => ^11+0
        cure 0.120                         =>
    """)
    assert [sack_of(book, forward) for forward in book.forwarded] == [[], [(60, 70)]]


def test_an_older_ack_leaves_with_the_secondarys_blocks() -> None:
    book = opened("""
        S   A 1 ack 40 time 9 block 60 70  =>
        P b A 1 ack 80 time 5 block 20 30  =>
        P c A 1 ack 90 time 5              =>
        cure 0.100                         => ~b ^1+0
        S   A 1 ack 50 time 9              =>
        P d A 1 ack 91 time 5 block 20 30  =>
        cure 0.200                         => ~c ^1+0
    """)
    segments = [read_tcp(ethernet(book.revised[token])) for token in "bc"]
    first = book.client_isn
    assert [segment.sack for segment in segments] == [[(first + 60, first + 70)], []]
    assert [segment.ack - first for segment in segments] == [40, 50]
    assert all(segment.checksum_right for segment in segments)


def test_a_lowered_ack_echoes_what_the_secondary_does() -> None:
    """The primary's older echo would make a repetition that only the secondary needed seem needless."""
    book = opened("""
        S   A 1 ack 40 stamps 9 70 block 80 90  =>
        P b A 1 ack 90 stamps 5 70              =>
        P c A 1 ack 90 stamps 5 70              =>
        S   A 1 ack 50 stamps 9 75 block 80 90  =>
        cure 0.100                              => ~b ^1+0
        S   A 1 ack 60 stamps 9 99 block 80 90  =>
        P d A 1 ack 91 stamps 6 120             =>
        cure 0.200                              => ~c ^1+0
    """)
    segments = [read_tcp(ethernet(book.revised[token])) for token in "bc"]
    assert [segment.timestamps for segment in segments] == [(5, 75), (5, 99)]
    assert [stamps_of(forward) for forward in book.forwarded] == [(5, 75), (6, 120)]


# Windows.


def test_a_narrowed_window_is_owed_until_the_secondary_has_room() -> None:
    book = opened(
        """
        S   A 1 ack 50 win 1000 =>
        P b A 1 ack 50 win 9000 =>
        cure 0.100              => ~b
        S   A 1 ack 50 win 1400 =>
        cure 0.110              =>
        S   A 1 ack 50 win 2000 =>
        cure 0.120              => ^1+0
        S   A 1 ack 50 win 9500 =>
        cure 0.130              => ^1+0
        S   A 1 ack 50 win 9999 =>
        cure 0.140              =>
    """
    )
    assert [book.read(forward).window for forward in book.forwarded] == [2000, 9000]


def test_a_debt_is_forgotten_when_a_newer_ack_has_come() -> None:
    opened("""
        S   A 1 ack 50 win 2000 =>
        P b A 1 ack 50 win 9000 => ~b
        S   A 1 ack 60 win 9000 =>
        P c A 1 ack 55 win 8000 => c
        cure 0.100              =>
        cure 9                  =>
    """)


def test_a_debt_of_long_ago_is_forgotten() -> None:
    book = opened("""
        S   A 1 ack 50 win 2000 =>
        P b A 1 ack 50 win 9000 => ~b
        cure 5                  =>
        S   A 1 ack 50 win 9000 =>
        cure 5.1                =>
    """)
    assert not book.comparator.needs_cure


def test_a_forwarded_part_offers_no_wider_window() -> None:
    book = opened("""
        S   A 1 ack 40 win 500   =>
        P b 1+10 ack 40 win 9000 =>
        S   1+4  ack 40 win 500  =>
        cure 0.100               => ^1+4
    """)
    assert book.read(book.forwarded[0]).window == 500


def test_a_syn_announces_no_wider_window_than_the_secondarys() -> None:
    book = Playbook(settings=FORWARD, scale=7).run("""
        P a SA 0 ack 1 win 30000 =>
        S   SA 0 ack 1 win 3000  => ~a
    """)
    assert int.from_bytes(book.revised["a"][34:36], "big") == 3000


# Timestamps.


def test_a_part_has_the_timestamps_of_its_segment() -> None:
    book = opened("P b 1+10 ack 1 time 500 =>\n S 1+4 ack 1 time 9 =>\n cure 0.1 => ^1+4")
    assert stamps_of(book.forwarded[0]) == (500, 0)


def test_timestamps_never_run_ahead_of_what_waits() -> None:
    """The client would refuse an older ACK that leaves later."""
    book = opened("""
        P b A 1 ack 80 time 400   =>
        P c 1+10 ack 80 time 500  =>
        S   1+4  ack 1 time 9     =>
        cure 0.100                => ^5+0 ^1+4
    """)
    assert [stamps_of(forward) for forward in book.forwarded] == [(400, 0), (400, 0)]


def test_timestamps_are_not_older_than_what_has_left() -> None:
    """The client would refuse the part (RFC 7323 §5.3)."""
    book = opened("""
        P b 1+10 ack 1 time 500   =>
        S   1+10 ack 1 time 9     => b
        P c 11+10 ack 1 time 510  =>
        P d 1+10 ack 1 time 900   => d
        S   11+4 ack 1 time 9     =>
        cure 0.100                => ^11+4
    """)
    assert stamps_of(book.forwarded[0]) == (900, 0)


# A lost ACK.


def test_what_the_secondary_repeats_makes_us_ask_the_client() -> None:
    book = opened("""
        P b 1+10 ack 1  =>
        S   1+10 ack 1  => b
        S   1+10 ack 1  =>
        cure 0.100      => ^10+0
        cure 0.110      =>
        S   A 10 ack 1  =>
        cure 0.120      => ^10+0
        S   A 11 ack 1  =>
        cure 0.130      =>
    """)
    assert book["asked_acknowledgments"] == 2


def test_a_repeated_syn_ack_makes_us_ask_the_client() -> None:
    opened("S SA 0 ack 1 =>\n cure 0.1 => ^0+0\n cure 0.2 =>")


def test_a_repeated_syn_of_a_guest_that_calls_does_not() -> None:
    """The client would answer with an ACK without a SYN, which the secondary refuses with a RST."""
    Playbook(settings=FORWARD).run("""
        P a S 0    =>
        S   S 0    => a
        S   S 0    =>
        cure 0.100 =>
    """)


AT_THE_END = """
    P b F 1+10 ack 1  =>
    S   F 1+10 ack 1  => b
    S   F 11 ack 1    =>
"""


def test_a_primary_that_refuses_the_answer_to_our_question_does_not_wait_for_the_secondary_to_do_so() -> None:
    """The secondary's FIN was acknowledged to the primary alone, which forgot the connection at once."""
    opened(
        AT_THE_END
        + """
        cure 0.100  => ^11+0
        P c R 12    =>
        cure 0.105  =>
        cure 0.120  => -c
        tick 9      =>
    """
    )


def test_other_resets_wait_for_the_secondarys() -> None:
    opened(AT_THE_END + "P c R 12 =>\n cure 0.005 => ^11+0\n S R 12 => c")
    opened(AT_THE_END + "cure 0.1 => ^11+0\n P c RA 12 ack 1 =>\n cure 0.2 =>\n tick 9 => !timeout")
    opened("""
        P b 1+10 ack 1  =>
        S   1+10 ack 1  => b
        S   1+10 ack 1  =>
        P c R 11        =>
        cure 0.100      => ^10+0
        cure 0.200      =>
        tick 9          => !timeout
    """)


def test_what_is_forwarded_is_counted() -> None:
    book = opened(STRADDLE)
    assert (book["forwarded_packets"], book["replaced_packets"]) == (3, 1)
    assert book["forwarded_bytes"] == 10 + 3 * 40
    assert book["held_packets_now"] == book["dropped_packets"] == 0
