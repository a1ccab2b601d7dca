"""What the secondary asks its link is answered from what the primary's link was heard to say."""

from __future__ import annotations

from typing import Any

import pytest

from colo_bridge.rewrite import RewriteLimits, Rewriter
from tests import neighbours as link
from tests import packets
from tests.forms import over_ipv6, tagged
from tests.neighbours import (
    CLIENT,
    CLIENT_IPV6,
    GUEST,
    GUEST_IPV6,
    ROUTER,
    ROUTER_IPV6,
    ROUTER_MAC,
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


class Link:
    def __init__(self, **limits: Any) -> None:
        self.rewriter = Rewriter(RewriteLimits(**limits), HEADER)
        self.now = 0.0

    def hears(self, *frames: bytes) -> None:
        """Sent to the primary, and copied for the secondary: it gets them unchanged."""
        for frame in frames:
            sent = bytearray(packets.virtio(frame))
            assert self.rewriter.ingress(sent, HEADER, len(sent), False, self.now)
            assert sent[HEADER:] == frame

    def asks(self, frame: bytes) -> bytes | None:
        """The answer, behind an empty header."""
        sent = bytearray(packets.virtio(frame))
        self.rewriter.egress(sent, HEADER, len(sent), False, self.now)
        answers = self.rewriter.ready[:]
        self.rewriter.ready.clear()
        if not answers:
            return None
        (answer,) = answers
        assert answer[:HEADER] == bytes(HEADER)
        return bytes(answer[HEADER:])

    def finds(self, frame: bytes) -> bytes | None:
        """The hardware address that answers."""
        answer = self.asks(frame)
        return answer and answer[6:12]

    def count(self, name: str) -> int:
        return getattr(self.rewriter.counters, f"neighbours_{name}")


@pytest.fixture
def network() -> Link:
    return Link()


@pytest.mark.parametrize(
    "heard",
    [
        pytest.param(arp(CLIENT, GUEST, mac=CLIENT_MAC), id="request"),
        pytest.param(arp(CLIENT, GUEST, mac=CLIENT_MAC, operation=link.REPLY), id="reply"),
        pytest.param(sent_by(CLIENT_MAC, udp(CLIENT, GUEST)), id="datagram"),
        pytest.param(sent_by(CLIENT_MAC, tcp(CLIENT, GUEST, flags="S")), id="SYN"),
        pytest.param(sent_by(CLIENT_MAC, icmp(CLIENT, GUEST)), id="ICMP"),
    ],
)
def test_the_secondary_finds_whom_the_primary_knows(network: Link, heard: bytes) -> None:
    assert network.asks(arp()) is None
    assert (network.count("unknown"), network.count("answered")) == (1, 0)
    network.hears(heard)
    reply = arp(CLIENT, GUEST, mac=CLIENT_MAC, operation=link.REPLY, target_mac=GUEST_MAC)
    assert network.asks(arp()) == GUEST_MAC + reply[6:42]
    assert (network.count("unknown"), network.count("answered")) == (1, 1)


@pytest.mark.parametrize(
    "heard",
    [
        pytest.param(solicitation(CLIENT_IPV6, GUEST_IPV6, mac=CLIENT_MAC), id="solicitation"),
        pytest.param(advertisement(), id="advertisement"),
        pytest.param(over_ipv6(sent_by(CLIENT_MAC, udp(CLIENT, GUEST))), id="datagram"),
        pytest.param(over_ipv6(sent_by(CLIENT_MAC, tcp(CLIENT, GUEST, flags="S"))), id="SYN"),
    ],
)
def test_the_same_over_ipv6(network: Link, heard: bytes) -> None:
    assert network.finds(solicitation()) is None
    network.hears(heard)
    assert network.finds(solicitation()) == CLIENT_MAC
    assert network.finds(discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6, destination=CLIENT_IPV6)) == CLIENT_MAC
    assert (network.count("unknown"), network.count("answered")) == (1, 2)


def test_a_gateway_is_found_by_what_it_tells_of_itself(network: Link) -> None:
    """Not by what comes through it: that has the addresses of others."""
    network.hears(sent_by(ROUTER_MAC, udp("192.0.2.1", GUEST)))
    assert network.finds(arp(target=ROUTER)) is None
    network.hears(arp(ROUTER, GUEST, mac=ROUTER_MAC))
    assert network.finds(arp(target=ROUTER)) == ROUTER_MAC


def test_an_address_that_moves_is_found_at_its_new_place(network: Link) -> None:
    network.hears(arp(CLIENT, GUEST, mac=CLIENT_MAC))
    network.hears(arp(CLIENT, CLIENT, mac=OTHER_MAC))
    assert network.finds(arp()) == OTHER_MAC
    network.hears(sent_by(CLIENT_MAC, udp("10.0.0.8", GUEST)), sent_by(OTHER_MAC, udp("10.0.0.8", GUEST)))
    assert network.finds(arp(target="10.0.0.8")) == OTHER_MAC


def test_what_is_told_counts_more_than_what_is_seen(network: Link) -> None:
    """A host's packets may come by way of a router although it is on the link."""
    network.hears(sent_by(ROUTER_MAC, udp(CLIENT, GUEST)))
    network.hears(arp(CLIENT, GUEST, mac=CLIENT_MAC))
    network.hears(sent_by(ROUTER_MAC, udp(CLIENT, GUEST)))
    assert network.finds(arp()) == CLIENT_MAC


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(arp(GUEST, GUEST), id="gratuitous"),
        pytest.param(arp("0.0.0.0", GUEST), id="is it free?"),
        pytest.param(arp("0.0.0.0", CLIENT), id="is another's free?"),
        pytest.param(solicitation(target=GUEST_IPV6), id="its own over IPv6"),
        pytest.param(discovery(link.SOLICITATION, "::", GUEST_IPV6), id="is it free over IPv6?"),
        pytest.param(discovery(link.SOLICITATION, "::", CLIENT_IPV6), id="is another's free over IPv6?"),
        pytest.param(arp(kinds=(1, 0x0800, 6, 16)), id="malformed"),
        pytest.param(discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6, hops=64), id="malformed over IPv6"),
    ],
)
def test_what_is_no_question_for_another_is_not_answered(network: Link, frame: bytes) -> None:
    """Even where somebody else uses the guest's address."""
    network.hears(arp(GUEST, GUEST, mac=OTHER_MAC), advertisement(GUEST_IPV6, mac=OTHER_MAC))
    network.hears(arp(CLIENT, GUEST, mac=CLIENT_MAC), advertisement())
    assert network.asks(frame) is None
    assert (network.count("unknown"), network.count("answered")) == (0, 0)


def test_the_guest_is_never_told_that_another_has_its_card(network: Link) -> None:
    network.hears(arp(CLIENT, GUEST, mac=GUEST_MAC))
    assert network.asks(arp()) is None


@pytest.mark.parametrize(
    ("heard", "is_router"),
    [
        pytest.param([advertisement(ROUTER_IPV6, mac=ROUTER_MAC, is_router=True)], True, id="it said so"),
        pytest.param([advertisement(ROUTER_IPV6, mac=ROUTER_MAC)], False, id="it said that it is none"),
        pytest.param(
            [
                discovery(link.ROUTER_ADVERTISEMENT, ROUTER_IPV6, mac=ROUTER_MAC, option=source_option(ROUTER_MAC)),
                solicitation(ROUTER_IPV6, GUEST_IPV6, mac=ROUTER_MAC),
            ],
            True,
            id="it advertised routes",
        ),
        pytest.param([solicitation(ROUTER_IPV6, GUEST_IPV6, mac=ROUTER_MAC)], True, id="it said nothing"),
    ],
)
def test_a_router_is_not_taken_away(network: Link, heard: list[bytes], is_router: bool) -> None:
    """A guest gives up its routes by a neighbour that says it is no router (RFC 4861 §7.2.5): only itself may."""
    network.hears(*heard)
    answer = network.asks(solicitation(target=ROUTER_IPV6))
    assert answer is not None
    assert bool(answer[58] & 0x80) == is_router


def test_vlans_are_links_of_their_own(network: Link) -> None:
    network.hears(tagged(arp(CLIENT, GUEST, mac=CLIENT_MAC), 7))
    assert network.finds(arp()) is None
    assert network.finds(tagged(arp(), 8)) is None
    assert network.asks(tagged(arp(), 7))[6:18] == CLIENT_MAC + b"\x81\x00\x00\x07\x08\x06"
    assert network.count("unknown") == 2


class TestLimits:
    def test_the_one_silent_for_the_longest_goes_first(self) -> None:
        network = Link(neighbours=2)
        for number in (1, 2, 1, 3):
            network.hears(arp(f"10.0.1.{number}", GUEST, mac=CLIENT_MAC))
        found = [network.finds(arp(target=f"10.0.1.{number}")) for number in (1, 2, 3)]
        assert found == [CLIENT_MAC, None, CLIENT_MAC]
        assert network.count("evicted") == 1

    def test_the_world_behind_the_router_drives_no_neighbour_out(self) -> None:
        network = Link(neighbours=4)
        network.hears(arp(ROUTER, GUEST, mac=ROUTER_MAC))
        for number in range(1, 101):
            network.hears(sent_by(ROUTER_MAC, udp(f"192.0.2.{number}", GUEST)))
        assert network.count("evicted") == 96
        assert network.finds(arp(target=ROUTER)) == ROUTER_MAC

    @pytest.mark.parametrize("heard", [arp(CLIENT, GUEST, mac=CLIENT_MAC), udp(CLIENT, GUEST)], ids=["told", "seen"])
    def test_who_is_silent_is_forgotten(self, heard: bytes) -> None:
        network = Link(neighbour_idle=100.0)
        network.hears(heard)
        network.now = 60.0
        network.hears(sent_by(heard[6:12], udp(CLIENT, GUEST)))
        network.rewriter.tick(159.0)
        assert network.finds(arp(mac=OTHER_MAC)) == heard[6:12]
        network.rewriter.tick(160.0)
        assert network.finds(arp(mac=OTHER_MAC)) is None
        assert (network.count("expired"), network.count("unknown")) == (1, 1)

    def test_by_default_they_are_four_thousand_for_four_hours(self) -> None:
        assert (RewriteLimits().neighbours, RewriteLimits().neighbour_idle) == (4_096, 4 * 3_600.0)
