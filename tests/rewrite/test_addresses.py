"""The guest's own addresses are learned from what it sends: its link is told of them when it goes live."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from colo_bridge.rewrite import RewriteLimits, Rewriter
from tests import neighbours as link
from tests import packets
from tests.forms import over_ipv6, tagged
from tests.neighbours import (
    CLIENT,
    GUEST,
    GUEST_IPV6,
    advertisement,
    arp,
    discovery,
    sent_by,
    solicitation,
    source_option,
)
from tests.packets import CLIENT_MAC, GUEST_MAC, icmp, tcp, udp

HEADER = 12
OTHER_MAC = bytes.fromhex("525400000042")
LINK_LOCAL = "fe80::5054:ff:fe00:2"


class Guest:
    def __init__(self, **limits: Any) -> None:
        self.rewriter = Rewriter(RewriteLimits(**limits), HEADER)
        self.now = 0.0

    def sends(self, *frames: bytes) -> None:
        for frame in frames:
            sent = bytearray(packets.virtio(frame))
            self.rewriter.egress(sent, HEADER, len(sent), False, self.now)
            self.now += 1.0

    def addresses(self) -> set[tuple[bytes, str]]:
        found = self.rewriter.addresses()
        assert len(set(found)) == len(found)
        return {(hardware, readable(address)) for hardware, address in found}


def readable(address: bytes) -> str:
    if not address:
        return ""
    return str(IPv4Address(address) if len(address) == 4 else IPv6Address(address))


def has(*addresses: str, card: bytes = GUEST_MAC) -> set[tuple[bytes, str]]:
    return {(card, address) for address in addresses}


def to_client(frame: bytes) -> bytes:
    return CLIENT_MAC + frame[6:]


@pytest.mark.parametrize(
    ("frame", "address"),
    [
        pytest.param(arp(), GUEST, id="ARP request"),
        pytest.param(to_client(arp(operation=link.REPLY)), GUEST, id="ARP reply"),
        pytest.param(arp(GUEST, GUEST), GUEST, id="gratuitous ARP"),
        pytest.param(solicitation(), GUEST_IPV6, id="solicitation"),
        pytest.param(advertisement(GUEST_IPV6, mac=GUEST_MAC), GUEST_IPV6, id="advertisement"),
        pytest.param(
            discovery(link.ROUTER_SOLICITATION, LINK_LOCAL, option=source_option(GUEST_MAC)),
            LINK_LOCAL,
            id="router solicitation",
        ),
        pytest.param(tcp(GUEST, CLIENT, flags="SA", seq=1, ack=2), GUEST, id="SYN-ACK"),
        pytest.param(tcp(GUEST, CLIENT, flags="A", seq=1, ack=2), GUEST, id="TCP in mid-stream"),
        pytest.param(udp(GUEST, CLIENT), GUEST, id="datagram"),
        pytest.param(icmp(GUEST, CLIENT), GUEST, id="ICMP"),
        pytest.param(over_ipv6(tcp(GUEST, CLIENT, flags="S")), GUEST_IPV6, id="SYN over IPv6"),
        pytest.param(over_ipv6(udp(GUEST, CLIENT)), GUEST_IPV6, id="datagram over IPv6"),
    ],
)
def test_an_address_is_learned_from_whatever_names_it(frame: bytes, address: str) -> None:
    guest = Guest()
    assert guest.addresses() == set()
    guest.sends(frame)
    assert guest.addresses() == has(address)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(arp("0.0.0.0", GUEST), id="is it free?"),
        pytest.param(discovery(link.SOLICITATION, "::", GUEST_IPV6), id="is it free over IPv6?"),
        pytest.param(udp("0.0.0.0", "255.255.255.255"), id="without an address yet"),
        pytest.param(arp("224.0.0.1"), id="a group"),
        pytest.param(udp("127.0.0.1"), id="loopback"),
        pytest.param(tagged(arp(), 7), id="in a VLAN"),
        pytest.param(tagged(over_ipv6(udp(GUEST, CLIENT)), 7, 8), id="in two"),
    ],
)
def test_these_tell_no_address_but_the_card(frame: bytes) -> None:
    guest = Guest()
    guest.sends(frame)
    assert guest.addresses() == has("")


def test_what_the_guest_is_sent_tells_nothing_of_it() -> None:
    guest = Guest()
    for frame in (arp(CLIENT, GUEST, mac=CLIENT_MAC), sent_by(CLIENT_MAC, udp(CLIENT, GUEST)), advertisement()):
        sent = bytearray(packets.virtio(frame))
        guest.rewriter.ingress(sent, HEADER, len(sent), False, 0.0)
    assert guest.addresses() == set()


def test_a_guest_has_several_addresses_of_both_families() -> None:
    guest = Guest()
    guest.sends(arp(), arp("10.0.0.3"), solicitation(), solicitation(LINK_LOCAL), arp())
    assert guest.addresses() == has(GUEST, "10.0.0.3", GUEST_IPV6, LINK_LOCAL)


def test_a_guest_that_routes_does_not_take_the_addresses_of_others() -> None:
    """What is told counts, in each family by itself."""
    guest = Guest()
    guest.sends(udp("192.0.2.1", CLIENT), over_ipv6(udp(GUEST, CLIENT)))
    assert guest.addresses() == has("192.0.2.1", GUEST_IPV6)
    guest.sends(arp())
    assert guest.addresses() == has(GUEST, GUEST_IPV6)
    guest.sends(solicitation(LINK_LOCAL))
    assert guest.addresses() == has(GUEST, LINK_LOCAL)


def test_an_address_that_moves_to_another_card_is_at_that_one() -> None:
    guest = Guest()
    guest.sends(arp(), arp(GUEST, GUEST, mac=OTHER_MAC))
    assert guest.addresses() == has(GUEST, card=OTHER_MAC)


def test_a_checkpoint_changes_nothing() -> None:
    guest = Guest()
    guest.sends(arp(), solicitation())
    guest.rewriter.synchronised()
    assert guest.addresses() == has(GUEST, GUEST_IPV6)


def test_a_frame_that_breaks_the_rules_of_its_format_tells_no_address() -> None:
    guest = Guest()
    guest.sends(arp(kinds=(1, 0x0800, 6, 16)), arp(mac=b"\x01" + bytes(5))[:6] + GUEST_MAC + arp()[12:40])
    assert guest.addresses() == has("")


def test_of_many_datagrams_one_a_second_is_looked_at() -> None:
    guest = Guest()
    guest.sends(udp("10.0.0.2"))
    guest.now = 0.9
    guest.sends(udp("10.0.0.3"))
    assert guest.addresses() == has("10.0.0.2")
    guest.now = 1.0
    guest.sends(udp("10.0.0.3"))
    assert guest.addresses() == has("10.0.0.2", "10.0.0.3")


class TestLimits:
    def test_the_address_silent_for_the_longest_goes_first(self) -> None:
        guest = Guest(addresses=2)
        for number in (1, 2, 1, 3):
            guest.sends(arp(f"10.0.1.{number}"))
        assert guest.addresses() == has("10.0.1.1", "10.0.1.3")
        assert guest.rewriter.counters.addresses_evicted == 1

    @pytest.mark.parametrize("told", [arp(), udp(GUEST, CLIENT)], ids=["told", "used"])
    def test_an_address_that_is_used_no_more_is_forgotten_and_the_card_is_not(self, told: bytes) -> None:
        guest = Guest(neighbour_idle=100.0)
        guest.sends(told)
        guest.now = 60.0
        guest.sends(tcp(GUEST, CLIENT, flags="S"))
        guest.rewriter.tick(159.0)
        assert guest.addresses() == has(GUEST)
        guest.rewriter.tick(160.0)
        assert guest.addresses() == has("")
        assert guest.rewriter.counters.addresses_expired == 1

    def test_by_default_they_are_64(self) -> None:
        guest = Guest()
        for number in range(100):
            guest.sends(arp(f"10.0.1.{number}"))
        assert guest.addresses() == has(*(f"10.0.1.{number}" for number in range(36, 100)))
        assert guest.rewriter.counters.addresses_evicted == 36
