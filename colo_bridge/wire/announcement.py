"""How a guest that has moved tells its link where it is: frames in its name, each to everybody and without a VLAN tag.

1. IPv4: a gratuitous ARP request, then the reply form of it. The request is what RFC 5227 §3 asks for: every host
   takes note of a request's sender (RFC 826), while some ignore replies to nothing that they asked. Others heed only
   replies. RFC 5944 §4.6 allows both; so both are sent, at the price of one frame more in a failover.
2. IPv6: an unsolicited neighbour advertisement that overrides what is known (RFC 4861 §7.2.6). It says *router*: a host
   of which that is not true loses nothing by it, but a router that is said to be none is given up by its neighbours.
3. A card whose address is not known: a reverse ARP request (RFC 903), which asks nothing that anybody answers here.
   What moves a card from one port of a switch to another is any frame to everybody that has it as its source.
"""

from __future__ import annotations

from colo_bridge.wire.neighbour import ARP_TYPE, IPV6_TYPE, OVERRIDE, REPLY, REQUEST, ROUTER, advertisement, arp

_EVERYBODY = b"\xff" * 6
_NOBODY, _NOWHERE = bytes(6), bytes(4)
_ALL_NODES = b"\xff\x02" + bytes(13) + b"\x01"
_ALL_NODES_HARDWARE = b"\x33\x33" + _ALL_NODES[-4:]
"""RFC 2464 §7."""
_REVERSE_ARP_TYPE, _REVERSE_REQUEST = b"\x80\x35", 3


def announcements(hardware: bytes, address: bytes) -> list[bytes]:
    """The frames for an address of either family and the card that has it; empty: only the card is known."""
    if len(address) == 4:
        return _gratuitous(hardware, address)
    if len(address) == 16:
        packet = advertisement(address, hardware, OVERRIDE | ROUTER, _ALL_NODES)
        return [_ALL_NODES_HARDWARE + hardware + IPV6_TYPE + packet]
    question = arp(_REVERSE_REQUEST, hardware, _NOWHERE, hardware, _NOWHERE)
    return [_EVERYBODY + hardware + _REVERSE_ARP_TYPE + question]


def _gratuitous(hardware: bytes, address: bytes) -> list[bytes]:
    """Sender and target have the same address; a reply names the card as its target as well (RFC 5944 §4.6)."""
    link = _EVERYBODY + hardware + ARP_TYPE
    return [
        link + arp(REQUEST, hardware, address, _NOBODY, address),
        link + arp(REPLY, hardware, address, hardware, address),
    ]
