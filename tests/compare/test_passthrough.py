"""Passthrough: what a rule lets through leaves at once and is counted, also when rules come and go."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from colo_bridge.compare.rule import Opener, Rule
from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook

SSH = Rule("ssh", protocol=6, guest_ports=(80, 80))
DNS = Rule("dns", protocol=17, guest_ports=(53, 53))
OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def book(*rules: Rule, settings: Settings | None = None) -> Playbook:
    made = Playbook(settings=settings or Settings())
    for rule in rules:
        made.comparator.passthrough.add(rule)
    return made


def counted(made: Playbook, name: str) -> tuple[int, int]:
    """Packets let through and thrown away."""
    counters = made.comparator.passthrough.counters()[name]
    return counters["packets"], counters["secondary_packets"]


def test_both_sides_may_differ_in_a_passthrough_connection() -> None:
    made = book(SSH).run("""
        P a SA 0 ack 1        => a
        S   SA 0 ack 1        =>
        P b 1+10 ack 90       => b
        S   1+10!4 ack 1      =>
        S   R 11              =>
        P c FA 11 ack 90      => c
        tick 100              =>
    """)
    assert counted(made, "ssh") == (3, 3)
    assert made.comparator.passthrough.counters()["ssh"]["bytes"] == 40 + 50 + 40
    assert made.comparator.passthrough.counters()["ssh"]["secondary_bytes"] == 40 + 50 + 40
    assert made["passthrough_packets"] == made["released_packets"] == 3
    assert made["passthrough_bytes"] == made["released_bytes"] == 130
    assert made["passthrough_thrown_away"] == made["thrown_away_packets"] == 3
    assert (made["secondary_packets_now"], made["divergences"]) == (0, 0)


def test_what_no_rule_names_is_compared() -> None:
    made = book(Rule("elsewhere", peer_address=ip_network("10.1.0.0/16")), DNS).run(
        OPENING
        + """
        P b 1+10 ack 1   =>
        P u udp one      => u
        S   udp two      =>
        P i icmp one     =>
        S   1+10!4 ack 1 => !content
    """
    )
    assert counted(made, "dns") == (1, 1)
    assert counted(made, "elsewhere") == (0, 0)


def test_the_first_rule_that_fits_counts() -> None:
    made = book(Rule("all", protocol=6), SSH).run("P a SA 0 ack 1 => a")
    assert (counted(made, "all"), counted(made, "ssh")) == ((1, 0), (0, 0))


@pytest.mark.parametrize(
    ("opener", "first"),
    [(Opener.GUEST, "P a S 0 => a"), (Opener.CLIENT, "P a SA 0 ack 1 => a")],
)
def test_who_opens_is_remembered(opener: Opener, first: str) -> None:
    made = book(Rule("opened", protocol=6, opened_by=opener))
    made.run(first + "\nP b A 1 ack 1 => b\nP c 1+10 ack 1 => c\nS 1+5!2 ack 1 =>")
    assert counted(made, "opened") == (3, 1)


@pytest.mark.parametrize(
    ("opener", "first"),
    [
        (Opener.GUEST, "P a SA 0 ack 1 =>"),
        (Opener.CLIENT, "P a S 0 =>"),
        (Opener.CLIENT, "P a 1+10 ack 1 =>"),
        (Opener.GUEST, "P a 1+10 ack 1 =>"),
    ],
)
def test_a_connection_opened_by_the_other_side_or_by_nobody_knows_whom_is_compared(opener: Opener, first: str) -> None:
    made = book(Rule("opened", protocol=6, opened_by=opener)).run(first)
    assert counted(made, "opened") == (0, 0)


def test_the_secondary_may_tell_first_who_opens() -> None:
    made = book(Rule("opened", protocol=6, opened_by=Opener.CLIENT)).run("S SA 0 ack 1 =>\nP a SA 0 ack 1 => a")
    assert counted(made, "opened") == (1, 1)


def test_a_connection_of_which_only_the_next_opening_is_seen_is_left_out_then() -> None:
    made = book(Rule("opened", protocol=6, opened_by=Opener.CLIENT)).run("""
        P a 501+10 ack 1  =>
        P b SA 9000 ack 7 => a b
        P c 9001+10 ack 7 => c
    """)
    assert counted(made, "opened") == (3, 0)
    assert made["held_packets_now"] == 0


def test_a_new_rule_releases_what_is_held_and_forgets_the_secondary() -> None:
    made = book().run(
        OPENING
        + """
        P b 1+10 ack 1     =>
        P c A 11 ack 50    =>
        S   1+10!2 ack 1   => !content
        S   11+10 ack 1    =>
        P x SA 0 ack 1 @77 =>
        S   udp one        =>
    """
    )
    made.comparator.passthrough.add(Rule("late", protocol=6, peer_ports=(5000, 5000)))
    made.run("P d 11+10 ack 50 => b c d\nS 11+10!14 ack 1 =>\nS SA 0 ack 1 @77 => x")
    assert counted(made, "late") == (3, 1)
    assert made["held_packets_now"] == 0
    assert made["secondary_packets_now"] == 1
    made.comparator.passthrough.add(DNS)
    assert made["secondary_packets_now"] == made["secondary_bytes_now"] == 0


def test_a_new_rule_releases_datagrams_that_are_held() -> None:
    made = book().run("P a udp one =>\nP b udp two =>")
    made.comparator.passthrough.add(DNS)
    made.run("P c udp three => a b c")
    assert counted(made, "dns") == (3, 0)


def test_a_new_rule_reaches_a_connection_that_both_sides_have_left() -> None:
    made = book().run(
        OPENING
        + """
        P b 1+10 ack 1    =>
        P c SA 9000 ack 7 =>
    """
    )
    made.comparator.passthrough.add(SSH)
    made.run("P d A 9001 ack 7 => b c d")
    assert made["held_packets_now"] == 0


@pytest.mark.parametrize(("passes", "wanted"), [(True, "P c 21+10 ack 1 => c"), (False, "P c 21+10 ack 1 =>")])
def test_without_its_rule_a_connection_is_unsynchronised(passes: bool, wanted: str) -> None:
    made = book(SSH, settings=Settings(pass_unsynchronised=passes)).run("P a SA 0 ack 1 => a\nP b 1+20 ack 1 => b")
    made.comparator.passthrough.remove("ssh")
    made.run(wanted)
    assert made["unsynchronised_packets"] == passes
    made.run("P d SA 0 ack 1 @6000 =>\nS SA 0 ack 1 @6000 => d")


def test_without_its_rule_a_datagram_flow_is_compared() -> None:
    made = book(DNS).run("P a udp one => a")
    made.comparator.passthrough.remove("dns")
    made.run("P b udp two =>\nS udp two => b")
    assert made.comparator.passthrough.counters() == {}


def test_another_rule_that_fits_takes_over_and_other_flows_keep_theirs() -> None:
    made = book(SSH, DNS, Rule("all", protocol=6)).run("P a SA 0 ack 1 => a\nP u udp one => u")
    made.comparator.passthrough.remove("ssh")
    made.run("P b 1+10 ack 1 => b\nP v udp two => v")
    assert (counted(made, "all"), counted(made, "dns")) == ((1, 0), (2, 0))


def test_a_flow_that_finds_no_room_passes_by_its_rule() -> None:
    made = book(SSH, settings=Settings(connections=1)).run("""
        P a SA 0 ack 1 @7 => a
        P u udp one       =>
        P b SA 0 ack 1    => b
        P c 1+10 ack 1    => c
        S   1+10 ack 1    =>
        P v icmp one      => -v
    """)
    assert counted(made, "ssh") == (3, 1)
    assert made["connection_limit_drops"] == 1


def test_a_passthrough_connection_is_kept_until_it_ends_and_is_forgotten_then() -> None:
    settings = Settings(established_idle=1_000.0, closing_idle=10.0)
    made = book(Rule("opened", protocol=6, opened_by=Opener.CLIENT), settings=settings).run("""
        P a SA 0 ack 1  => a
        age 500         =>
        P b 1+10 ack 1  => b
        P c FA 11 ack 1 => c
        age 505         =>
        P d A 12 ack 1  => d
        age 520         =>
    """)
    assert made["connections_expired"] == 1
    assert counted(made, "opened") == (4, 0)


def test_a_passthrough_connection_that_opens_again_is_kept_again() -> None:
    settings = Settings(established_idle=1_000.0, closing_idle=10.0)
    made = book(Rule("opened", protocol=6, opened_by=Opener.CLIENT), settings=settings)
    made.run("P a SA 0 ack 1 => a\nP b R 1 => b\nP c SA 5000 ack 1 => c\nage 500 =>\nP d A 5001 ack 1 => d")
    assert made["connections_expired"] == 0


def test_after_a_checkpoint_rules_go_on() -> None:
    made = book(SSH).run("P a SA 0 ack 1 => a\ncheckpoint synchronised =>\nP b 1+10 ack 1 => b\nS 1+10!3 ack 1 =>")
    assert counted(made, "ssh") == (2, 1)


def test_rules_that_are_exchanged_keep_their_flows_and_numbers() -> None:
    """Removed and added again, a rule that asks for the opener would not know its connections any more."""
    by_client = Rule("web", protocol=6, guest_ports=(80, 80), opened_by=Opener.CLIENT)
    made = book(by_client, DNS).run("""
        P a SA 0 ack 1 => a
        S   SA 0 ack 1 =>
    """)
    made.comparator.passthrough.replace([Rule("first", vlan=7), by_client])
    made.run("P b 1+10 ack 1 => b")
    assert counted(made, "web") == (2, 1)
    assert list(made.comparator.passthrough.counters()) == ["first", "web"]


def test_a_rule_that_is_put_ahead_takes_over() -> None:
    made = book(SSH).run("P a SA 0 ack 1 => a")
    made.comparator.passthrough.replace([Rule("all", protocol=6), SSH])
    made.run("P b 1+10 ack 1 => b")
    assert (counted(made, "all"), counted(made, "ssh")) == ((1, 0), (1, 0))


def test_a_rule_of_the_same_name_that_says_something_else_is_a_new_one() -> None:
    made = book(SSH).run("P a SA 0 ack 1 => a")
    made.comparator.passthrough.replace([Rule("ssh", protocol=6, guest_ports=(81, 81)), DNS])
    made.run("P u udp one => u")
    assert (counted(made, "ssh"), counted(made, "dns")) == ((0, 0), (1, 0))
    assert made["connections_now"] == 1
