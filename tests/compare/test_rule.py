"""What a passthrough rule matches."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from colo_bridge.compare.rule import Opener, Rule
from colo_bridge.wire.flow import datagram_flow, parts_of_flow, tagged_connection, tagged_flow

GUEST, PEER = bytes((10, 0, 0, 2)), bytes((10, 0, 0, 9))
GUEST6, PEER6 = bytes.fromhex("fd00" + "00" * 13 + "02"), bytes.fromhex("fd00" + "00" * 13 + "09")
PORTS = (22).to_bytes(2, "big") + (5000).to_bytes(2, "big")
TAG = bytes.fromhex("81000007")

TCP = GUEST + PEER + PORTS
TCP6 = GUEST6 + PEER6 + PORTS
UDP = datagram_flow(4, 17, GUEST + PEER, PORTS)
UDP6 = datagram_flow(6, 17, GUEST6 + PEER6, PORTS)
ICMP = datagram_flow(4, 1, GUEST + PEER)
FLOWS = {
    "tcp": TCP,
    "tcp6": TCP6,
    "tcp in a vlan": tagged_connection(TCP, TAG),
    "tcp6 in two vlans": tagged_connection(TCP6, bytes.fromhex("88a80064") + TAG),
    "udp": UDP,
    "udp6": UDP6,
    "udp in a vlan": tagged_flow(UDP, TAG),
    "icmp": ICMP,
    "icmpv6": datagram_flow(6, 58, GUEST6 + PEER6),
    "sctp": datagram_flow(4, 132, GUEST + PEER),
}
OF_TCP = {"tcp", "tcp6", "tcp in a vlan", "tcp6 in two vlans"}
OF_UDP = {"udp", "udp6", "udp in a vlan"}
OF_IPV6 = {"tcp6", "tcp6 in two vlans", "udp6", "icmpv6"}


@pytest.mark.parametrize(
    ("rule", "matching"),
    [
        (Rule("a"), set(FLOWS)),
        (Rule("a", protocol=6), OF_TCP),
        (Rule("a", protocol=17), OF_UDP),
        (Rule("a", protocol=1), {"icmp"}),
        (Rule("a", protocol=58), {"icmpv6"}),
        (Rule("a", protocol=132), {"sctp"}),
        (Rule("a", guest_address=ip_network("10.0.0.0/30")), set(FLOWS) - OF_IPV6),
        (Rule("a", guest_address=ip_network("10.0.0.9/32")), set()),
        (Rule("a", peer_address=ip_network("10.0.0.8/29")), set(FLOWS) - OF_IPV6),
        (Rule("a", peer_address=ip_network("fd00::9/128")), OF_IPV6),
        (Rule("a", guest_address=ip_network("fd00::/16")), OF_IPV6),
        (Rule("a", guest_ports=(22, 22)), OF_TCP | OF_UDP),
        (Rule("a", guest_ports=(23, 65_535)), set()),
        (Rule("a", guest_ports=(0, 21)), set()),
        (Rule("a", peer_ports=(4_000, 5_000)), OF_TCP | OF_UDP),
        (Rule("a", peer_ports=(22, 22)), set()),
        (Rule("a", vlan=7), {"tcp in a vlan", "tcp6 in two vlans", "udp in a vlan"}),
        (Rule("a", vlan=100), {"tcp6 in two vlans"}),
        (
            Rule("a", protocol=6, peer_address=ip_network("fd00::/16"), guest_ports=(20, 30), vlan=100),
            {"tcp6 in two vlans"},
        ),
    ],
)
def test_every_key_that_is_named_must_fit(rule: Rule, matching: set[str]) -> None:
    assert {name for name, key in FLOWS.items() if rule.matches(parts_of_flow(key), None)} == matching


@pytest.mark.parametrize("opened_by", [None, *Opener])
@pytest.mark.parametrize("asks", [None, *Opener])
def test_a_rule_that_asks_who_opened_does_not_fit_the_unknown(asks: Opener | None, opened_by: Opener | None) -> None:
    assert Rule("a", opened_by=asks).matches(parts_of_flow(TCP), opened_by) == (asks is None or asks is opened_by)
