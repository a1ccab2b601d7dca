"""Passthrough rules of a running daemon: what may be added and taken away, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.rule import Opener, Rule
from colo_bridge.config import MOST_PASSTHROUGH_RULES, PassthroughConfig, parse_passthrough
from colo_bridge.daemon.rules import PassthroughRules, rule_of
from colo_bridge.errors import OperatorError
from colo_bridge.wire.frame import parse_frame
from tests.packets import udp

DNS = parse_passthrough({"name": "dns", "protocol": "udp", "guest_ports": 53})
SSH = parse_passthrough({"name": "ssh", "protocol": "tcp", "guest_ports": "22"})


@pytest.fixture
def nics() -> list[Comparator]:
    return [Comparator(), Comparator()]


@pytest.fixture
def rules(nics: list[Comparator]) -> PassthroughRules:
    made = PassthroughRules([SSH])
    made.serve([nic.passthrough for nic in nics])
    return made


def send(nic: Comparator) -> list[object]:
    frame = bytearray(udp(payload=b"one"))
    nic.primary(parse_frame(frame, 0, len(frame)), "a", 0.0)
    return nic.released


def ask(rules: PassthroughRules, verb: str, **arguments: object) -> object:
    return rules.verbs()[verb]({"verb": verb, **arguments})


def test_a_rule_holds_for_all_nics_and_is_counted_over_all(rules: PassthroughRules, nics: list[Comparator]) -> None:
    ask(rules, "passthrough-add", rule={"name": "dns", "protocol": 17})
    assert [send(nic) for nic in nics] == [["a"], ["a"]]
    assert rules.counters()["dns"] == {"packets": 2, "bytes": 62, "secondary_packets": 0, "secondary_bytes": 0}
    ask(rules, "passthrough-del", name="dns")
    assert [nic.passthrough.counters().keys() for nic in nics] == [{"ssh"}, {"ssh"}]


def test_the_list_tells_what_lasts(rules: PassthroughRules) -> None:
    rules.add(DNS)
    first, second = rules.listing()
    assert (first["name"], first["until_stopped"], first["packets"]) == ("ssh", False, 0)
    assert second == {
        "name": "dns",
        "protocol": 17,
        "guest_ports": "53",
        "until_stopped": True,
        **dict.fromkeys(("packets", "bytes", "secondary_packets", "secondary_bytes"), 0),
    }
    assert ask(rules, "passthrough-list") == {"rules": [first, second]}


def test_a_configured_rule_that_was_deleted_and_added_again_lasts_until_the_stop(rules: PassthroughRules) -> None:
    rules.remove("ssh")
    assert rules.listing() == []
    rules.add(SSH)
    assert rules.listing()[0]["until_stopped"] is True


@pytest.mark.parametrize(
    ("verb", "arguments", "problem"),
    [
        ("passthrough-add", {"rule": {"name": "ssh", "protocol": 6}}, "there is a passthrough rule 'ssh' already"),
        ("passthrough-add", {"rule": {"name": "x", "protocol": 6, "vlam": 3}}, "unknown key vlam (did you mean vlan?)"),
        ("passthrough-add", {"rule": {"name": "x"}}, "names no traffic"),
        ("passthrough-add", {"rule": "x"}, "passthrough rule: "),
        ("passthrough-add", {}, "passthrough rule: "),
        ("passthrough-del", {"name": "x"}, "there is no passthrough rule 'x' (there are: ssh)"),
        ("passthrough-del", {"name": ["x"]}, "there is no passthrough rule"),
        ("passthrough-del", {}, "there is no passthrough rule"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    rules: PassthroughRules, verb: str, arguments: dict[str, object], problem: str
) -> None:
    with pytest.raises(OperatorError) as caught:
        ask(rules, verb, **arguments)
    assert problem in str(caught.value)
    assert [rule["name"] for rule in rules.listing()] == ["ssh"]


def test_the_last_rule_deleted_leaves_none_to_name(rules: PassthroughRules) -> None:
    rules.remove("ssh")
    with pytest.raises(OperatorError, match="there are: none"):
        rules.remove("ssh")


def test_no_more_rules_than_the_limit(rules: PassthroughRules) -> None:
    for number in range(MOST_PASSTHROUGH_RULES - 1):
        rules.add(parse_passthrough({"name": f"r{number}", "vlan": 7}))
    with pytest.raises(OperatorError, match="64 passthrough rules are the most"):
        rules.add(DNS)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"protocol": "tcp", "opened_by": "guest"}, lambda: Rule("x", protocol=6, opened_by=Opener.GUEST)),
        ({"guest_ports": "20-22"}, lambda: Rule("x", guest_ports=(20, 22))),
        ({"peer_ports": 443}, lambda: Rule("x", peer_ports=(443, 443))),
        ({"peer_address": "10.0.0.0/8"}, lambda: Rule("x", peer_address=ip_network("10.0.0.0/8"))),
        ({"guest_address": "fd00::1"}, lambda: Rule("x", guest_address=ip_network("fd00::1/128"))),
        ({"vlan": 7}, lambda: Rule("x", vlan=7)),
    ],
)
def test_a_rule_means_what_its_keys_say(keys: dict[str, object], wanted: Callable[[], Rule]) -> None:
    config = parse_passthrough({"name": "x", **keys})
    assert isinstance(config, PassthroughConfig)
    assert rule_of(config) == wanted()


def test_a_file_read_again_comes_first_and_keeps_what_was_added(
    rules: PassthroughRules, nics: list[Comparator]
) -> None:
    rules.add(DNS)
    rules.add(parse_passthrough({"name": "late", "vlan": 7}))
    rules.reload([DNS])
    assert [(rule["name"], rule["until_stopped"]) for rule in rules.listing()] == [("dns", False), ("late", True)]
    assert [list(nic.passthrough.counters()) for nic in nics] == [["dns", "late"], ["dns", "late"]]
    rules.reload([SSH])
    assert [rule["name"] for rule in rules.listing()] == ["ssh", "late"]


def test_a_configured_rule_that_was_deleted_comes_back_with_the_file(rules: PassthroughRules) -> None:
    rules.remove("ssh")
    rules.reload([SSH])
    assert [(rule["name"], rule["until_stopped"]) for rule in rules.listing()] == [("ssh", False)]


def test_a_file_that_leaves_no_room_for_what_was_added_changes_nothing(rules: PassthroughRules) -> None:
    rules.add(DNS)
    full = [parse_passthrough({"name": f"r{number}", "vlan": 7}) for number in range(MOST_PASSTHROUGH_RULES)]
    with pytest.raises(OperatorError, match="1 were added at run time: delete some"):
        rules.reload(full)
    assert [rule["name"] for rule in rules.listing()] == ["ssh", "dns"]
