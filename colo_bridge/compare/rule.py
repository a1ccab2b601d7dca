"""Passthrough rules: which flows are left out of the comparison.

1. Every key that a rule names must fit; of several rules the first that fits counts.
2. Who opened a TCP connection is known from the first SYN; without one, only rules that do not ask fit.
3. A rule is asked once for each flow, not for each packet: the answer is a `PassthroughFlow`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from colo_bridge.wire.flow import FlowParts
from colo_bridge.wire.packet import ACK, FIN, RST, SYN, TcpPacket

Prefix = IPv4Network | IPv6Network
Ports = tuple[int, int]
"""The first and the last one."""


class Opener(enum.Enum):
    """Who sent the first SYN of a TCP connection."""

    CLIENT = "client"
    GUEST = "guest"


def opener_of(packet: TcpPacket) -> Opener | None:
    """What a guest's packet tells: a SYN opens, a SYN with ACK answers; None: nothing."""
    if not packet.flags & SYN:
        return None
    return Opener.CLIENT if packet.flags & ACK else Opener.GUEST


@dataclass(frozen=True, slots=True)
class Rule:
    """What a flow must be for its packets to pass uncompared; None: anything."""

    name: str
    protocol: int | None = None
    guest_address: Prefix | None = None
    peer_address: Prefix | None = None
    guest_ports: Ports | None = None
    peer_ports: Ports | None = None
    opened_by: Opener | None = None
    vlan: int | None = None

    def matches(self, flow: FlowParts, opened_by: Opener | None) -> bool:
        return (
            self.protocol in (None, flow.protocol)
            and self.opened_by in (None, opened_by)
            and (self.vlan is None or self.vlan in flow.vlans)
            and _is_port_in(flow.source_port, self.guest_ports)
            and _is_port_in(flow.destination_port, self.peer_ports)
            and _is_address_in(flow.source, self.guest_address)
            and _is_address_in(flow.destination, self.peer_address)
        )


class CountedRule:
    """A rule in force and what it let through (`packets`, `bytes`) and threw away (`secondary_…`)."""

    __slots__ = ("bytes", "packets", "rule", "secondary_bytes", "secondary_packets")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.packets = 0
        self.bytes = 0
        self.secondary_packets = 0
        self.secondary_bytes = 0

    def counters(self) -> dict[str, int]:
        return {
            "packets": self.packets,
            "bytes": self.bytes,
            "secondary_packets": self.secondary_packets,
            "secondary_bytes": self.secondary_bytes,
        }


class PassthroughFlow:
    """A flow that a rule leaves out; nothing ever waits in it."""

    __slots__ = ("active", "closing", "opened_by", "rule")

    idle = True

    def __init__(self, rule: CountedRule, opened_by: Opener | None, is_connection: bool, now: float) -> None:
        self.rule = rule
        self.opened_by = opened_by
        self.active = now
        # What a rule that asks for the opener has answered for cannot be found out again: kept like an open connection.
        self.closing = not is_connection

    @property
    def short_lived(self) -> bool:
        return self.closing

    def note(self, packet: TcpPacket, now: float) -> None:
        self.active = now
        if packet.flags & (FIN | RST | SYN):
            self.closing = not packet.flags & SYN


def _is_port_in(port: int | None, ports: Ports | None) -> bool:
    return ports is None or (port is not None and ports[0] <= port <= ports[1])


def _is_address_in(address: bytes, prefix: Prefix | None) -> bool:
    return prefix is None or ip_address(address) in prefix
