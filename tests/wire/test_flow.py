"""The names of flows: none is mistaken for another, and people can read them."""

from __future__ import annotations

import pytest

from colo_bridge.wire.flow import (
    address_bytes,
    describe_flow,
    flow_of_fragments,
    is_connection,
    reversed_connection,
    tags_of,
)
from colo_bridge.wire.frame import cut_short
from tests import forms, packets
from tests.wire.reading import IP, datagram, fragment, segment

TCP_FRAME = packets.tcp()
BACK = packets.tcp("10.0.0.9", "10.0.0.2", sport=5000, dport=80)
OTHER = packets.ethernet(packets.ipv4("10.0.0.2", "10.0.0.9", 2, b"12345678abc"))


def test_no_two_kinds_of_traffic_share_a_flow() -> None:
    flows = []
    for translated in (lambda frame: frame, forms.over_ipv6):
        for vlans in ((), (7,), (8, 7)):
            flows += [
                segment(forms.tagged(translated(TCP_FRAME), *vlans)).connection,
                *(
                    datagram(forms.tagged(translated(frame), *vlans)).flow
                    for frame in (packets.udp(sport=80), packets.icmp(), OTHER)
                ),
            ]
        flows.append(cut_short(translated(TCP_FRAME), IP, len(translated(TCP_FRAME))).flow)
    assert len(set(flows)) == len(flows) == 26
    assert sum(is_connection(flow) for flow in flows) == 6


@pytest.mark.parametrize("vlans", [(), (7,), (8, 7)])
@pytest.mark.parametrize("ipv6", [False, True])
def test_a_connection_as_the_other_side_sends_it(vlans: tuple[int, ...], ipv6: bool) -> None:
    frames = [forms.over_ipv6(frame) if ipv6 else frame for frame in (TCP_FRAME, BACK)]
    one, other = (segment(forms.tagged(frame, *vlans)).connection for frame in frames)
    assert reversed_connection(one) == other
    assert reversed_connection(other) == one
    assert address_bytes(one) == (16 if ipv6 else 4)


def test_flows_by_name() -> None:
    assert describe_flow(segment(TCP_FRAME).connection) == "10.0.0.2:80 > 10.0.0.9:5000"
    assert describe_flow(datagram(packets.udp()).flow) == "10.0.0.2:53 > 10.0.0.9:5000 udp"
    assert describe_flow(datagram(packets.icmp()).flow) == "10.0.0.2 > 10.0.0.9 icmp"
    assert describe_flow(datagram(OTHER).flow) == "10.0.0.2 > 10.0.0.9 protocol 2"
    assert describe_flow(cut_short(TCP_FRAME, IP, len(TCP_FRAME)).flow) == "10.0.0.2 > 10.0.0.9 cut short"


def test_flows_of_ipv6_by_name() -> None:
    guest, client = "fd00::a00:2", "fd00::a00:9"
    assert describe_flow(segment(forms.over_ipv6(TCP_FRAME)).connection) == f"[{guest}]:80 > [{client}]:5000"
    assert describe_flow(datagram(forms.over_ipv6(packets.udp())).flow) == f"[{guest}]:53 > [{client}]:5000 udp"
    assert describe_flow(datagram(forms.over_ipv6(packets.icmp())).flow) == f"{guest} > {client} icmpv6"


def test_vlans_by_name() -> None:
    assert describe_flow(segment(forms.tagged(TCP_FRAME, 7)).connection) == "10.0.0.2:80 > 10.0.0.9:5000 vlan 7"
    twice = datagram(forms.tagged(packets.icmp(), 4095, 7)).flow
    assert describe_flow(twice) == "10.0.0.2 > 10.0.0.9 icmp vlan 4095 vlan 7"
    assert tags_of(twice) == bytes.fromhex("81000fff81000007")
    assert tags_of(datagram(packets.icmp()).flow) == b""


@pytest.mark.parametrize("vlans", [(), (7,)])
def test_fragments_by_name(vlans: tuple[int, ...]) -> None:
    vlan = " vlan 7" * len(vlans)
    part = fragment(forms.tagged(forms.fragment(OTHER, 0, 8), *vlans))
    assert describe_flow(flow_of_fragments(part.datagram)) == "10.0.0.2 > 10.0.0.9 protocol 2" + vlan
    part = fragment(forms.tagged(forms.fragment(forms.over_ipv6(OTHER), 0, 8), *vlans))
    assert describe_flow(flow_of_fragments(part.datagram)) == "fd00::a00:2 > fd00::a00:9 fragment" + vlan
