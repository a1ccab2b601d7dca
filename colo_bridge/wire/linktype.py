"""What captures hold: packets behind various link headers, brought to one form, an Ethernet frame.

Where a capture has no Ethernet header its addresses are zeros.

Link types: https://www.tcpdump.org/linktypes.html
"""

from __future__ import annotations

from collections.abc import Callable

from colo_bridge.wire.packet import ETHERNET_HEADER, Buffer

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_TAGS = (b"\x81\x00", b"\x88\xa8")
_TAG = 4
_NO_ADDRESSES = bytes(12)


def as_ethernet(link_type: int) -> Callable[[bytes], bytearray] | None:
    """What makes an Ethernet frame of a packet of this link type; None: it is not known.

    What is too short for its link header becomes an empty frame, which no parser takes.
    """
    return _FORMS.get(link_type)


def addresses(frame: Buffer) -> tuple[bytes, bytes] | None:
    """Source and destination of the IP packet in an Ethernet frame; None: it has none, or not whole."""
    at = ip_offset(frame)
    if at is None:
        return None
    # Fast path: IPv4.
    if frame[at - 2 : at] == _IPV4:
        return (bytes(frame[at + 12 : at + 16]), bytes(frame[at + 16 : at + 20])) if len(frame) >= at + 20 else None
    return (bytes(frame[at + 8 : at + 24]), bytes(frame[at + 24 : at + 40])) if len(frame) >= at + 40 else None


def ip_offset(frame: Buffer) -> int | None:
    """Where the IP packet begins, whatever the number of VLAN tags; None: there is none."""
    at = ETHERNET_HEADER - 2
    while frame[at : at + 2] in _TAGS:
        at += _TAG
    return at + 2 if frame[at : at + 2] in (_IPV4, _IPV6) else None


def _raw(data: bytes) -> bytearray:
    is_ipv6 = data[:1] and data[0] >> 4 == 6
    return bytearray(_NO_ADDRESSES + (_IPV6 if is_ipv6 else _IPV4) + data)


def _loopback(data: bytes) -> bytearray:
    """Behind four bytes of an address family, whose numbers differ from system to system."""
    return _raw(data[4:])


def _cooked(data: bytes) -> bytearray:
    """Linux "cooked": the Ethernet type (and what follows it, tags included) stands at the end of 16 bytes."""
    return bytearray(_NO_ADDRESSES + data[14:]) if len(data) >= 16 else bytearray()


def _cooked_2(data: bytes) -> bytearray:
    """Its second version has it at the beginning of 20."""
    return bytearray(_NO_ADDRESSES + data[:2] + data[20:]) if len(data) >= 20 else bytearray()


_FORMS: dict[int, Callable[[bytes], bytearray]] = {
    0: _loopback,  # NULL
    1: bytearray,  # ETHERNET
    12: _raw,  # RAW, as some systems number it
    14: _raw,
    101: _raw,  # RAW
    108: _loopback,  # LOOP
    113: _cooked,  # LINUX_SLL
    228: _raw,  # IPV4
    229: _raw,  # IPV6
    276: _cooked_2,  # LINUX_SLL2
}
