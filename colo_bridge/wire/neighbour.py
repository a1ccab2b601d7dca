"""How the neighbours on a link ask for each other's hardware addresses, and tell them: ARP and neighbour discovery.

1. What breaks the rules of its own format says nothing: it is no announcement and no question.
2. Only an address that one host can have is announced or asked for: no group, and not the unspecified one, so
   that a host that looks whether an address is free (RFC 5227, RFC 4862 §5.4) neither announces nor asks.
3. Checksums are not verified, as nowhere here; an answer's is finished.

Neighbour discovery behind extension headers is not read: no stack sends it so.
Formats: RFC 826 (ARP), RFC 4861 §4 and §7.1 (neighbour discovery), RFC 2464 §6 (its Ethernet addresses).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from colo_bridge.wire.checksum import ones_sum
from colo_bridge.wire.flow import ICMPV6
from colo_bridge.wire.frame import behind_tags
from colo_bridge.wire.packet import ETHERNET_HEADER, Buffer

ARP_TYPE, IPV6_TYPE = b"\x08\x06", b"\x86\xdd"
_IPV4_TYPE = b"\x08\x00"

# Hardware and protocol type, the sizes of their addresses, operation, sender's and target's addresses.
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET_AND_IPV4 = (1, 0x0800, 6, 4)
REQUEST, REPLY = 1, 2

# Version, payload length, next header, hop limit, source, destination.
_IPV6 = struct.Struct("!IHBB16s16s")
_IPV6_VERSION = 6 << 28
_FROM_THE_LINK = 255
"""A hop limit that no router has lowered (RFC 4861 §7.1)."""
# Type, code, checksum, flags, target.
_MESSAGE = struct.Struct("!BBHI16s")
_ROUTER_SOLICITATION, _ROUTER_ADVERTISEMENT, _SOLICITATION, _ADVERTISEMENT = 133, 134, 135, 136
_FIXED_PARTS = {_ROUTER_SOLICITATION: 8, _ROUTER_ADVERTISEMENT: 16, _SOLICITATION: 24, _ADVERTISEMENT: 24}
"""Bytes in front of a message's options."""
ROUTER, OVERRIDE = 0x8000_0000, 0x2000_0000
_SOLICITED = 0x4000_0000
_SOURCES, _TARGETS = 1, 2
"""Options with the hardware address of a message's source, or of its target."""
_OPTION = struct.Struct("!BB6s")
_OPTION_UNIT = 8


@dataclass(frozen=True, slots=True)
class Announcement:
    """Who has an address: `name` is the address behind the VLANs that it stands in."""

    name: bytes
    hardware: bytes
    is_router: bool | None = None
    """None: not told."""


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks for the address of `name`, and with which VLAN tags."""

    name: bytes
    target: bytes
    asker: bytes
    asker_hardware: bytes
    tags: bytes


@dataclass(frozen=True, slots=True)
class _Message:
    """Neighbour discovery: addresses of the packet and of the message, and its options."""

    kind: int
    source: bytes
    flags: int
    target: bytes
    options: dict[int, bytes]


def announced(buffer: Buffer, start: int, end: int) -> Announcement | None:
    """What a frame for the guest tells by ARP or neighbour discovery; raises MalformedPacket for its tags."""
    vlans, at = behind_tags(buffer, start, end)
    ethernet_type = buffer[at - 2 : at]
    if ethernet_type == ARP_TYPE:
        return _announced_by_arp(buffer, at, end, vlans)
    if ethernet_type == IPV6_TYPE:
        return _announced_by_message(buffer, start, at, end, vlans)
    return None


def plain_source(buffer: Buffer, start: int) -> tuple[bytes, Buffer]:
    """Address and hardware address of an untagged packet's sender; no address for what `announced` may read."""
    ethernet_type = buffer[start + 12 : start + ETHERNET_HEADER]
    address = b""
    if ethernet_type == _IPV4_TYPE:
        address = bytes(buffer[start + 26 : start + 30])
    elif ethernet_type == IPV6_TYPE and buffer[start + 20] != ICMPV6:
        address = bytes(buffer[start + 22 : start + 38])
    return address, buffer[start + 6 : start + 12]


def sender(buffer: Buffer, start: int, end: int) -> Announcement | None:
    """Whoever sent a well-formed IP packet: a neighbour, or the router in whose name the sender can be reached."""
    vlans, at = behind_tags(buffer, start, end)
    ethernet_type = buffer[at - 2 : at]
    if ethernet_type == _IPV4_TYPE:
        address = bytes(buffer[at + 12 : at + 16])
    elif ethernet_type == IPV6_TYPE:
        address = bytes(buffer[at + 8 : at + 24])
    else:
        return None
    return _announcement(vlans, address, _source_hardware(buffer, start), None)


def asked(buffer: Buffer, start: int, end: int) -> Question | None:
    """What a guest's frame asks by ARP or neighbour discovery; raises MalformedPacket for its tags."""
    vlans, at = behind_tags(buffer, start, end)
    ethernet_type = buffer[at - 2 : at]
    if ethernet_type == ARP_TYPE:
        found = _asked_by_arp(buffer, at, end)
    elif ethernet_type == IPV6_TYPE:
        found = _asked_by_message(buffer, start, at, end)
    else:
        return None
    if found is None:
        return None
    target, asker, hardware = found
    # Who asks for its own address tells it, or looks for another that has it.
    if target == asker or not (_is_a_hosts(target) and _is_a_hosts(asker) and _is_a_cards(hardware)):
        return None
    return Question(vlans + target, target, asker, hardware, bytes(buffer[start + 12 : at - 2]))


def answer(question: Question, hardware: bytes, is_router: bool) -> bytes:
    """The frame by which the asked one tells its hardware address."""
    link = question.asker_hardware + hardware + question.tags
    if len(question.target) == 4:
        return link + ARP_TYPE + arp(REPLY, hardware, question.target, question.asker_hardware, question.asker)
    flags = _SOLICITED | OVERRIDE | (ROUTER if is_router else 0)
    return link + IPV6_TYPE + advertisement(question.target, hardware, flags, question.asker)


def arp(operation: int, hardware: bytes, address: bytes, target_hardware: bytes, target: bytes) -> bytes:
    """What stands behind an Ethernet header in which the type says so."""
    return _ARP.pack(*_ETHERNET_AND_IPV4, operation, hardware, address, target_hardware, target)


def advertisement(address: bytes, hardware: bytes, flags: int, destination: bytes) -> bytes:
    """The IPv6 packet by which a neighbour tells its hardware address, its checksum finished."""
    message = bytearray(_MESSAGE.pack(_ADVERTISEMENT, 0, 0, flags, address))
    message += _OPTION.pack(_TARGETS, 1, hardware)
    total = ones_sum(address + destination) + len(message) + ICMPV6 + ones_sum(message)
    message[2:4] = (0xFFFF - total % 0xFFFF).to_bytes(2, "big")
    header = _IPV6.pack(_IPV6_VERSION, len(message), ICMPV6, _FROM_THE_LINK, address, destination)
    return header + message


def _announced_by_arp(buffer: Buffer, at: int, end: int, vlans: bytes) -> Announcement | None:
    """The sender of a request tells its addresses as well (RFC 826)."""
    found = _arp(buffer, at, end)
    return _announcement(vlans, found[2], found[1], None) if found else None


def _asked_by_arp(buffer: Buffer, at: int, end: int) -> tuple[bytes, bytes, bytes] | None:
    found = _arp(buffer, at, end)
    if found is None or found[0] != REQUEST:
        return None
    return found[3], found[2], found[1]


def _arp(buffer: Buffer, at: int, end: int) -> tuple[int, bytes, bytes, bytes] | None:
    """Operation, the sender's hardware address and address, the address of the target."""
    if end - at < _ARP.size:
        return None
    *kinds, operation, hardware, source, _, target = _ARP.unpack_from(buffer, at)
    if tuple(kinds) != _ETHERNET_AND_IPV4 or operation not in (REQUEST, REPLY):
        return None
    return operation, hardware, source, target


def _announced_by_message(buffer: Buffer, start: int, at: int, end: int, vlans: bytes) -> Announcement | None:
    message = _message(buffer, at, end)
    if message is None:
        return None
    is_router, address, option = None, message.source, _SOURCES
    if message.kind == _ROUTER_ADVERTISEMENT:
        is_router = True
    elif message.kind == _ADVERTISEMENT:
        is_router, address, option = bool(message.flags & ROUTER), message.target, _TARGETS
    hardware = message.options.get(option)
    if hardware is None and address == message.source:
        # An answer to one host alone may leave it out (RFC 4861 §4.4).
        hardware = _source_hardware(buffer, start)
    return _announcement(vlans, address, hardware, is_router) if hardware is not None else None


def _asked_by_message(buffer: Buffer, start: int, at: int, end: int) -> tuple[bytes, bytes, bytes] | None:
    message = _message(buffer, at, end)
    if message is None or message.kind != _SOLICITATION:
        return None
    hardware = message.options.get(_SOURCES, _source_hardware(buffer, start))
    return message.target, message.source, hardware


def _message(buffer: Buffer, at: int, end: int) -> _Message | None:
    if end - at < _IPV6.size + _OPTION_UNIT:
        return None
    version, length, following, hops, source, _ = _IPV6.unpack_from(buffer, at)
    begin = at + _IPV6.size
    kind, code, end_of_message = buffer[begin], buffer[begin + 1], begin + length
    fixed = _FIXED_PARTS.get(kind)
    if (
        version >> 28 != 6
        or (following, hops, code) != (ICMPV6, _FROM_THE_LINK, 0)
        or fixed is None
        or not begin + fixed <= end_of_message <= end
    ):
        return None
    options = _options(buffer, begin + fixed, end_of_message)
    if options is None:
        return None
    flags, target = 0, b""
    if fixed == _MESSAGE.size:
        *_, flags, target = _MESSAGE.unpack_from(buffer, begin)
    return _Message(kind, source, flags, target, options)


def _options(buffer: Buffer, at: int, end: int) -> dict[int, bytes] | None:
    """Hardware addresses by the kind of their option; None if one has no length or is cut off (RFC 4861 §4.6)."""
    found = {}
    while at < end:
        length = buffer[at + 1] * _OPTION_UNIT if end - at > 1 else 0
        if not 0 < length <= end - at:
            return None
        if buffer[at] in (_SOURCES, _TARGETS) and length == _OPTION.size:
            found[buffer[at]] = bytes(buffer[at + 2 : at + length])
        at += length
    return found


def _announcement(vlans: bytes, address: bytes, hardware: bytes, is_router: bool | None) -> Announcement | None:
    if not (_is_a_hosts(address) and _is_a_cards(hardware)):
        return None
    return Announcement(vlans + address, hardware, is_router)


def _source_hardware(buffer: Buffer, start: int) -> bytes:
    return bytes(buffer[start + 6 : start + ETHERNET_HEADER - 2])


def _is_a_hosts(address: bytes) -> bool:
    """Neither unspecified nor loopback, no group and no broadcast."""
    if len(address) == 4:
        return 0 < address[0] < 224 and address[0] != 127
    return address[0] != 0xFF and any(address[:15])


def _is_a_cards(hardware: bytes) -> bool:
    return not hardware[0] & 1 and any(hardware)
