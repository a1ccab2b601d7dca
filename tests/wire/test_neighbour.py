"""ARP and neighbour discovery: what is told, what is asked, and what an answer looks like."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from colo_bridge.wire.neighbour import Announcement, Question, announced, answer, asked, sender
from tests import neighbours as link
from tests.forms import HOP_BY_HOP, options_header, over_ipv6, tagged
from tests.neighbours import (
    CLIENT,
    CLIENT_IPV6,
    GUEST,
    GUEST_IPV6,
    ROUTER_IPV6,
    ROUTER_MAC,
    advertisement,
    arp,
    discovery,
    solicitation,
    source_option,
    target_option,
)
from tests.packets import CLIENT_MAC, GUEST_MAC, ethernet, icmp, ones_sum, udp

VLAN_7 = b"\x81\x00\x00\x07"


def packed(address: str) -> bytes:
    return IPv6Address(address).packed if ":" in address else IPv4Address(address).packed


def told(frame: bytes) -> Announcement | None:
    return announced(frame, 0, len(frame))


def question(frame: bytes) -> Question | None:
    return asked(frame, 0, len(frame))


FROM_CLIENT = {"mac": CLIENT_MAC}


@pytest.mark.parametrize(
    ("frame", "address", "is_router"),
    [
        pytest.param(arp(CLIENT, GUEST, **FROM_CLIENT), CLIENT, None, id="ARP request"),
        pytest.param(arp(CLIENT, GUEST, operation=link.REPLY, **FROM_CLIENT), CLIENT, None, id="ARP reply"),
        pytest.param(arp(CLIENT, CLIENT, **FROM_CLIENT), CLIENT, None, id="gratuitous ARP"),
        pytest.param(solicitation(CLIENT_IPV6, GUEST_IPV6, **FROM_CLIENT), CLIENT_IPV6, None, id="solicitation"),
        pytest.param(
            discovery(link.SOLICITATION, CLIENT_IPV6, GUEST_IPV6, **FROM_CLIENT), CLIENT_IPV6, None, id="probe"
        ),
        pytest.param(advertisement(), CLIENT_IPV6, False, id="advertisement"),
        pytest.param(advertisement(is_router=True), CLIENT_IPV6, True, id="advertisement of a router"),
        pytest.param(
            discovery(link.ADVERTISEMENT, CLIENT_IPV6, CLIENT_IPV6, **FROM_CLIENT),
            CLIENT_IPV6,
            False,
            id="advertisement without its option",
        ),
        pytest.param(
            discovery(link.ADVERTISEMENT, ROUTER_IPV6, CLIENT_IPV6, mac=ROUTER_MAC, option=target_option(CLIENT_MAC)),
            CLIENT_IPV6,
            False,
            id="advertisement for another",
        ),
        pytest.param(
            discovery(link.ROUTER_SOLICITATION, CLIENT_IPV6, option=source_option(CLIENT_MAC), **FROM_CLIENT),
            CLIENT_IPV6,
            None,
            id="router solicitation",
        ),
        pytest.param(
            discovery(
                link.ROUTER_ADVERTISEMENT,
                ROUTER_IPV6,
                # The MTU (RFC 4861 §4.6.4) stands in front.
                option=b"\x05\x01\0\0\0\0\x05\xdc" + source_option(CLIENT_MAC),
                mac=ROUTER_MAC,
            ),
            ROUTER_IPV6,
            True,
            id="router advertisement",
        ),
    ],
)
def test_who_has_an_address_is_told(frame: bytes, address: str, is_router: bool | None) -> None:
    assert told(frame) == Announcement(packed(address), CLIENT_MAC, is_router)
    assert told(tagged(frame, 7)) == Announcement(VLAN_7 + packed(address), CLIENT_MAC, is_router)


NOTHING = [
    pytest.param(arp("0.0.0.0", CLIENT), id="ARP probe for a free address"),
    pytest.param(arp("224.0.0.1"), id="ARP of a group"),
    pytest.param(arp(mac=b"\x01" + bytes(5)), id="ARP of a group of cards"),
    pytest.param(arp(mac=bytes(6)), id="ARP of no card"),
    pytest.param(arp(operation=3), id="reverse ARP"),
    pytest.param(arp(kinds=(6, 0x0800, 6, 4)), id="ARP of another kind of link"),
    pytest.param(arp(kinds=(1, 0x86DD, 6, 4)), id="ARP for another protocol"),
    pytest.param(arp(kinds=(1, 0x0800, 8, 4)), id="ARP with long hardware addresses"),
    pytest.param(arp(kinds=(1, 0x0800, 6, 16)), id="ARP with long addresses"),
    pytest.param(arp()[: 14 + 27], id="ARP that is cut off"),
    pytest.param(discovery(link.SOLICITATION, "::", GUEST_IPV6), id="solicitation for a free address"),
    pytest.param(discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6, hops=254), id="from behind a router"),
    pytest.param(discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6, code=1), id="another code"),
    pytest.param(discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6, option=b"\x01\0" + bytes(6)), id="no length"),
    pytest.param(discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6, option=b"\x01\x02" + bytes(6)), id="too long"),
    pytest.param(discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6, option=b"\x01"), id="half an option"),
    pytest.param(discovery(link.SOLICITATION, GUEST_IPV6), id="solicitation without a target"),
    pytest.param(
        discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6, extensions=((HOP_BY_HOP, options_header()),)),
        id="behind an extension header",
    ),
    pytest.param(solicitation()[: 14 + 40 + 20], id="solicitation that is cut off"),
    pytest.param(discovery(143, GUEST_IPV6, CLIENT_IPV6), id="multicast listener report"),
    pytest.param(icmp(), id="ICMP"),
    pytest.param(over_ipv6(icmp()), id="ICMP of IPv6"),
    pytest.param(ethernet(b"\x45" * 80, 0x88CC), id="LLDP"),
    pytest.param(tagged(arp(), 5, 6, 7), id="too many tags"),
]


@pytest.mark.parametrize("frame", NOTHING)
def test_these_tell_and_ask_nothing(frame: bytes) -> None:
    assert told(frame) is None
    assert question(frame) is None


def test_an_advertisement_for_another_without_its_option_tells_nothing() -> None:
    assert told(discovery(link.ADVERTISEMENT, ROUTER_IPV6, CLIENT_IPV6, mac=ROUTER_MAC)) is None


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(arp(GUEST, GUEST), id="gratuitous ARP"),
        pytest.param(arp(operation=link.REPLY), id="ARP reply"),
        pytest.param(arp(target="255.255.255.255"), id="ARP for everybody"),
        pytest.param(solicitation(target=GUEST_IPV6), id="solicitation for itself"),
        pytest.param(solicitation(target="ff02::1"), id="solicitation for a group"),
        pytest.param(advertisement(GUEST_IPV6, mac=GUEST_MAC), id="advertisement"),
        pytest.param(discovery(link.ROUTER_SOLICITATION, GUEST_IPV6), id="router solicitation"),
    ],
)
def test_these_ask_nothing(frame: bytes) -> None:
    assert question(frame) is None


@pytest.mark.parametrize(
    ("frame", "address"),
    [
        (udp(CLIENT, GUEST), CLIENT),
        (over_ipv6(udp(CLIENT, GUEST)), CLIENT_IPV6),
        (tagged(over_ipv6(udp(CLIENT, GUEST)), 7), CLIENT_IPV6),
        (arp(CLIENT), None),
        (udp("0.0.0.0", "255.255.255.255"), None),
        (udp("127.0.0.1"), None),
    ],
    ids=["IPv4", "IPv6", "in a VLAN", "not IP", "nobody", "loopback"],
)
def test_the_sender_of_a_packet(frame: bytes, address: str | None) -> None:
    vlan = VLAN_7 if frame[12:14] == b"\x81\x00" else b""
    expected = Announcement(vlan + packed(address), GUEST_MAC) if address else None
    assert sender(frame, 0, len(frame)) == expected


@pytest.mark.parametrize("in_vlan", [False, True])
def test_an_answer_by_arp(in_vlan: bool) -> None:
    request, reply = arp(), arp(CLIENT, GUEST, mac=CLIENT_MAC, operation=link.REPLY, target_mac=GUEST_MAC)
    if in_vlan:
        request, reply = tagged(request, 0x6007), tagged(reply, 0x6007)
    found = question(request)
    assert found is not None
    assert found.name == (VLAN_7 if in_vlan else b"") + packed(CLIENT)
    made = answer(found, CLIENT_MAC, is_router=True)
    assert made == GUEST_MAC + reply[6 : len(made)]
    assert len(made) == 42 + 4 * in_vlan


@pytest.mark.parametrize("is_router", [False, True])
@pytest.mark.parametrize("in_vlan", [False, True])
@pytest.mark.parametrize("with_option", [False, True])
def test_an_answer_by_neighbour_discovery(is_router: bool, in_vlan: bool, with_option: bool) -> None:
    """The option is missing where the guest probes a neighbour that it knows."""
    request = solicitation() if with_option else discovery(link.SOLICITATION, GUEST_IPV6, CLIENT_IPV6)
    flags = link.SOLICITED | link.OVERRIDE | (link.IS_ROUTER if is_router else 0)
    expected = discovery(
        link.ADVERTISEMENT,
        CLIENT_IPV6,
        CLIENT_IPV6,
        mac=CLIENT_MAC,
        flags=flags,
        option=target_option(CLIENT_MAC),
        destination=GUEST_IPV6,
    )
    if in_vlan:
        request, expected = tagged(request, 0x6007), tagged(expected, 0x6007)
    found = question(request)
    assert found is not None
    assert answer(found, CLIENT_MAC, is_router) == GUEST_MAC + expected[6:]


def test_the_checksum_of_an_answer_is_finished() -> None:
    random = Random(1)
    for _ in range(200):
        found = Question(b"", random.randbytes(16), random.randbytes(16), GUEST_MAC, b"")
        made = answer(found, random.randbytes(6), is_router=False)
        assert ones_sum(made[22:54] + bytes((0, 32, 0, 58)) + made[54:]) == 0xFFFF


def test_garbage_does_no_harm() -> None:
    random = Random(2)
    for _ in range(5_000):
        frame = bytearray(random.choice((arp(), solicitation(), advertisement(), tagged(solicitation(), 7))))
        for _ in range(random.randrange(4)):
            frame[random.randrange(len(frame))] = random.randrange(256)
        end = random.randrange(18, len(frame) + 1)
        for read in (announced, sender, asked):
            read(frame[:end] + bytes(200), 0, end)
