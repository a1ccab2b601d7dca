"""The diversion rule: first, tagged, atomic, in the tables of the right variant."""

import os

import pytest

from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.kernel import firewall
from colo_bridge.kernel.firewall import TAG_PREFIX, Diversion, Listed, Placement, placement, tag_of
from tests.kernel import rig
from tests.kernel.rig import shell

namespace = pytest.mark.namespace

RULE = Diversion("p0", True, 7, False, tag_of("g1", "net0"))
OTHER = Diversion("q0", False, 8, True, tag_of("g2", "net0"))


def chain(backend: str) -> list[str]:
    return shell(f"iptables-{backend} -t mangle -S PREROUTING").splitlines()[1:]


@namespace
def test_rule_is_placed_first_and_seen_by_the_command(backend):
    shell(f"iptables-{backend} -t mangle -A PREROUTING -p tcp -j ACCEPT")
    opened = firewall.open_firewall(backend)
    assert opened.inspect(RULE) is Placement.ABSENT
    opened.place(RULE)
    opened.place(OTHER)
    assert chain(backend) == [
        '-A PREROUTING -i q0 -m comment --comment "colo-bridge:g2:net0" -j NFQUEUE --queue-num 8 --queue-bypass',
        '-A PREROUTING -m physdev --physdev-in p0 -m comment --comment "colo-bridge:g1:net0" -j NFQUEUE --queue-num 7',
        "-A PREROUTING -p tcp -j ACCEPT",
    ]
    assert opened.inspect(RULE) is opened.inspect(OTHER) is Placement.FIRST
    assert opened.list_tagged(TAG_PREFIX) == [OTHER.tag, RULE.tag]


@namespace
def test_foreign_rule_ahead_is_noticed_and_overtaken(backend):
    opened = firewall.open_firewall(backend)
    opened.place(RULE)
    shell(f"iptables-{backend} -t mangle -I PREROUTING -j ACCEPT")
    assert opened.inspect(RULE) is Placement.MISPLACED
    opened.place(RULE)
    assert opened.inspect(RULE) is Placement.FIRST
    assert len(chain(backend)) == 2


@namespace
def test_older_rules_of_the_tag_are_replaced(backend):
    opened = firewall.open_firewall(backend)
    older = Diversion("p0", False, 3, True, RULE.tag)
    opened.place(older)
    shell(f"iptables-{backend} -t mangle -A PREROUTING {' '.join(older.arguments())}")
    assert opened.inspect(RULE) is Placement.ABSENT
    opened.place(RULE)
    assert len(chain(backend)) == 1
    assert opened.inspect(RULE) is Placement.FIRST


@namespace
def test_removal_touches_nothing_else(backend):
    shell(f"iptables-{backend} -t mangle -A PREROUTING -m comment --comment 'not colo-bridge:g1:net0' -j ACCEPT")
    before = chain(backend)
    opened = firewall.open_firewall(backend)
    opened.place(RULE)
    assert opened.remove(RULE.tag)
    assert not opened.remove(RULE.tag)
    assert chain(backend) == before


@namespace
def test_foreign_edits_between_our_changes_do_not_get_lost(backend):
    """The legacy library works on its own copy of the table; an outdated one would fail silently."""
    opened = firewall.open_firewall(backend)
    opened.place(RULE)
    shell(f"iptables-{backend} -t mangle -F PREROUTING")
    shell(f"iptables-{backend} -t mangle -A PREROUTING -p udp -j ACCEPT")
    assert opened.inspect(RULE) is Placement.ABSENT
    opened.place(RULE)
    assert opened.inspect(RULE) is Placement.FIRST
    assert chain(backend)[1] == "-A PREROUTING -p udp -j ACCEPT"


@namespace
def test_variants_do_not_see_each_other():
    assert firewall.present_variants() == ["nft"]
    firewall.open_firewall("legacy").place(RULE)
    assert firewall.present_variants() == ["legacy", "nft"]
    assert firewall.open_firewall("nft").inspect(RULE) is Placement.ABSENT


@namespace
def test_without_privilege_the_error_says_so(backend):
    def body() -> None:
        # Opened before: the checkout may lie where only root may read.
        opened = firewall.open_firewall(backend)
        os.setuid(65_534)
        with pytest.raises(ColoBridgeError, match=r"ermi"):
            opened.place(RULE)

    assert not rig.in_child(body)


def test_auto_follows_the_command(tmp_path, monkeypatch):
    command = tmp_path / "iptables"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert firewall.choose("auto") == "legacy"
    for version, variant in (("v1.8.9 (legacy)", "legacy"), ("v1.8.9 (nf_tables)", "nft"), ("v1.6.2", "legacy")):
        command.write_text(f"#!/bin/sh\necho 'iptables {version}'\n")
        command.chmod(0o755)
        assert firewall.choose("auto") == variant
    assert firewall.choose("nft") == "nft"


def test_variant_that_is_not_installed_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperatorError, match="nf_tables"):
        firewall.open_firewall("nft")


def test_placement_allows_only_our_own_rules_ahead():
    ours, foreign, wanted = Listed("colo-bridge:x:y", False), Listed(None, False), Listed(RULE.tag, True)
    assert placement([ours, wanted, foreign]) is Placement.FIRST
    assert placement([foreign, wanted]) is Placement.MISPLACED
    assert placement([ours, foreign]) is Placement.ABSENT
    assert placement([foreign, wanted, wanted]) is Placement.MISPLACED
