"""The four namespaces and the links between them.

cb-client eth0 ── cb-c0 ┐
                        ├ cb-br0    (all in cb-host)
cb-primary eth0 ─ cb-p0 ┘
cb-secondary eth0 ── cb-s0          on no bridge, and down
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pyroute2 import NetNS, netns
from pyroute2.netlink.exceptions import NetlinkError

from colo_bridge.errors import KernelError, OperatorError
from colo_bridge.kernel import links
from colo_bridge.lab.layout import (
    BRIDGE,
    CLIENT_ADDRESS,
    CLIENT_IPV6_ADDRESS,
    CLIENT_MAC,
    CLIENT_PORT,
    GUEST_ADDRESS,
    GUEST_DEVICE,
    GUEST_IPV6_ADDRESS,
    GUEST_MAC,
    GUESTS,
    IPV6_PREFIX_LENGTH,
    PREFIX_LENGTH,
    PRIMARY_PORT,
    SECONDARY_PORT,
    Role,
)

NO_DUPLICATE_DETECTION = 0x02
"""Flag of an address that is used at once, without asking whether somebody else has it (linux/if_addr.h)."""
_NOTHING_OF_ITS_OWN = {
    "disable_ipv6": 0,
    "addr_gen_mode": 1,
    "accept_ra": 0,
    "router_solicitations": 0,
}
"""IPv6 with no address but those that are given; what it says to the link are the multicast reports for these."""


@dataclass(frozen=True, slots=True)
class _Host:
    """Who one speaks as on the lab's network."""

    address: str
    ipv6_address: str


_CLIENT = _Host(CLIENT_ADDRESS, CLIENT_IPV6_ADDRESS)
_GUEST = _Host(GUEST_ADDRESS, GUEST_IPV6_ADDRESS)


def build() -> None:
    """Make everything; the secondary's guest port stays down, for the daemon to raise.

    Raises OperatorError without the privileges and KernelError for every other refusal.
    """
    try:
        _build()
    except PermissionError as error:
        raise OperatorError("the lab may not make network namespaces here", "run it as root") from error
    except (NetlinkError, OSError) as error:
        raise KernelError(f"the kernel refused a part of the lab: {error}") from error


def remove() -> list[str]:
    """Remove every namespace of the lab that exists, and with them all links; returns their names."""
    found = existing()
    for role in found:
        with contextlib.suppress(FileNotFoundError):
            netns.remove(role.namespace)
    return [role.namespace for role in found]


def existing() -> list[Role]:
    return [role for role in Role if role.namespace_file.exists()]


def _build() -> None:
    for role in Role:
        netns.create(role.namespace)
    with NetNS(Role.HOST.namespace) as host:
        _make_host(host)
    _make_end(Role.CLIENT, _CLIENT)
    for guest in GUESTS:
        _make_end(guest, _GUEST)


def _make_host(host: NetNS) -> None:
    host.link("set", index=_index(host, "lo"), state="up")
    host.link("add", ifname=BRIDGE, kind="bridge", br_forward_delay=0, br_stp_state=0, br_mcast_snooping=0)
    _add_port(host, CLIENT_PORT, Role.CLIENT, CLIENT_MAC)
    _add_port(host, PRIMARY_PORT, Role.PRIMARY, GUEST_MAC)
    _add_port(host, SECONDARY_PORT, Role.SECONDARY, GUEST_MAC)
    # In the host only our own devices fall silent: what the daemon adds has to see to itself.
    for device in (BRIDGE, CLIENT_PORT, PRIMARY_PORT, SECONDARY_PORT):
        _set_ipv6(Role.HOST, device, {"disable_ipv6": 1})
    bridge = _index(host, BRIDGE)
    for port in (CLIENT_PORT, PRIMARY_PORT):
        host.link("set", index=_index(host, port), master=bridge, state="up")
    host.link("set", index=bridge, state="up")


def _add_port(host: NetNS, port: str, role: Role, mac: str) -> None:
    peer = {"ifname": GUEST_DEVICE, "net_ns_fd": role.namespace, "address": mac}
    host.link("add", ifname=port, kind="veth", peer=peer)


def _make_end(role: Role, own: _Host) -> None:
    _set_ipv6(role, GUEST_DEVICE, _NOTHING_OF_ITS_OWN)
    with NetNS(role.namespace) as space:
        device = _index(space, GUEST_DEVICE)
        space.link("set", index=_index(space, "lo"), state="up")
        space.link("set", index=device, state="up")
        networks = [(own.address, PREFIX_LENGTH)]
        if links.has_ipv6():
            networks.append((own.ipv6_address, IPV6_PREFIX_LENGTH))
        for address, length in networks:
            space.addr("add", index=device, address=address, prefixlen=length, flags=NO_DUPLICATE_DETECTION)


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
