"""One typed configuration: every value checked, every default with its unit.

The file is TOML.  Unknown keys are refused with the nearest known name, and a
problem is always one sentence that names the key (`load` raises OperatorError).
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from colo_bridge.errors import OperatorError

DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,15}$")]
GuestName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 30)]
Interval = Annotated[float, Field(ge=0, le=86_400 * 30)]
# A Unix socket's name has 107 bytes at most (unix(7)).
SocketPath = Annotated[str, Field(pattern=r"^/", max_length=107)]
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
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


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class NicConfig(_Section):
    """One network card of the guest: where each replica is attached on this host."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,5}$")] = "net0"
    primary_port: DeviceName
    """Guest port of the primary guest."""
    secondary_port: DeviceName
    """Guest port of the secondary guest; it must not be on any bridge."""
    queue: Annotated[int, Field(ge=0, le=65_535)]
    """NFQUEUE number that holds the primary's output."""


class CompareConfig(_Section):
    """What is compared, and how long a difference in pace is tolerated."""

    mode: Literal["enforce", "observe"] = "enforce"
    """Hold packets until they match, or let everything leave at once, compare it behind that and only report."""
    timeout: Seconds = 3.0
    """Seconds that a packet may be held, or a secondary's byte stay uncompared."""
    tagged: Literal["drop", "pass"] = "drop"
    """802.1Q and 802.1ad frames of the primary, which are not compared."""
    unsynchronised: Literal["pass", "hold"] = "pass"
    """TCP connections whose opening was not seen: pass and count, or compare from where both sides meet."""


class PassthroughConfig(_Section):
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


class LimitsConfig(_Section):
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


class QueueConfig(_Section):
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


class FirewallConfig(_Section):
    backend: Literal["auto", "legacy", "nft"] = "auto"
    """Which variant holds the diversion rules; auto follows the host's `iptables` and `ip6tables` commands."""
    ipv6: bool = True
    """Divert and compare IPv6 as well; false: that of both guests is dropped."""


class CheckpointConfig(_Section):
    """Who makes the replicas equal again when they have diverged."""

    provider: Literal["command", "qmp", "none"] = "none"
    """A command, the hypervisor itself, or nobody: divergences are only reported.  `command` where one is given."""
    command: tuple[Argument, ...] = ()
    """Program and arguments, run without a shell; its exit status 0 means: done."""
    qmp_primary: SocketPath | Literal[""] = ""
    """Unix socket of the QEMU Machine Protocol of the primary guest's QEMU."""
    qmp_secondary: SocketPath | Literal[""] = ""
    """The same of the secondary guest's QEMU, as far as it is here."""
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
        if self.provider == "qmp" and not self.qmp_primary:
            raise ValueError("provider 'qmp' needs the key qmp_primary")
        return self


class EvidenceConfig(_Section):
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


class Config(_Section):
    role: Literal["primary"]
    """`primary` with both guest ports on this host."""
    guest: GuestName
    """Name of the guest: tags rules and names the run directory."""
    run_dir: Annotated[str, Field(pattern=r"^/")] = "/run/colo-bridge"
    """Directory of the control socket (`GUEST.sock`) and of the state file (`GUEST.json`)."""
    nic: Annotated[tuple[NicConfig, ...], Field(min_length=1, max_length=16)]
    compare: CompareConfig = CompareConfig()
    limits: LimitsConfig = LimitsConfig()
    queue: QueueConfig = QueueConfig()
    firewall: FirewallConfig = FirewallConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    passthrough: Annotated[tuple[PassthroughConfig, ...], Field(max_length=MOST_PASSTHROUGH_RULES)] = ()
    evidence: EvidenceConfig = EvidenceConfig()

    @model_validator(mode="after")
    def _distinct(self) -> Config:
        _refuse_repeats("name", [nic.name for nic in self.nic])
        _refuse_repeats("queue", [str(nic.queue) for nic in self.nic])
        _refuse_repeats("port", [port for nic in self.nic for port in (nic.primary_port, nic.secondary_port)])
        _refuse_repeats("name", [rule.name for rule in self.passthrough], "passthrough")
        return self

    @property
    def control_socket(self) -> Path:
        return Path(self.run_dir) / f"{self.guest}.sock"

    @property
    def state_file(self) -> Path:
        return Path(self.run_dir) / f"{self.guest}.json"


def _refuse_repeats(what: str, values: list[str], table: str = "nic") -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value!r} is used twice in [[{table}]]")


def _for_observation(config: Config) -> Config:
    """The configuration of a daemon that must never hold traffic up, whatever becomes of it."""
    if config.compare.mode != "observe":
        return config
    return config.model_copy(
        update={
            "compare": config.compare.model_copy(update={"tagged": "pass", "unsynchronised": "pass"}),
            "queue": config.queue.model_copy(update={"bypass_when_dead": True, "accept_when_full": True}),
        }
    )


def load(path: Path) -> Config:
    """Read and check a configuration file; raises OperatorError with one sentence."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise OperatorError(f"{path} is not UTF-8 text", "save it as UTF-8") from error
    return parse(text, str(path))


def parse(text: str, source: str = "configuration") -> Config:
    """Check the text of a configuration; `source` names it in errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OperatorError(f"{source} is not valid TOML: {error}") from error
    try:
        return _for_observation(Config.model_validate(_tuples(document)))
    except ValidationError as error:
        raise OperatorError(f"{source}: {_sentence(error)}") from error


def parse_passthrough(rule: object) -> PassthroughConfig:
    """Check a passthrough rule that does not stand in a file; raises OperatorError with one sentence."""
    try:
        return PassthroughConfig.model_validate(rule)
    except ValidationError as error:
        raise OperatorError(f"passthrough rule: {_sentence(error, 'passthrough')}") from error


def _tuples(value: object) -> object:
    """TOML arrays as tuples, which the strict model asks for."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _sentence(error: ValidationError, section: str = "") -> str:
    # A misspelt key is often reported as missing as well; the misspelling is the better news.
    first = min(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    where = _path(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {where}{_nearest((section, *first['loc']) if section else first['loc'])}"
    if first["type"] == "missing":
        return f"key {where} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            # Like TOML, with quotes where the name needs them: what is shown stays on one line.
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else json.dumps(part))
    return text


def _nearest(location: tuple[int | str, ...]) -> str:
    names = [str(part) for part in location if not isinstance(part, int)]
    near = difflib.get_close_matches(names[-1], _known_keys(names[:-1]), n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _known_keys(section: list[str]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "nic": NicConfig,
        "compare": CompareConfig,
        "limits": LimitsConfig,
        "queue": QueueConfig,
        "firewall": FirewallConfig,
        "checkpoint": CheckpointConfig,
        "passthrough": PassthroughConfig,
        "evidence": EvidenceConfig,
    }
    return list((sections[section[0]] if section else Config).model_fields)
