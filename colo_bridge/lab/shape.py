"""The two shapes of the lab: the namespaces, bridges and cables of each, and its hosts with their daemons.

One host:

    cb-client eth0 ── cb-c0 ┐
                            ├ cb-br0    (all in cb-host)
    cb-primary eth0 ─ cb-p0 ┘
    cb-secondary eth0 ── cb-s0          on no bridge, and down

Two hosts:

    cb-client eth0 ─────── cb-c0 ┐
    cb-host-a cb-u0 ────── cb-a0 ├ cb-sw0            (in cb-network)
    cb-host-b cb-u0 ────── cb-b0 ┘

    cb-primary eth0 ─ cb-p0 ┬ cb-br0 ─ cb-u0          (in cb-host-a)
                              cb-br0 ─ cb-u0          (in cb-host-b)
    cb-secondary eth0 ─ cb-s0                         (in cb-host-b) on no bridge, and down
    cb-host-a cb-l0 ── cb-l0 cb-host-b                the link of the daemons
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

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
    LINK_ADDRESSES,
    LINK_PORT,
    LINK_PREFIX_LENGTH,
    PREFIX_LENGTH,
    PRIMARY_PORT,
    QUEUE_NUMBER,
    RUN_DIR,
    SECONDARY_PORT,
    SWITCH,
    UPLINK_PORT,
    Role,
)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a cable: a device in a namespace."""

    role: Role
    device: str
    mac: str = ""
    """Empty: the kernel chooses."""
    bridge: str = ""
    """That it is a port of."""
    addresses: tuple[tuple[str, int], ...] = ()
    """With their prefix lengths; an end with neither bridge nor addresses is left down."""

    @property
    def up(self) -> bool:
        return bool(self.bridge or self.addresses)


Cable = tuple[End, End]


@dataclass(frozen=True, slots=True)
class Host:
    """A host that a daemon runs on."""

    role: Role
    suffix: str
    """Ends the names of its files."""
    daemon_role: str
    nic: dict[str, Any]
    """How the guest is attached here, as the daemon's configuration has it."""
    ready: tuple[str, ...]
    """States of its daemon in which all is as it should be."""

    @property
    def config_file(self) -> Path:
        return RUN_DIR / f"lab{self.suffix}.toml"

    @property
    def guest_port(self) -> str:
        return str(self.nic["primary_port" if self.daemon_role == "primary" else "secondary_port"])

    @property
    def guest(self) -> Role:
        """The replica that is attached to that port."""
        ports = (entry for shape in Shape for entry in shape.guest_ports.items())
        return next(guest for guest, port in ports if (port.role, port.device) == (self.role, self.guest_port))

    @property
    def log_file(self) -> Path:
        return RUN_DIR / f"daemon{self.suffix}.log"


class Shape(StrEnum):
    """How many hosts there are."""

    ONE_HOST = "one-host"
    TWO_HOSTS = "two-hosts"

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host with a daemon; the daemon of the first one compares."""
        return _HOSTS[self]

    @property
    def has_link(self) -> bool:
        """Whether two daemons talk to each other."""
        return len(self.hosts) > 1

    @property
    def bridges(self) -> tuple[tuple[Role, str], ...]:
        return _BRIDGES[self]

    @property
    def cables(self) -> tuple[Cable, ...]:
        return _CABLES[self]

    @property
    def roles(self) -> tuple[Role, ...]:
        """Every namespace."""
        ends = {end.role for cable in self.cables for end in cable}
        return tuple(role for role in Role if role in ends)

    @property
    def guest_ports(self) -> dict[Role, End]:
        """The host's end of each guest's cable."""
        return {there.role: here for here, there in self.cables if there.role in GUESTS}


_COMPARING = ("protected", "observing")
_PRIMARY_NIC = {"primary_port": PRIMARY_PORT, "queue": QUEUE_NUMBER}
_SECONDARY_NIC = {"secondary_port": SECONDARY_PORT}
_HOSTS = {
    Shape.ONE_HOST: (Host(Role.HOST, "", "primary", _PRIMARY_NIC | _SECONDARY_NIC, _COMPARING),),
    Shape.TWO_HOSTS: (
        Host(Role.HOST_A, "-a", "primary", _PRIMARY_NIC, _COMPARING),
        Host(Role.HOST_B, "-b", "secondary", _SECONDARY_NIC | {"bridge": BRIDGE}, ("standby",)),
    ),
}
FIRST_HOST_AS_SECONDARY = Host(
    Role.HOST_A, "-a", "secondary", {"secondary_port": PRIMARY_PORT, "bridge": BRIDGE}, ("standby",)
)
"""The first of two hosts, once the second one has taken over and wants a secondary."""
HOST_ROLES = tuple(host.role for hosts in _HOSTS.values() for host in hosts)

_BRIDGES = {
    Shape.ONE_HOST: ((Role.HOST, BRIDGE),),
    Shape.TWO_HOSTS: ((Role.NETWORK, SWITCH), (Role.HOST_A, BRIDGE), (Role.HOST_B, BRIDGE)),
}

_CLIENT_ADDRESSES = ((CLIENT_ADDRESS, PREFIX_LENGTH), (CLIENT_IPV6_ADDRESS, IPV6_PREFIX_LENGTH))
_GUEST_ADDRESSES = ((GUEST_ADDRESS, PREFIX_LENGTH), (GUEST_IPV6_ADDRESS, IPV6_PREFIX_LENGTH))
_CLIENT = End(Role.CLIENT, GUEST_DEVICE, CLIENT_MAC, addresses=_CLIENT_ADDRESSES)
_PRIMARY = End(Role.PRIMARY, GUEST_DEVICE, GUEST_MAC, addresses=_GUEST_ADDRESSES)
_SECONDARY = End(Role.SECONDARY, GUEST_DEVICE, GUEST_MAC, addresses=_GUEST_ADDRESSES)


def _port(role: Role, device: str, bridge: str = BRIDGE) -> End:
    return End(role, device, bridge=bridge)


def _link_end(role: Role, address: str) -> End:
    return End(role, LINK_PORT, addresses=((address, LINK_PREFIX_LENGTH),))


_CABLES: dict[Shape, tuple[Cable, ...]] = {
    Shape.ONE_HOST: (
        (_port(Role.HOST, CLIENT_PORT), _CLIENT),
        (_port(Role.HOST, PRIMARY_PORT), _PRIMARY),
        (End(Role.HOST, SECONDARY_PORT), _SECONDARY),
    ),
    Shape.TWO_HOSTS: (
        (_port(Role.NETWORK, CLIENT_PORT, SWITCH), _CLIENT),
        (_port(Role.NETWORK, "cb-a0", SWITCH), _port(Role.HOST_A, UPLINK_PORT)),
        (_port(Role.NETWORK, "cb-b0", SWITCH), _port(Role.HOST_B, UPLINK_PORT)),
        (_port(Role.HOST_A, PRIMARY_PORT), _PRIMARY),
        (End(Role.HOST_B, SECONDARY_PORT), _SECONDARY),
        (_link_end(Role.HOST_A, LINK_ADDRESSES[0]), _link_end(Role.HOST_B, LINK_ADDRESSES[1])),
    ),
}
