"""What the demo plans, and what it saw."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from colo_bridge.lab.counters import add_up
from colo_bridge.lab.failover import Outcome
from colo_bridge.lab.ftp import FtpMode
from colo_bridge.lab.layout import Mode


@dataclass(frozen=True, slots=True)
class Plan:
    """How much the demo moves; sizes are in bytes."""

    small: int = 200_000_000
    large: int = 1_000_000_000
    marked: int = 20_000_000
    """The file that differs in one byte."""
    turns: int = 10_000
    rounds: int = 2
    """Times that protected and native take turns."""
    failover_seconds: float = 2.0
    """For which a transfer lasts whose host dies meanwhile."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file in one direction."""

    operation: str
    """`get` or `put`."""
    name: str
    length: int
    ftp_mode: FtpMode

    def __str__(self) -> str:
        return f"{self.operation.upper()} {self.length / 1e6:g} MB, {self.ftp_mode}"


@dataclass(frozen=True, slots=True)
class Timing:
    """One measured transfer."""

    transfer: Transfer
    mode: Mode
    seconds: float

    @property
    def gbps(self) -> float:
        return self.transfer.length * 8 / self.seconds / 1e9


@dataclass(frozen=True, slots=True)
class Expectation:
    """Something that has to be so, and whether it was."""

    act: int
    text: str
    ok: bool
    detail: str = ""


@dataclass(slots=True)
class Story:
    """Everything that the demo saw, as it comes."""

    expectations: list[Expectation] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    turns: dict[Mode, dict[str, Any]] = field(default_factory=dict)
    injected: dict[str, int] = field(default_factory=dict)
    reported: dict[str, Any] | None = None
    statuses: list[dict[str, Any]] = field(default_factory=list)
    failovers: list[Outcome] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(expectation.ok for expectation in self.expectations)

    def expect(self, act: int, text: str, ok: bool, detail: str = "") -> None:
        self.expectations.append(Expectation(act, text, ok, detail))

    def counters(self) -> dict[str, int]:
        """Of all protected rounds together."""
        return self._total("counters")

    def divergences(self) -> dict[str, int]:
        return self._total("divergences")

    def checkpoints(self) -> dict[str, int]:
        return self._total("checkpoints")

    def throughput(self) -> list[dict[str, Any]]:
        """For each transfer the median of its rounds, native and protected, and their ratio."""
        transfers = dict.fromkeys(timing.transfer for timing in self.timings)
        return [_compare(str(transfer), *(self._median(transfer, mode) for mode in Mode)) for transfer in transfers]

    def turn_ratio(self) -> float | None:
        native, protected = (self.turns.get(mode, {}).get("p50_us") for mode in Mode)
        return protected / native if native and protected else None

    def document(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {
            "ok": self.ok,
            "expectations": [asdict(expectation) for expectation in self.expectations],
            "throughput": self.throughput(),
            "turns": {**{mode.value: turns for mode, turns in self.turns.items()}, "ratio": self.turn_ratio()},
            "divergence": {"injected": self.injected, "reported": self.reported},
            "divergences": self.divergences(),
            "checkpoints": self.checkpoints(),
            "counters": self.counters(),
            "failovers": [asdict(outcome) for outcome in self.failovers],
        }

    def _total(self, part: str) -> dict[str, int]:
        return add_up(status.get(part, {}) for status in self.statuses)

    def _median(self, transfer: Transfer, mode: Mode) -> float | None:
        found = [timing.gbps for timing in self.timings if timing.transfer == transfer and timing.mode is mode]
        return statistics.median(found) if found else None


def _compare(name: str, native: float | None, protected: float | None) -> dict[str, Any]:
    ratio = protected / native if native and protected else None
    return {"transfer": name, "native_gbps": native, "protected_gbps": protected, "ratio": ratio}
