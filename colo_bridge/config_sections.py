"""The sections of the configuration that every daemon has: types of the values, and each section's own rules."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# The empty string stands for what is not given; which keys a role needs is for the whole configuration to say.
OptionalDevice = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,15}$")]
OptionalPath = Annotated[str, Field(pattern=r"^(/|$)")]
GuestName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 30)]
Interval = Annotated[float, Field(ge=0, le=86_400 * 30)]
# A Unix socket's name has 107 bytes at most (unix(7)).
OptionalSocket = Annotated[str, Field(pattern=r"^(/|$)", max_length=107)]
Argument = Annotated[str, Field(min_length=1)]

MOST_PASSTHROUGH_RULES = 64
"""In the configuration and added later, together."""

_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
_HIGHEST_PROTOCOL = 254


def _protocol(value: object) -> object:
    """A protocol by its name or its number (IANA)."""
    number = _PROTOCOLS.get(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _HIGHEST_PROTOCOL:
        raise ValueError(f"{value!r} is no protocol: {', '.join(_PROTOCOLS)}, or a number up to {_HIGHEST_PROTOCOL}")
    return number


def _prefix(value: str) -> str:
    return str(ipaddress.ip_network(value))


def _ports(value: object) -> object:
    """A port, or the first and the last one with a hyphen between them."""
    first, hyphen, last = str(value).partition("-")
    ports = [first, last] if hyphen else [first, first]
    if not all(port.isascii() and port.isdigit() and int(port) <= 65_535 for port in ports):
        raise ValueError(f"{value!r} is no port (up to 65535) and no range like 5000-5999")
    if int(ports[0]) > int(ports[1]):
        raise ValueError(f"the range {value} is reversed")
    return str(value)


Prefix = Annotated[str, AfterValidator(_prefix)]
Ports = Annotated[str, BeforeValidator(_ports)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class NicConfig(Section):
    """One network card of the guest: where its replicas, or the one that is here, are attached on this host."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,5}$")] = "net0"
    primary_port: OptionalDevice = ""
    """Guest port of the primary guest."""
    secondary_port: OptionalDevice = ""
    """Guest port of the secondary guest; it must not be on any bridge."""
    queue: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """NFQUEUE number that holds the primary's output."""
    bridge: OptionalDevice = ""
    """Bridge that the secondary guest speaks on once it is the service."""

    @property
    def queue_number(self) -> int:
        """`queue`, where the primary is here."""
        assert self.queue is not None
        return self.queue


class CompareConfig(Section):
    """What is compared, and how long a difference in pace is tolerated."""

    mode: Literal["enforce", "observe"] = "enforce"
    """Hold packets until they match, or let everything leave at once, compare it behind that and only report."""
    timeout: Seconds = 3.0
    """Seconds that a packet may be held, or a secondary's byte stay uncompared."""
    tagged: Literal["drop", "pass"] = "drop"
    """802.1Q and 802.1ad frames of the primary, which are not compared."""
    unsynchronised: Literal["pass", "hold"] = "pass"
    """TCP connections whose opening was not seen: pass and count, or compare from where both sides meet."""


class PassthroughConfig(Section):
    """Traffic of the guest that is left out of the comparison: all keys that are given must fit."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    protocol: Annotated[int, BeforeValidator(_protocol)] | None = None
    """`tcp`, `udp`, `icmp`, `icmpv6` or a number."""
    guest_address: Prefix | None = None
    """Prefix that the guest's address is in."""
    peer_address: Prefix | None = None
    """Prefix that the address of whom it speaks to is in."""
    guest_ports: Ports | None = None
    """The guest's port, or a range like `5000-5999`."""
    peer_ports: Ports | None = None
    """The port of whom it speaks to."""
    opened_by: Literal["client", "guest"] | None = None
    """Who sent the first SYN of a TCP connection."""
    vlan: Annotated[int, Field(ge=1, le=4_094)] | None = None
    """VLAN identifier of one of the frame's tags."""

    @model_validator(mode="after")
    def _sensible(self) -> PassthroughConfig:
        if not self.model_dump(exclude={"name"}, exclude_none=True):
            raise ValueError(f"the rule {self.name!r} names no traffic: it would leave out everything")
        for key in ("guest_ports", "peer_ports"):
            if getattr(self, key) is not None and self.protocol not in (None, _PROTOCOLS["tcp"], _PROTOCOLS["udp"]):
                raise ValueError(f"{key} needs the protocol tcp or udp")
        families = {
            ipaddress.ip_network(prefix).version for prefix in (self.guest_address, self.peer_address) if prefix
        }
        if len(families) > 1:
            raise ValueError("guest_address and peer_address are of different families")
        if self.opened_by is not None and self.protocol != _PROTOCOLS["tcp"]:
            raise ValueError("opened_by needs the protocol tcp")
        return self


class LimitsConfig(Section):
    """Bounds of everything that can grow; each has a counter."""

    held_packets: Annotated[int, Field(ge=16, le=1_000_000)] = 8_192
    held_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    secondary_packets: Annotated[int, Field(ge=16, le=1_000_000)] = 16_384
    secondary_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    connections: Annotated[int, Field(ge=16, le=10_000_000)] = 65_536
    established_idle: Seconds = 432_000.0
    """Seconds after which an idle open connection is forgotten."""
    closing_idle: Seconds = 120.0
    """Seconds after which an idle unanswered or ended connection or datagram flow is forgotten."""


class QueueConfig(Section):
    """The kernel's queue of held packets."""

    length: Annotated[int, Field(ge=16, le=1_000_000)] = 8_192
    """Packets that the kernel holds at most."""
    socket_buffer: Annotated[int, Field(ge=1 << 18, le=1 << 30)] = 64 << 20
    """Bytes of packets that wait for the daemon to read them."""
    busy_poll_us: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Microseconds for which the daemon looks for the guests' answer to what it has just delivered; 0: it sleeps."""
    bypass_when_dead: bool = False
    """Let packets pass unverified while no daemon listens (iptables --queue-bypass)."""
    accept_when_full: bool = False
    """Let packets pass unverified while the queue is full (the queue's FAIL_OPEN flag)."""


class FirewallConfig(Section):
    backend: Literal["auto", "legacy", "nft"] = "auto"
    """Which variant holds the diversion rules; auto follows the host's `iptables` and `ip6tables` commands."""
    ipv6: bool = True
    """Divert and compare IPv6 as well; false: that of both guests is dropped."""


class CheckpointConfig(Section):
    """Who makes the replicas equal again when they have diverged."""

    provider: Literal["command", "qmp", "none"] = "none"
    """A command, the hypervisor itself, or nobody: divergences are only reported.  `command` where one is given."""
    command: tuple[Argument, ...] = ()
    """Program and arguments, run without a shell; its exit status 0 means: done."""
    qmp: OptionalSocket = ""
    """Unix socket of the QEMU Machine Protocol of the QEMU that is here, with replicas on two hosts."""
    qmp_primary: OptionalSocket = ""
    """The same of the primary guest's QEMU, with both replicas on one host."""
    qmp_secondary: OptionalSocket = ""
    """The same of the secondary guest's QEMU."""
    timeout: Seconds = 30.0
    """Seconds after which the command is killed, or a checkpoint that has not begun counts as failed."""
    pause_timeout: Seconds = 10.0
    """Seconds after which a checkpoint that the guest stands still for counts as failed."""
    retry_interval: Seconds = 1.0
    """Seconds between a failed checkpoint and the next try."""
    min_interval: Interval = 0.0
    """Least seconds between the end of a checkpoint and the beginning of the next one that is asked for."""
    period: Interval = 0.0
    """Seconds after a checkpoint when another one is asked for without any other reason; 0: never."""

    @model_validator(mode="before")
    @classmethod
    def _provider_of_command(cls, value: object) -> object:
        return {"provider": "command", **value} if isinstance(value, dict) and value.get("command") else value

    @model_validator(mode="after")
    def _complete(self) -> CheckpointConfig:
        if self.provider == "command" and not self.command:
            raise ValueError("provider 'command' needs the key command")
        return self


class EvidenceConfig(Section):
    """Captures of what differed; they hold users' data.  `evidence = false` is short for `enabled = false`."""

    enabled: bool = True
    """Write each divergence with its packets to a pcapng file."""
    directory: Annotated[str, Field(pattern=r"^/")] = "/var/lib/colo-bridge"
    """Each guest has a directory of its own in it."""
    snap_length: Annotated[int, Field(ge=64, le=65_575)] = 65_575
    """Bytes kept of each packet."""
    max_bytes: Annotated[int, Field(ge=2 << 20)] = 64 << 20
    """Bytes of all files of one guest; the oldest goes first."""
    max_age: Annotated[float, Field(ge=60, le=86_400 * 3_650)] = 604_800.0
    """Seconds after which a file is removed."""

    @model_validator(mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        return {"enabled": value} if isinstance(value, bool) else value


class ControlConfig(Section):
    """Who may use the control socket besides root and the daemon's own user."""

    uids: Annotated[tuple[Annotated[int, Field(ge=0, le=0xFFFF_FFFE)], ...], Field(max_length=64)] = ()
    """Numbers of users, for all verbs."""
