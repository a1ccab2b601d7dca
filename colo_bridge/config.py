"""One typed configuration: every value checked, every default with its unit.

The file is TOML.  Unknown keys are refused with the nearest known name, and a
problem is always one sentence that names the key (`load` raises OperatorError).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from colo_bridge.config_link import ArbiterConfig, LinkConfig
from colo_bridge.config_sections import (
    MOST_PASSTHROUGH_RULES,
    CheckpointConfig,
    CompareConfig,
    ControlConfig,
    EvidenceConfig,
    FirewallConfig,
    GuestName,
    LimitsConfig,
    NicConfig,
    PassthroughConfig,
    QueueConfig,
    Section,
)
from colo_bridge.errors import OperatorError

__all__ = [
    "MOST_PASSTHROUGH_RULES",
    "ArbiterConfig",
    "CheckpointConfig",
    "CompareConfig",
    "Config",
    "ControlConfig",
    "EvidenceConfig",
    "FirewallConfig",
    "LimitsConfig",
    "LinkConfig",
    "NicConfig",
    "PassthroughConfig",
    "QueueConfig",
    "load",
    "parse",
    "parse_passthrough",
]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

_PLACES = ("primary_port", "secondary_port", "queue", "bridge")
_PLACES_HERE = {
    "both replicas on one host": ("primary_port", "secondary_port", "queue"),
    "the primary of two hosts": ("primary_port", "queue"),
    "the secondary of two hosts": ("secondary_port", "bridge"),
}
"""Where a NIC is attached: the keys that each kind of daemon needs, and it takes no others."""
_DIGEST_CHARACTERS = 16


class Config(Section):
    role: Literal["primary", "secondary"]
    """Which replica is on this host; `primary` without `link`: both are."""
    guest: GuestName
    """Name of the guest: tags rules and names the run directory."""
    run_dir: Annotated[str, Field(pattern=r"^/")] = "/run/colo-bridge"
    """Directory of the control socket (`GUEST.sock`) and of the state file (`GUEST.json`)."""
    nic: Annotated[tuple[NicConfig, ...], Field(min_length=1, max_length=16)]
    link: LinkConfig | None = None
    arbiter: ArbiterConfig = ArbiterConfig()
    compare: CompareConfig = CompareConfig()
    limits: LimitsConfig = LimitsConfig()
    queue: QueueConfig = QueueConfig()
    firewall: FirewallConfig = FirewallConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    passthrough: Annotated[tuple[PassthroughConfig, ...], Field(max_length=MOST_PASSTHROUGH_RULES)] = ()
    evidence: EvidenceConfig = EvidenceConfig()
    control: ControlConfig = ControlConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        self._check_role()
        self._check_nics()
        self._check_checkpoint()
        _refuse_repeats("name", [rule.name for rule in self.passthrough], "passthrough")
        return self

    def _check_role(self) -> None:
        if self.link is None:
            if self.role == "secondary":
                raise ValueError("role: 'secondary' needs the section [link]")
            if self.arbiter.command:
                raise ValueError("arbiter.command has no meaning without the section [link]")
            return
        if self.role == "primary" and not self.link.listen:
            raise ValueError("key link.listen is missing")
        if self.role == "primary" and self.link.peer:
            raise ValueError("link.peer has no meaning for the primary: the secondary connects to it")
        if self.role == "secondary" and not self.link.peer:
            raise ValueError("key link.peer is missing")
        if self.link.on_primary_lost == "arbiter" and not self.arbiter.command:
            raise ValueError("link.on_primary_lost: 'arbiter' needs the key arbiter.command")
        if self.arbiter.command and self.queue.bypass_when_dead:
            raise ValueError("queue.bypass_when_dead: no guest may speak with [arbiter] for whom nobody has asked it")

    def _check_nics(self) -> None:
        here = "both replicas on one host" if self.link is None else f"the {self.role} of two hosts"
        for number, nic in enumerate(self.nic, 1):
            for key in _PLACES:
                given, wanted = getattr(nic, key) not in ("", None), key in _PLACES_HERE[here]
                if wanted and not given:
                    raise ValueError(f"key nic[{number}].{key} is missing")
                if given and not wanted:
                    raise ValueError(f"nic[{number}].{key} has no meaning for {here}")
        _refuse_repeats("name", [nic.name for nic in self.nic])
        _refuse_repeats("queue", [str(nic.queue) for nic in self.nic if nic.queue is not None])
        ports = [port for nic in self.nic for port in (nic.primary_port, nic.secondary_port)]
        _refuse_repeats("port", [port for port in ports if port])

    def _check_checkpoint(self) -> None:
        checkpoint = self.checkpoint
        key = "qmp" if self.two_hosts else "qmp_primary"
        if checkpoint.provider == "qmp" and not getattr(checkpoint, key):
            raise ValueError(f"checkpoint: provider 'qmp' needs the key {key}")
        for other in ("qmp_primary", "qmp_secondary") if self.two_hosts else ("qmp",):
            if getattr(checkpoint, other):
                where = "with [link]: the key is qmp" if self.two_hosts else "without [link]: the key is qmp_primary"
                raise ValueError(f"checkpoint.{other} has no meaning {where}")

    @property
    def two_hosts(self) -> bool:
        """Whether the other replica is on another host."""
        return self.link is not None

    @property
    def control_socket(self) -> Path:
        return Path(self.run_dir) / f"{self.guest}.sock"

    @property
    def state_file(self) -> Path:
        return Path(self.run_dir) / f"{self.guest}.json"

    def digest(self) -> str:
        """Of what must be the same on both hosts, in a few characters."""
        alike = self.model_dump(
            mode="json",
            include={
                "guest": True,
                "nic": {"__all__": {"name"}},
                "compare": True,
                "passthrough": True,
                "firewall": {"ipv6"},
                "checkpoint": {"provider"},
            },
        )
        # A side that asks nobody would go on alone beside one that has won.
        alike["arbiter"] = bool(self.arbiter.command)
        return hashlib.sha256(json.dumps(alike, sort_keys=True).encode()).hexdigest()[:_DIGEST_CHARACTERS]


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
        "link": LinkConfig,
        "arbiter": ArbiterConfig,
        "control": ControlConfig,
    }
    return list((sections[section[0]] if section else Config).model_fields)
