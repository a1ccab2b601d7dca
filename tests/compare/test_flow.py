"""Ports used again: to which of the connections that had them a packet belongs."""

from __future__ import annotations

from random import Random

import pytest

from tests.compare.playbook import Playbook, play

# What the ports were used for before; refusals have the number 0, wherever the numbers begin.
OPENED = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
    P b 1+10 ack 1 =>
    S   1+10 ack 1 => b
"""
MIDSTREAM = """
    P a 1+10 ack 1 =>
    S   1+10 ack 1 => a
"""
RESET = """
    P a R 9 =>
    S   R 9 => a
"""
REFUSED = """
    P a RA 0 ack 501 =>
    S   RA 0 ack 501 => a
"""
RENEWED = [before + "checkpoint synchronised =>\n" for before in (OPENED, MIDSTREAM, REFUSED)]
USED = pytest.mark.parametrize("before", [OPENED, MIDSTREAM, RESET, REFUSED, *RENEWED])

# The client's next SYN.
PRIMARY_ACCEPTS, SECONDARY_ACCEPTS = "P x SA 90000 ack 777", "S SA 90000 ack 777"
PRIMARY_REFUSES, SECONDARY_REFUSES = "P x RA 0 ack 777", "S RA 0 ack 777"
NEXT = """
    P y SA 200000 ack 5000  =>
    S   SA 200000 ack 5000  => y
    P z 200001+5 ack 5000   =>
    S   200001+5 ack 5000   => z
"""


def run(trace: str) -> Playbook:
    """Play a trace wherever the numbers begin, so that `RA 0` is a refusal."""
    for isn in (0xFFFFFFFC, 0x7FFFFFFA, 1_000):
        refused = trace.replace("RA 0", f"RA {-isn & 0xFFFFFFFF}")
        for client_isn in (3_000_000, 0xFFFFFFFA, 0xFFFFFFFF - 800):
            book = Playbook(isn=isn, client_isn=client_isn).run(refused)
    return book


@USED
@pytest.mark.parametrize("first", ["primary", "secondary"])
@pytest.mark.parametrize("checkpoint", ["checkpoint", "checkpoint synchronised"])
def test_a_refusal_by_the_secondary_of_what_the_primary_accepts(before: str, first: str, checkpoint: str) -> None:
    steps = [PRIMARY_ACCEPTS, SECONDARY_REFUSES][:: 1 if first == "primary" else -1]
    book = run(f"{before} {steps[0]} =>\n {steps[1]} => !control\n {checkpoint} => x\n {NEXT}")
    assert "the secondary refused" in book.seen[0].detail


@USED
@pytest.mark.parametrize("first", ["primary", "secondary"])
@pytest.mark.parametrize("checkpoint", ["checkpoint", "checkpoint synchronised"])
def test_a_refusal_by_the_primary_of_what_the_secondary_accepts(before: str, first: str, checkpoint: str) -> None:
    steps = [PRIMARY_REFUSES, SECONDARY_ACCEPTS][:: 1 if first == "primary" else -1]
    book = run(f"{before} {steps[0]} =>\n {steps[1]} => !control\n {checkpoint} => x\n {NEXT}")
    assert "the primary refused" in book.seen[0].detail


@USED
def test_used_ports_are_refused_by_both(before: str) -> None:
    run(f"{before} {PRIMARY_REFUSES} =>\n {SECONDARY_REFUSES} => x\n {NEXT}")
    run(f"{before} {SECONDARY_REFUSES} =>\n {PRIMARY_REFUSES} => x\n {NEXT}")


@USED
def test_used_ports_are_accepted_by_both(before: str) -> None:
    run(f"{before} {PRIMARY_ACCEPTS} =>\n {SECONDARY_ACCEPTS} => x\n {NEXT}")
    run(f"{before} {SECONDARY_ACCEPTS} =>\n {PRIMARY_ACCEPTS} => x\n {NEXT}")


def test_a_refusal_belongs_to_the_connection_that_a_retried_syn_opened() -> None:
    """The client hears nothing of the primary's refusal, which is held, and sends the same SYN again."""
    run(f"""{OPENED}
        P c RA 0 ack 777     =>
        P d SA 90000 ack 777 =>
        S   RA 0 ack 777     => c
        S   RA 0 ack 777     => !control
        checkpoint           => d
    """)
    run(f"""{OPENED}
        P c RA 0 ack 777     =>
        P d SA 90000 ack 777 =>
        S   RA 0 ack 777     => c
        S   SA 90000 ack 777 => d
    """)


def test_after_a_refusal_by_the_secondary_the_next_syn_of_both_opens_anew() -> None:
    for second in (5000, 900_000_000):
        run(f"""
            P a SA 0 ack 1            =>
            S   RA 0 ack 1            => !control
            checkpoint                => a
            P b SA 90000 ack {second} =>
            S   SA 90000 ack {second} => b
        """)
    run("""
        P a SA 0 ack 1             =>
        S   RA 0 ack 1             => !control
        checkpoint                 => a
        S   SA 90000 ack 900000000 =>
        P b SA 90000 ack 900000000 => b
    """)


# What the primary has left and the secondary has not reached.


def test_what_the_secondary_sends_first_is_compared_where_the_primary_was_then() -> None:
    play("""
        P a 1+10 ack 5      =>
        P b SA 90000 ack 77 =>
        S   1+10 ack 5      => a
        S   SA 90000 ack 77 => b
        P c 90001+5 ack 77  =>
        S   90001+5 ack 77  => c
    """)
    play("""
        P a 1+10 ack 5      =>
        P b SA 90000 ack 77 =>
        S   1+10!3 ack 5    => !content
    """)


def test_what_the_secondary_acknowledges_first_counts_where_the_primary_was_then() -> None:
    play("""
        P a A 1 ack 50      =>
        P b SA 90000 ack 77 =>
        S   A 1 ack 50      => a
        S   SA 90000 ack 77 => b
    """)


def test_what_the_secondary_resets_or_refuses_first_is_what_the_primary_did() -> None:
    play("""
        P a R 1             =>
        P b SA 90000 ack 77 =>
        S   R 1             => a
        S   SA 90000 ack 77 => b
    """)
    run("""
        P a RA 0 ack 501     =>
        P b RA 0 ack 601     =>
        P c SA 90000 ack 777 =>
        S   RA 0 ack 501     => a
        S   RA 0 ack 601     => b
        S   SA 90000 ack 777 => c
    """)
    run("""
        P a RA 0 ack 501     =>
        P b SA 90000 ack 777 =>
        S   RA 0 ack 501     => a
        S   RA 0 ack 777     => !control
    """)


def test_a_secondary_that_refuses_at_once_what_the_primary_accepted_later() -> None:
    run("""
        P a 1+10 ack 5       =>
        P b SA 90000 ack 777 =>
        S   RA 0 ack 777     => !control
        checkpoint           => a b
    """)


@pytest.mark.parametrize("before", ["", OPENED])
def test_a_secondary_that_is_several_connections_behind_answers_them_in_turn(before: str) -> None:
    run(f"""{before}
        P c SA 90000 ack 777       =>
        P d SA 200000 ack 900000   =>
        P e 200001+5 ack 900000    =>
        P f SA 300000 ack 90000000 =>
        S   SA 90000 ack 777       => c
        S   SA 200000 ack 900000   => d
        S   200001+5 ack 900000    => e
        S   RA 0 ack 90000000      => !control
        checkpoint                 => f
    """)


def test_a_secondary_that_skips_a_connection_leaves_what_waits_there() -> None:
    play("""
        P a 1+10 ack 5             =>
        P b SA 90000 ack 777       =>
        P c SA 200000 ack 900000   =>
        S   SA 200000 ack 900000   => c
        S   SA 90000 ack 777       =>
        tick 9                     => !timeout
        checkpoint                 => a b
    """)


def test_a_secondary_with_a_connection_of_its_own_in_between_comes_to_the_next_one() -> None:
    play(
        OPENED
        + """
        P c SA 90000 ack 70000000   =>
        P d SA 200000 ack 90000000  =>
        S   SA 5 ack 600000000      =>
        S   SA 90000 ack 70000000   => c
        S   SA 200000 ack 90000000  => d
    """
    )


def test_after_a_checkpoint_that_copies_no_state_a_late_secondary_is_known_by_what_it_acknowledges() -> None:
    for late in ("S 1+5 ack 9", "S R 1", ""):
        play(f"""
            P a 1+5 ack 9                 =>
            P b SA 90000 ack 700000000    =>
            checkpoint                    => a b
            {f"{late} =>" if late else ""}
            {"S SA 90000 ack 700000000 =>" if late else ""}
            S   90001+5 ack 700000000     =>
            P c 90001+5 ack 700000000     => c
        """)


def test_after_a_synchronising_checkpoint_the_secondary_is_where_the_primary_is() -> None:
    play("""
        P a 1+5 ack 9              =>
        P b SA 90000 ack 700000000 =>
        checkpoint synchronised    => a b
        S   90001+5 ack 700000000  =>
        P c 90001+5 ack 700000000  => c
    """)


def test_only_so_many_connections_are_within_the_secondarys_reach() -> None:
    book = Playbook()
    for number in range(1, 19):
        book.run(f"P {number} SA {number}00000 ack {number}000000 =>")
    book.run("""
        S SA 100000 ack 1000000   =>
        S SA 200000 ack 2000000   => 2
        S SA 900000 ack 9000000   => 9
        S SA 1800000 ack 18000000 => 18
    """)


# Refusals, openings and what follows, one after the other on the same ports, the same of both replicas.
ONE_AFTER_THE_OTHER = [
    ["A 1 ack 5", "1+10 ack 5"],
    ["RA 0 ack 501"],
    ["RA 0 ack 601", "RA 0 ack 601"],
    ["SA 90000 ack 777", "90001+10 ack 777", "F 90011 ack 778", "A 90012 ack 779"],
    ["RA 0 ack 900"],
    ["SA 300 ack 5000", "SA 300 ack 5000", "301+10 ack 5000", "R 311"],
    ["SA 4000000000 ack 800000000", "A 4000000001 ack 800000000", "4000000001+4 ack 800000000"],
    ["RA 0 ack 700000000"],
]


@pytest.mark.parametrize("seed", range(40))
def test_of_equal_replicas_all_leaves_however_far_the_secondary_is_behind(seed: int) -> None:
    random = Random(seed)
    turns = ONE_AFTER_THE_OTHER[random.randrange(len(ONE_AFTER_THE_OTHER)) :]
    primary = [(at, f"P {at}.{number} {line}") for at, turn in enumerate(turns) for number, line in enumerate(turn)]
    secondary = [(at, f"S {line}") for at, turn in enumerate(turns) for line in turn]
    expected, trace, share = len(primary), [], random.choice((0.2, 0.5, 0.9))
    while primary or secondary:
        # The client goes on to the next connection with what the primary has sent, so that is never behind.
        may_secondary = bool(secondary) and (not primary or secondary[0][0] <= primary[0][0])
        is_primary = bool(primary) and not (may_secondary and random.random() > share)
        trace.append((primary if is_primary else secondary).pop(0)[1])
    for isn in (0xFFFFFFFC, 0x7FFFFFFA, 1_000):
        book = Playbook(isn=isn)
        for line in trace:
            book.feed(line.replace("RA 0", f"RA {-isn & 0xFFFFFFFF}"))
        assert (len(book.comparator.released), book.comparator.divergences) == (expected, []), trace
