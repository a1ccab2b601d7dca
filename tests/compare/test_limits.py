"""Every limit has an effect and a counter; what waits is never forgotten."""

from __future__ import annotations

from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook, play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def test_held_packets() -> None:
    """A packet too many is dropped; the guest sends it again."""
    book = play(
        OPENING
        + """
        P b 1+10 ack 1    =>
        P c A 11 ack 9    =>
        P d 11+10 ack 1   => -d
        P e A 11 ack 9    => -e
        P f udp one       => -f
        P g R 11          => -g
        P h SA 0 @6000    => -h
        P i cut one       => -i
        S   1+20 ack 1    => b
        S   A 21 ack 9    => c
        P d 11+10 ack 1   => d
        S   R 21          =>
        P g R 21          => g
    """,
        settings=Settings(held_packets=2),
    )
    assert book["held_limit_drops"] == book["dropped_packets"] == 6
    assert book["held_packets_most"] == 2


def test_held_bytes() -> None:
    book = Playbook(settings=Settings(held_bytes=120)).run(
        OPENING
        + """
        P b 1+20 ack 1   =>
        P c 21+21 ack 1  => -c
        P d 21+20 ack 1  =>
        P e A 41 ack 50  => -e
    """
    )
    assert book["held_bytes_now"] == book["held_bytes_most"] == 120
    assert book["held_limit_drops"] == 2


def test_bytes_never_compared_are_held_within_the_limit() -> None:
    play(
        """
        P a 500+10 ack 1 =>
        S   500+10 ack 1 => a
        P b 490+5 ack 1  =>
        P c 480+5 ack 1  =>
        P d 470+5 ack 1  => -d
        checkpoint       => c b
    """,
        settings=Settings(held_packets=2),
    )


def test_a_verified_segment_is_dropped_where_the_floor_cannot_hold_it() -> None:
    play(
        OPENING
        + """
        S   1+10 ack 1  =>
        P b A 1 ack 50  =>
        P c 1+10 ack 50 => -c
        P d 1+10 ack 50 => -d
        S   A 11 ack 50 => b
        P e 1+10 ack 50 => e
    """,
        settings=Settings(held_packets=1),
    )


def test_secondary_packets() -> None:
    """What is too much is forgotten; the secondary sends it again, or a checkpoint follows."""
    book = play(
        OPENING
        + """
        S   1+10 ack 1    =>
        S   11+10 ack 1   =>
        S   21+10 ack 1   =>
        S   udp one       =>
        P b 1+10 ack 1    => b
        P c 11+10 ack 1   => c
        P d 21+10 ack 1   =>
        S   21+10 ack 1   => d
    """,
        settings=Settings(secondary_packets=2),
    )
    assert book["secondary_limit_drops"] == 2
    assert book["secondary_packets_now"] == 0


def test_secondary_bytes() -> None:
    book = Playbook(settings=Settings(secondary_bytes=120)).run(
        OPENING
        + """
        S   1+20 ack 1  =>
        S   21+20 ack 1 =>
        S   41+20 ack 1 =>
        P b 1+20 ack 1  => b
        S   41+20 ack 1 =>
        P c 21+40 ack 1 => c
    """
    )
    assert book["secondary_limit_drops"] == 1
    assert book["secondary_bytes_now"] == 0


def full_table() -> Playbook:
    """Sixteen connections, each with a packet that waits."""
    book = Playbook(settings=Settings(connections=16))
    for port in range(16):
        book.run(f"P a SA 0 ack 1 @{port} =>")
    return book


def test_connections_that_hold_packets_are_never_forgotten() -> None:
    book = full_table().run(
        """
        P x SA 0 ack 1 @99 => -x
        S   SA 0 ack 1 @99 =>
        P y udp one        => -y
        S   udp one        =>
        P z cut one        => !cut-short
    """.replace("P z cut one        => !cut-short", "P z cut one        => -z")
    )
    assert book["connection_limit_drops"] == 5
    assert book["connections_now"] == 16
    for port in range(16):
        book.run(f"S SA 0 ack 1 @{port} => a")


def test_a_half_open_connection_goes_before_an_open_one() -> None:
    book = full_table()
    for port in range(16):
        book.run(f"S SA 0 ack 1 @{port} => a")
    for port in set(range(16)) - {5}:
        book.run(f"""
            P b 1+1 ack 1 @{port} =>
            S   1+1 ack 1 @{port} => b
        """)
    book.run("P x SA 0 ack 1 @99 =>")
    assert book["connections_evicted"] == 1
    for port in set(range(16)) - {5}:
        book.run(f"P c 1+1 ack 1 @{port} => c")


def test_a_closed_connection_goes_before_an_open_one() -> None:
    book = full_table()
    for port in range(16):
        book.run(f"""
            S   SA 0 ack 1 @{port}              => a
            P b {"F" * (port == 7)} 1+1 ack 1 @{port} =>
            S   {"F" * (port == 7)} 1+1 ack 1 @{port} => b
        """)
    book.run("P x SA 0 ack 1 @99 =>")
    for port in set(range(16)) - {7}:
        book.run(f"P c 1+1 ack 1 @{port} => c")


def test_among_equals_the_longest_idle_goes_first() -> None:
    book = full_table()
    for port in (3, *sorted(set(range(16)) - {3})):
        book.run(f"S SA 0 ack 1 @{port} => a")
    book.run("""
        P x SA 0 ack 1 @99 =>
        P c SA 0 ack 1 @3  =>
    """)
    assert book["connections_evicted"] == 2


def half_open(settings: Settings, side: str) -> Playbook:
    """Two connections, in each of which one side's SYN waits for the other's."""
    book = Playbook(settings=settings)
    token = "a" if side == "P" else ""
    return book.run(f"""
        {side} {token} SA 0 ack 1 @1 =>
        {side} {token} SA 0 ack 1 @2 =>
    """)


def test_syns_get_half_of_the_room() -> None:
    book = half_open(Settings(held_packets=4), "P").run("""
        P x SA 0 ack 1 @3 => -x
        P y 1+10 ack 1 @4 =>
        S   SA 0 ack 1 @1 => a
        P z SA 0 ack 1 @3 =>
    """)
    assert (book["held_limit_drops"], book["half_open_drops"]) == (1, 0)
    book = half_open(Settings(secondary_packets=4), "S").run("""
        S   SA 0 ack 1 @3 =>
        S   1+10 ack 1 @4 =>
        P a SA 0 ack 1 @1 => a
        P y 1+10 ack 1 @4 => y
        P c SA 0 ack 1 @3 =>
    """)
    assert (book["secondary_limit_drops"], book["half_open_drops"]) == (1, 0)


def test_a_syn_of_the_secondary_finds_no_room_behind_other_packets() -> None:
    book = Playbook(settings=Settings(secondary_packets=2)).run("""
        S   udp one       =>
        S   udp two       =>
        S   SA 0 ack 1 @3 =>
        P a SA 0 ack 1 @3 =>
        S   SA 0 ack 1 @3 => a
    """)
    assert book["secondary_limit_drops"] == 1


def test_a_segment_that_found_no_room_is_not_missed_when_it_comes_again_in_pieces() -> None:
    play(
        OPENING
        + """
        P x udp other     =>
        P b 1+20 ack 1    => -b
        S   1+10 ack 1    =>
        P c 1+10 ack 1    => c
        S   11+10 ack 1   =>
        P d 11+10 ack 1   => d
    """,
        settings=Settings(held_packets=1),
    )


def test_a_syn_that_waits_for_a_second_makes_room_for_a_newer_one() -> None:
    book = half_open(Settings(held_packets=4), "P").run("""
        tick 1.1          =>
        P x SA 0 ack 1 @3 => -a
        S   SA 0 ack 1 @2 => a
        S   SA 0 ack 1 @1 =>
        P a SA 0 ack 1 @1 => a
    """)
    assert (book["held_limit_drops"], book["half_open_drops"]) == (0, 1)
    book = half_open(Settings(secondary_packets=4), "S").run("""
        tick 1.1          =>
        S   SA 0 ack 1 @3 =>
        P x SA 0 ack 1 @3 => x
        P a SA 0 ack 1 @1 =>
        S   SA 0 ack 1 @1 => a
    """)
    assert (book["secondary_limit_drops"], book["half_open_drops"]) == (0, 1)


def test_a_syn_that_waits_where_both_sides_have_left_makes_no_room_in_the_table() -> None:
    """Its flow was forgotten meanwhile, so the next half-open connection goes."""
    book = Playbook(settings=Settings(connections=1)).run("""
        P a SA 0 ack 1 @6000         =>
        P b SA 5000 ack 900000 @6000 =>
        S   SA 5000 ack 900000 @6000 => b
        P c SA 0 ack 1 @6001         =>
        tick 2                       =>
        P d SA 0 ack 1 @6002         => -a -c
        S   SA 0 ack 1 @6002         => d
    """)
    assert (book["connections_now"], book["connections_evicted"], book["half_open_drops"]) == (1, 2, 2)


def test_a_half_open_connection_whose_syn_waits_goes_before_an_open_one() -> None:
    book = Playbook(settings=Settings(connections=2)).run("""
        P a SA 0 ack 1 @1 =>
        S   SA 0 ack 1 @1 => a
        P b 1+5 ack 1 @1  =>
        S   1+5 ack 1 @1  => b
        P c SA 0 ack 1 @2 =>
        tick 1.1          =>
        P d SA 0 ack 1 @3 => -c
        S   SA 0 ack 1 @3 => d
        P e 1+5 ack 1 @1  => e
    """)
    assert (book["connections_now"], book["connections_evicted"], book["half_open_drops"]) == (2, 1, 1)


def test_a_connection_in_which_more_than_a_syn_waits_does_not_go() -> None:
    """Its half-open successor on the same ports does; the new flow finds no room."""
    Playbook(settings=Settings(connections=1)).run("""
        P a SA 0 ack 1      =>
        S   SA 0 ack 1      => a
        P b 1+5 ack 1       =>
        P c SA 9000 ack 70  =>
        tick 1.1            =>
        P d SA 0 ack 1 @3   => -c -d
        S   1+5 ack 1       => b
    """)


def test_a_flood_of_syns_keeps_the_table_bounded() -> None:
    book = Playbook(settings=Settings(connections=64)).run("P a 1+10 ack 1 =>")
    for port in range(10_000, 10_500):
        book.run(f"""
            P s SA 0 ack 1 @{port} =>
            S   SA 0 ack 1 @{port} => s
        """)
    assert book["connections_now"] == 64
    assert book["connections_evicted"] == 437
    book.run("S 1+10 ack 1 => a")


def test_ageing() -> None:
    settings = Settings(established_idle=1000.0, closing_idle=10.0)
    book = Playbook(settings=settings).run("""
        P a SA 0 ack 1 @1  =>
        S   SA 0 ack 1 @1  => a
        P b 1+1 ack 1 @1   =>
        S   1+1 ack 1 @1   => b
        P c SA 0 ack 1 @2  =>
        S   SA 0 ack 1 @2  => c
        P d udp one        =>
        S   udp one        => d
        P e F 1+1 ack 1 @3 =>
        S   F 1+1 ack 1 @3 => e
        age 9              =>
    """)
    assert book["connections_now"] == 4
    book.run("age 20 =>")
    assert (book["connections_now"], book["connections_expired"]) == (2, 2)
    book.run("""
        P b 1+1 ack 1 @1 => b
        age 1015         =>
        P b 1+1 ack 1 @1 => b
        age 2014         =>
        P b 1+1 ack 1 @1 => b
        age 3020         =>
        P b 1+1 ack 1 @1 =>
    """)
    assert book["connections_expired"] == 4


def test_what_waits_does_not_age() -> None:
    book = Playbook(settings=Settings(closing_idle=10.0, timeout=1.0)).run("""
        P a SA 0 ack 1 @1 =>
        P b R 9 @2        =>
        P c A 9 ack 1 @3  =>
        P d udp one       =>
        S   1+5 @4        =>
        age 500           =>
        tick 500          => !timeout
        S   SA 0 ack 1 @1 => a
        S   R 9 @2        => b
        S   A 9 ack 1 @3  => c
        S   udp one       => d
        P e 1+5 @4        => e
    """)
    assert book["connections_expired"] == 0


def test_ageing_looks_at_a_part_of_a_large_table_at_a_time() -> None:
    book = Playbook(settings=Settings(closing_idle=10.0))
    for port in range(1, 301):
        book.run(f"""
            P a udp one @{port} =>
            S   udp one @{port} => a
        """)
    left = []
    for _ in range(6):
        book.run("age 20 =>")
        left.append(book["connections_now"])
    assert left == [236, 172, 108, 44, 0, 0]
