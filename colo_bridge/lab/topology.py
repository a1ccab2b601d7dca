"""The namespaces of a shape, and the bridges and cables in and between them, made and removed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from pyroute2 import NetNS, netns
from pyroute2.netlink.exceptions import NetlinkError

from colo_bridge.errors import KernelError, OperatorError
from colo_bridge.kernel import links
from colo_bridge.lab.layout import GUEST_DEVICE, GUESTS, Guests, Role
from colo_bridge.lab.shape import Cable, End, Shape

NO_DUPLICATE_DETECTION = 0x02
"""Flag of an address that is used at once, without asking whether somebody else has it (linux/if_addr.h)."""
_NO_IPV6 = {"disable_ipv6": 1}
"""A device without IPv6 says nothing of its own accord."""
_NOTHING_OF_ITS_OWN = {
    "disable_ipv6": 0,
    "addr_gen_mode": 1,
    "accept_ra": 0,
    "router_solicitations": 0,
}
"""IPv6 with no address but those that are given; what it says to the link are the multicast reports for these."""


def build(shape: Shape, guests: Guests) -> None:
    """Make everything; the secondary's guest port reaches nobody: down, for the daemon to raise, or barred.

    Raises OperatorError without the privileges and KernelError for every other refusal.
    """
    try:
        _build(shape, guests)
    except PermissionError as error:
        raise OperatorError("the lab may not make network namespaces here", "run it as root") from error
    except (NetlinkError, OSError, subprocess.CalledProcessError) as error:
        raise KernelError(f"the kernel refused a part of the lab: {error}") from error


def remove() -> list[str]:
    """Remove every namespace of the lab that exists, and with them all links; returns their names."""
    found = existing()
    for role in found:
        with contextlib.suppress(FileNotFoundError):
            netns.remove(role.namespace)
    return [role.namespace for role in found]


def exchange_guest(cable: Cable) -> None:
    """Put a new guest, without connections, at an end of a cable, and leave the host's end down and on no bridge."""
    host_end, guest_end = cable
    with contextlib.suppress(FileNotFoundError):
        netns.remove(guest_end.role.namespace)
    netns.create(guest_end.role.namespace)
    bare = replace(host_end, bridge="")
    with NetNS(host_end.role.namespace) as host, NetNS(guest_end.role.namespace) as guest:
        if found := host.link_lookup(ifname=host_end.device):
            host.link("del", index=found[0])
        guest.link("set", index=_index(guest, "lo"), state="up")
        _lay(host, (bare, guest_end))
        _finish(host, bare)
        _finish(guest, guest_end)


def exchange_tap(port: End) -> None:
    """Have a virtual machine's guest port anew, barred, and on no bridge."""
    with NetNS(port.role.namespace) as host:
        host.link("del", index=_index(host, port.device))
        _make_tap(host, replace(port, bridge=""))


def existing() -> list[Role]:
    return [role for role in Role if role.namespace_file.exists()]


def _build(shape: Shape, guests: Guests) -> None:
    roles = [role for role in shape.roles if guests is Guests.NAMESPACES or role not in GUESTS]
    for role in roles:
        netns.create(role.namespace)
    with contextlib.ExitStack() as stack:
        spaces = {role: stack.enter_context(NetNS(role.namespace)) for role in roles}
        for space in spaces.values():
            space.link("set", index=_index(space, "lo"), state="up")
        for role, bridge in shape.bridges:
            _make_bridge(spaces[role], role, bridge)
        for cable in shape.cables:
            if cable[1].role in roles:
                _lay(spaces[cable[0].role], cable)
                for end in cable:
                    _finish(spaces[end.role], end)
            else:
                _make_tap(spaces[cable[0].role], cable[0])


def _make_bridge(space: NetNS, role: Role, name: str) -> None:
    space.link("add", ifname=name, kind="bridge", br_forward_delay=0, br_stp_state=0, br_mcast_snooping=0)
    # Only our own devices fall silent: what the daemon adds has to see to itself.
    _set_ipv6(role, name, _NO_IPV6)
    space.link("set", index=_index(space, name), state="up")


def _lay(space: NetNS, cable: Cable) -> None:
    here, there = cable
    far_end = {"ifname": there.device, "net_ns_fd": there.role.namespace, **_address(there)}
    space.link("add", ifname=here.device, kind="veth", peer=far_end, **_address(here))


def _make_tap(space: NetNS, port: End) -> None:
    """The guest port of a virtual machine; one on no bridge is barred, and up."""
    if port.bridge:
        subprocess.run(enter(port.role, ["ip", "tuntap", "add", "mode", "tap", "name", port.device]), check=True)
        _finish(space, port)
    else:
        # Unlike nsenter, `ip netns exec` also shows the namespace's own /sys.
        ours = [sys.executable, "-m", "colo_bridge", "port", "create", port.device]
        subprocess.run(["ip", "netns", "exec", port.role.namespace, *ours], check=True)


def _address(end: End) -> dict[str, str]:
    return {"address": end.mac} if end.mac else {}


def _finish(space: NetNS, end: End) -> None:
    """Give one end of a cable what it needs, and raise it if it is to be up."""
    addresses = [entry for entry in end.addresses if links.has_ipv6() or not _is_ipv6(entry)]
    device = _index(space, end.device)
    _set_ipv6(end.role, end.device, _NOTHING_OF_ITS_OWN if any(map(_is_ipv6, addresses)) else _NO_IPV6)
    if end.bridge:
        space.link("set", index=device, master=_index(space, end.bridge))
    if end.up:
        space.link("set", index=device, state="up")
    for address, length in addresses:
        space.addr("add", index=device, address=address, prefixlen=length, flags=NO_DUPLICATE_DETECTION)


def _is_ipv6(entry: tuple[str, int]) -> bool:
    return ":" in entry[0]


def _index(space: NetNS, device: str) -> int:
    found = space.link_lookup(ifname=device)
    if not found:
        raise KernelError(f"device {device} is missing")
    return int(found[0])


def _set_ipv6(role: Role, device: str, settings: dict[str, int]) -> None:
    """The device's own sysctls; a kernel without IPv6 has none."""
    script = 'cd "$0" 2>/dev/null || exit 0; for pair; do echo "${pair#*=}" > "${pair%%=*}"; done'
    pairs = [f"{name}={value}" for name, value in settings.items()]
    subprocess.run(enter(role, ["sh", "-c", script, f"/proc/sys/net/ipv6/conf/{device}", *pairs]), check=True)


def enter(role: Role, command: Sequence[str]) -> list[str]:
    """The command that runs `command` in the role's network namespace; everything else stays shared."""
    return ["nsenter", f"--net={role.namespace_file}", "--", *command]


def environment(role: Role) -> dict[str, str]:
    """What a command in the lab finds in its environment: who it is, and its own directory."""
    return {**os.environ, "CB_ROLE": role.value, "CB_DIR": str(role.directory)}


def wait_carrier(role: Role, seconds: float = 5.0) -> None:
    """Wait until the role's device has its carrier, or raise KernelError."""
    deadline = time.monotonic() + seconds
    with NetNS(role.namespace) as space:
        while not _has_carrier(space):
            if time.monotonic() > deadline:
                raise KernelError(f"{role.namespace} {GUEST_DEVICE} has no carrier after {seconds:g} s")
            time.sleep(0.01)


def _has_carrier(space: NetNS) -> bool:
    (link,) = space.get_links(_index(space, GUEST_DEVICE))
    return bool(link.get_attr("IFLA_CARRIER"))
