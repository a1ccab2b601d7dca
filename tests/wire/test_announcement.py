"""The frames by which a guest that has moved tells its link where it is."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from colo_bridge.wire.announcement import announcements
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.neighbour import Announcement, announced, asked
from colo_bridge.wire.packet import NotCompared
from tests import neighbours as link
from tests.neighbours import BROADCAST, GUEST, GUEST_IPV6, arp, discovery, target_option
from tests.packets import GUEST_MAC, ones_sum

IPV4, IPV6 = IPv4Address(GUEST).packed, IPv6Address(GUEST_IPV6).packed
ALL_NODES_MAC = bytes.fromhex("333300000001")


def test_an_ipv4_address_by_a_request_and_a_reply_that_nobody_asked_for() -> None:
    """Sender and target have the same address; the reply names the card as its target too."""
    request = arp(GUEST, GUEST, operation=link.REQUEST)
    reply = arp(GUEST, GUEST, operation=link.REPLY, target_mac=GUEST_MAC)
    assert announcements(GUEST_MAC, IPV4) == [request[:42], reply[:42]]


def test_an_ipv6_address_by_an_unsolicited_advertisement_to_all_nodes() -> None:
    flags = link.OVERRIDE | link.IS_ROUTER
    option = target_option(GUEST_MAC)
    wanted = discovery(link.ADVERTISEMENT, GUEST_IPV6, GUEST_IPV6, flags=flags, option=option, destination="ff02::1")
    assert announcements(GUEST_MAC, IPV6) == [ALL_NODES_MAC + wanted[6:]]


def test_a_card_without_an_address_by_a_reverse_request() -> None:
    (frame,) = announcements(GUEST_MAC, b"")
    assert frame[:14] == BROADCAST + GUEST_MAC + b"\x80\x35"
    assert frame[14:] == bytes.fromhex("0001080006040003") + 2 * (GUEST_MAC + bytes(4))


@pytest.mark.parametrize(("address", "is_router"), [(IPV4, None), (IPV6, True)], ids=["IPv4", "IPv6"])
def test_each_reads_as_what_it_tells_and_asks_nothing(address: bytes, is_router: bool | None) -> None:
    for frame in announcements(GUEST_MAC, address):
        assert announced(frame, 0, len(frame)) == Announcement(address, GUEST_MAC, is_router)


@pytest.mark.parametrize("address", [IPV4, IPV6, b""], ids=["IPv4", "IPv6", "card"])
def test_none_asks_for_another_and_none_is_compared(address: bytes) -> None:
    for frame in announcements(GUEST_MAC, address):
        assert asked(frame, 0, len(frame)) is None
        assert parse_frame(frame, 0, len(frame)) in (NotCompared.NOT_IP, NotCompared.NEIGHBOUR)
    (frame,) = announcements(GUEST_MAC, b"")
    assert announced(frame, 0, len(frame)) is None


def test_the_checksum_is_finished() -> None:
    random = Random(1)
    for _ in range(200):
        (frame,) = announcements(random.randbytes(6), random.randbytes(16))
        assert ones_sum(frame[22:54] + bytes((0, 32, 0, 58)) + frame[54:]) == 0xFFFF
