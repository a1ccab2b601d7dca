"""The rules that divert a guest port's packets into a queue: one for each family, through either iptables variant.

Each stands first in PREROUTING of the table mangle: an ACCEPT ahead of it would switch it
off silently, and what it accepts itself still passes the operator's filter rules.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, Protocol

from colo_bridge.errors import ColoBridgeError, KernelError, OperatorError
from colo_bridge.kernel import links
from colo_bridge.kernel.family import Family

TAG_PREFIX = "colo-bridge:"
TABLE, CHAIN = "mangle", "PREROUTING"
_LEGACY_TABLES = {
    Family.IPV4: Path("/proc/thread-self/net/ip_tables_names"),
    Family.IPV6: Path("/proc/thread-self/net/ip6_tables_names"),
}
_COMMAND_SECONDS = 30.0

Variant = Literal["legacy", "nft"]


@dataclass(frozen=True, slots=True)
class Tables:
    """One family's tables in one variant; rules of another are invisible there."""

    variant: Variant
    family: Family

    def __str__(self) -> str:
        return f"{self.family.command}-{self.variant}"


@dataclass(frozen=True, slots=True)
class Diversion:
    """One rule; `tag` is its comment and begins with `TAG_PREFIX`."""

    port: str
    bridged: bool
    queue: int
    bypass: bool
    tag: str

    def arguments(self) -> list[str]:
        """The rule as iptables takes and prints it."""
        match = ["-m", "physdev", "--physdev-in", self.port] if self.bridged else ["-i", self.port]
        target = ["-j", "NFQUEUE", "--queue-num", str(self.queue)]
        return [*match, "-m", "comment", "--comment", self.tag, *target, *(["--queue-bypass"] if self.bypass else [])]


class Placement(Enum):
    """Where a diversion is: in force only when nothing but our own rules stands ahead of it."""

    FIRST = "first"
    MISPLACED = "behind a rule that is not ours"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule of the chain: its tag if it is ours, and whether it is the one looked for."""

    tag: str | None
    identical: bool


class Firewall(Protocol):
    """One family's tables of this network namespace."""

    def place(self, rule: Diversion) -> None:
        """Make the rule the first one; others of the same tag vanish in the same instant."""

    def inspect(self, rule: Diversion) -> Placement:
        """Where the rule stands now."""

    def remove(self, tag: str) -> bool:
        """Remove all rules of this tag; True if there were any."""

    def list_tagged(self, prefix: str) -> list[str]:
        """Tags that begin so, in the order of the chain."""


def tag_of(guest: str, nic: str) -> str:
    return f"{TAG_PREFIX}{guest}:{nic}"


def our_tag(comments: Sequence[str]) -> str | None:
    """The first comment that marks a rule as one of colo-bridge."""
    return next((comment for comment in comments if comment.startswith(TAG_PREFIX)), None)


def placement(rules: Sequence[Listed]) -> Placement:
    for rule in rules:
        if rule.identical:
            return Placement.FIRST
        if rule.tag is None:
            break
    return Placement.MISPLACED if any(rule.identical for rule in rules) else Placement.ABSENT


def choose(backend: Literal["auto", "legacy", "nft"], family: Family) -> Tables:
    """`auto` follows the host's command; without one python-iptables does the work."""
    if backend != "auto":
        return Tables(backend, family)
    return Tables("nft" if _is_nft(family.command) else "legacy", family)


def open_firewall(tables: Tables) -> Firewall:
    """OperatorError if what this variant needs is not installed."""
    # Imported when needed: a host needs to have only one of the two variants.
    try:
        module = importlib.import_module(f"colo_bridge.kernel.firewall_{tables.variant}")
    except (ImportError, OSError, AttributeError) as error:
        raise OperatorError(f"{tables} does not work here: {error}", "install iptables") from error
    opened: Firewall = module.open_firewall(tables.family)
    return opened


def require(tables: Tables) -> None:
    """Raise what prevents the use of these tables; of IPv6, which a host may lack, also how to do without."""
    try:
        if tables.family is Family.IPV6 and not links.has_ipv6():
            raise KernelError("this kernel runs without IPv6")
        open_firewall(tables).list_tagged(TAG_PREFIX)
    except ColoBridgeError as error:
        if tables.family is not Family.IPV6:
            raise
        hint = "set `firewall.ipv6 = false` if the guest does without: its IPv6 is then dropped"
        raise OperatorError(f"IPv6 cannot be diverted: {error.problem}", hint) from error


def present_tables() -> list[Tables]:
    """Those that may hold rules here.  Looking must not load the legacy tables of a host that uses nft."""
    found: dict[Variant, Callable[[Family], bool]] = {"legacy": _legacy_in_use, "nft": _nft_installed}
    return [Tables(variant, family) for variant, present in found.items() for family in Family if present(family)]


def run(command: list[str], text: str | None = None) -> str:
    """Run an iptables command, `text` on its standard input; KernelError with its last words."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"cannot run {command[0]}: {error}", "install iptables") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise KernelError(
            f"`{' '.join(command)}` failed: {last}",
            f"run as root; see `{command[0].removesuffix('-restore')} -t mangle -S`",
        )
    return done.stdout


def _legacy_in_use(family: Family) -> bool:
    try:
        return TABLE in _LEGACY_TABLES[family].read_text(encoding="ascii").split()
    except OSError:
        return False


def _nft_installed(family: Family) -> bool:
    return shutil.which(f"{family.command}-nft") is not None or _is_nft(family.command)


def _is_nft(command: str) -> bool:
    return shutil.which(command) is not None and "nf_tables" in run([command, "--version"])
