"""The TAP by which packets of our own reach the clients: a port of the guest's bridge.

The bridge forwards what is sent into it by its table of addresses, as if the guest had sent it, but past our
rules, which name the guest port.  It neither learns from the TAP nor floods to it, so that nobody reads it.
"""

from __future__ import annotations

from colo_bridge.kernel import bridge, links
from colo_bridge.kernel.links import Link
from colo_bridge.kernel.tap import LARGEST_MTU

QUEUE_LENGTH = 1
"""Frames for which there is room: all that a bridge sends here unasked is its own protocol."""


def attach(tap: str, port: str) -> None:
    """Put the TAP where the guest port is; to be called again after that has changed."""
    device, guest = links.get(tap), links.get(port)
    if device.mtu != _mtu(guest):
        # A bridge takes the smallest MTU of its ports: the guest port's makes no difference.
        links.change(tap, mtu=_mtu(guest))
    if device.bridge != guest.bridge or not bridge.is_one_way(tap):
        links.set_down(tap)
        if guest.bridge is None:
            links.change(tap, master=0)
        else:
            bridge.join_one_way(tap, guest.bridge)
    links.set_up(tap)


def problem(tap: str, port: str) -> str:
    """What is wrong with where the TAP is; empty: nothing, or the guest port is missing."""
    device, guest = links.find(tap), links.find(port)
    if device is None or guest is None:
        return ""
    if device.bridge != guest.bridge:
        return f"{tap} is not a port of {guest.bridge}" if guest.bridge else f"{tap} is still a port of {device.bridge}"
    if device.mtu != _mtu(guest):
        return f"{tap} has another MTU than {port}"
    if guest.bridge is not None and not bridge.is_one_way(tap):
        return f"{guest.bridge} learns from {tap}, or floods to it"
    return ""


def _mtu(guest: Link) -> int:
    return min(guest.mtu, LARGEST_MTU)
