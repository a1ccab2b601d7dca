"""The diversion rule: first, tagged, atomic, in the tables of the right variant."""

import os
from pathlib import Path

import pytest

from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.kernel import firewall, links
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.firewall import TAG_PREFIX, Diversion, Listed, Placement, Tables, placement, tag_of
from tests.kernel import rig
from tests.kernel.rig import shell

namespace = pytest.mark.namespace

RULE = Diversion("p0", True, 7, False, tag_of("g1", "net0"))
OTHER = Diversion("q0", False, 8, True, tag_of("g2", "net0"))


@pytest.fixture(params=list(Family))
def tables(request, backend):
    return Tables(backend, request.param)


def chain(tables: Tables) -> list[str]:
    return shell(f"{tables} -t mangle -S PREROUTING").splitlines()[1:]


@namespace
def test_rule_is_placed_first_and_seen_by_the_command(tables):
    shell(f"{tables} -t mangle -A PREROUTING -p tcp -j ACCEPT")
    opened = firewall.open_firewall(tables)
    assert opened.inspect(RULE) is Placement.ABSENT
    opened.place(RULE)
    opened.place(OTHER)
    assert chain(tables) == [
        '-A PREROUTING -i q0 -m comment --comment "colo-bridge:g2:net0" -j NFQUEUE --queue-num 8 --queue-bypass',
        '-A PREROUTING -m physdev --physdev-in p0 -m comment --comment "colo-bridge:g1:net0" -j NFQUEUE --queue-num 7',
        "-A PREROUTING -p tcp -j ACCEPT",
    ]
    assert opened.inspect(RULE) is opened.inspect(OTHER) is Placement.FIRST
    assert opened.list_tagged(TAG_PREFIX) == [OTHER.tag, RULE.tag]


@namespace
def test_foreign_rule_ahead_is_noticed_and_overtaken(tables):
    opened = firewall.open_firewall(tables)
    opened.place(RULE)
    shell(f"{tables} -t mangle -I PREROUTING -j ACCEPT")
    assert opened.inspect(RULE) is Placement.MISPLACED
    opened.place(RULE)
    assert opened.inspect(RULE) is Placement.FIRST
    assert len(chain(tables)) == 2


@namespace
def test_older_rules_of_the_tag_are_replaced(tables):
    opened = firewall.open_firewall(tables)
    older = Diversion("p0", False, 3, True, RULE.tag)
    opened.place(older)
    shell(f"{tables} -t mangle -A PREROUTING {' '.join(older.arguments())}")
    assert opened.inspect(RULE) is Placement.ABSENT
    opened.place(RULE)
    assert len(chain(tables)) == 1
    assert opened.inspect(RULE) is Placement.FIRST


@namespace
def test_removal_touches_nothing_else(tables):
    shell(f"{tables} -t mangle -A PREROUTING -m comment --comment 'not colo-bridge:g1:net0' -j ACCEPT")
    before = chain(tables)
    opened = firewall.open_firewall(tables)
    opened.place(RULE)
    assert opened.remove(RULE.tag)
    assert not opened.remove(RULE.tag)
    assert chain(tables) == before


@namespace
def test_foreign_edits_between_our_changes_do_not_get_lost(tables):
    """The legacy library works on its own copy of the table; an outdated one would fail silently."""
    opened = firewall.open_firewall(tables)
    opened.place(RULE)
    shell(f"{tables} -t mangle -F PREROUTING")
    shell(f"{tables} -t mangle -A PREROUTING -p udp -j ACCEPT")
    assert opened.inspect(RULE) is Placement.ABSENT
    opened.place(RULE)
    assert opened.inspect(RULE) is Placement.FIRST
    assert chain(tables)[1] == "-A PREROUTING -p udp -j ACCEPT"


@namespace
def test_variants_do_not_see_each_other():
    nft = [Tables("nft", family) for family in Family]
    assert firewall.present_tables() == nft
    for family in reversed(Family):
        legacy = Tables("legacy", family)
        firewall.open_firewall(legacy).place(RULE)
        assert legacy in firewall.present_tables()
    assert len(firewall.present_tables()) == 4
    assert [firewall.open_firewall(tables).inspect(RULE) for tables in nft] == [Placement.ABSENT] * 2


@namespace
def test_families_do_not_see_each_other(backend):
    ipv4, ipv6 = (firewall.open_firewall(Tables(backend, family)) for family in Family)
    ipv6.place(RULE)
    assert ipv4.inspect(RULE) is Placement.ABSENT
    ipv4.place(RULE)
    assert ipv6.remove(RULE.tag)
    assert ipv4.inspect(RULE) is Placement.FIRST


@namespace
def test_without_privilege_the_error_says_so(tables):
    def body() -> None:
        # Opened before: the checkout may lie where only root may read.
        opened = firewall.open_firewall(tables)
        os.setuid(65_534)
        with pytest.raises(ColoBridgeError, match=r"ermi"):
            opened.place(RULE)

    assert not rig.in_child(body)


@pytest.mark.parametrize("family", Family)
def test_auto_follows_the_command_of_the_family(tmp_path, monkeypatch, family):
    command = tmp_path / family.command
    monkeypatch.setenv("PATH", str(tmp_path))
    assert firewall.choose("auto", family) == Tables("legacy", family)
    for version, variant in (("v1.8.9 (legacy)", "legacy"), ("v1.8.9 (nf_tables)", "nft"), ("v1.6.2", "legacy")):
        script(command, f"echo 'iptables {version}'")
        assert firewall.choose("auto", family) == Tables(variant, family)
    assert firewall.choose("nft", family) == Tables("nft", family)


@pytest.mark.parametrize("family", Family)
def test_variant_that_is_not_installed_is_refused(monkeypatch, tmp_path, family):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperatorError, match=f"no {family.command} of the nf_tables variant"):
        firewall.open_firewall(Tables("nft", family))


def test_kernel_without_the_tables_of_ipv6_is_refused_with_the_way_out(monkeypatch, tmp_path):
    refuse = 'case "$*" in --version) echo "v1.8.9 (nf_tables)";; *) echo "table does not exist" >&2; exit 3;; esac'
    for command in ("ip6tables-nft", "ip6tables-nft-restore"):
        script(tmp_path / command, refuse)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperatorError, match=r"cannot be diverted: .*table does not exist.*`firewall.ipv6 = false`"):
        firewall.require(Tables("nft", Family.IPV6))


def test_kernel_without_the_tables_of_ipv4_has_no_such_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperatorError, match="no iptables of the nf_tables variant") as refused:
        firewall.require(Tables("nft", Family.IPV4))
    assert "ipv6" not in refused.value.hint


@namespace
def test_tables_that_work_are_not_refused(tables):
    firewall.require(tables)


def test_kernel_without_ipv6_is_refused_with_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(links, "_IPV6", tmp_path / "missing")
    with pytest.raises(OperatorError, match=r"runs without IPv6.*`firewall.ipv6 = false`"):
        firewall.require(Tables("nft", Family.IPV6))


def script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def test_placement_allows_only_our_own_rules_ahead():
    ours, foreign, wanted = Listed("colo-bridge:x:y", False), Listed(None, False), Listed(RULE.tag, True)
    assert placement([ours, wanted, foreign]) is Placement.FIRST
    assert placement([foreign, wanted]) is Placement.MISPLACED
    assert placement([ours, foreign]) is Placement.ABSENT
    assert placement([foreign, wanted, wanted]) is Placement.MISPLACED
