"""Frames by which neighbours ask for each other and tell their addresses: ARP and neighbour discovery.

Nothing here uses the code under test.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from tests.forms import ipv6, ipv6_of
from tests.packets import CLIENT_MAC, GUEST_MAC, ethernet, ones_sum

BROADCAST = b"\xff" * 6
GUEST, CLIENT, ROUTER = "10.0.0.2", "10.0.0.9", "10.0.0.1"
GUEST_IPV6, CLIENT_IPV6, ROUTER_IPV6 = ipv6_of(GUEST), ipv6_of(CLIENT), "fe80::1"
ROUTER_MAC = bytes.fromhex("525400000001")
NOBODY = bytes(6)
REQUEST, REPLY = 1, 2
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT, SOLICITATION, ADVERTISEMENT = 133, 134, 135, 136
IS_ROUTER, SOLICITED, OVERRIDE = 0x8000_0000, 0x4000_0000, 0x2000_0000


def arp(
    source: str = GUEST,
    target: str = CLIENT,
    *,
    mac: bytes = GUEST_MAC,
    operation: int = REQUEST,
    target_mac: bytes = NOBODY,
    kinds: tuple[int, int, int, int] = (1, 0x0800, 6, 4),
) -> bytes:
    """An ARP frame as `mac` sends it, padded to the least Ethernet length."""
    body = struct.pack("!HHBBH", *kinds, operation) + mac + IPv4Address(source).packed
    body += target_mac + IPv4Address(target).packed
    return _broadcast(mac, ethernet(body.ljust(46, b"\0"), 0x0806))


def discovery(
    kind: int,
    source: str,
    target: str = "",
    *,
    mac: bytes = GUEST_MAC,
    flags: int = 0,
    option: bytes = b"",
    hops: int = 255,
    code: int = 0,
    destination: str = "ff02::1",
    extensions: tuple[tuple[int, bytes], ...] = (),
) -> bytes:
    """A neighbour discovery message with a right checksum; `option` stands behind its fixed part."""
    fixed = struct.pack("!I", flags) + (IPv6Address(target).packed if target else b"")
    fixed += bytes(8 if kind == ROUTER_ADVERTISEMENT else 0)
    body = bytes((kind, code, 0, 0)) + fixed + option
    pseudo = IPv6Address(source).packed + IPv6Address(destination).packed + struct.pack("!II", len(body), 58)
    body = body[:2] + (0xFFFF - ones_sum(pseudo + body)).to_bytes(2, "big") + body[4:]
    packet = ipv6(source, destination, 58, body, *extensions)
    return _broadcast(mac, ethernet(packet[:7] + bytes((hops,)) + packet[8:], 0x86DD))


def solicitation(source: str = GUEST_IPV6, target: str = CLIENT_IPV6, *, mac: bytes = GUEST_MAC) -> bytes:
    return discovery(SOLICITATION, source, target, mac=mac, option=source_option(mac))


def advertisement(source: str = CLIENT_IPV6, *, mac: bytes = CLIENT_MAC, is_router: bool = False) -> bytes:
    flags = SOLICITED | OVERRIDE | (IS_ROUTER if is_router else 0)
    return discovery(ADVERTISEMENT, source, source, mac=mac, flags=flags, option=target_option(mac))


def sent_by(mac: bytes, frame: bytes) -> bytes:
    """The frame with another Ethernet source."""
    return frame[:6] + mac + frame[12:]


def source_option(mac: bytes) -> bytes:
    return b"\x01\x01" + mac


def target_option(mac: bytes) -> bytes:
    return b"\x02\x01" + mac


def _broadcast(mac: bytes, frame: bytes) -> bytes:
    return BROADCAST + mac + frame[12:]
