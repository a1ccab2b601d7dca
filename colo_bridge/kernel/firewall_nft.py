"""Diversion rules of the nf_tables variant, through the host's own iptables commands.

python-iptables cannot reach these tables, and a rule in the legacy ones would be
invisible to an operator whose `iptables` is this variant.
"""

from __future__ import annotations

import contextlib
import itertools
import shlex
import shutil

from colo_bridge.errors import KernelError, OperatorError
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.firewall import CHAIN, TABLE, Diversion, Listed, Placement, our_tag, placement, run

_ATTEMPTS = 5


class NftFirewall:
    """The chain PREROUTING of one family; every change is one atomic transaction."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._restore = f"{command}-restore"

    def place(self, rule: Diversion) -> None:
        insertion = f"-I {CHAIN} 1 {' '.join(rule.arguments())}"
        self._exchange(rule.tag, [insertion])
        if self.inspect(rule) is not Placement.FIRST:
            raise KernelError(f"the rule {rule.tag} did not stay first", "does another program rewrite the firewall?")

    def inspect(self, rule: Diversion) -> Placement:
        wanted = rule.arguments()
        return placement([Listed(_tag(found), found == wanted) for found in self._rules()])

    def remove(self, tag: str) -> bool:
        removed = self._exchange(tag, [])
        if removed:
            self._forget_empty_chain()
        return removed

    def list_tagged(self, prefix: str) -> list[str]:
        return [tag for found in self._rules() if (tag := _tag(found)) is not None and tag.startswith(prefix)]

    def _exchange(self, tag: str, additions: list[str]) -> bool:
        """Remove the tag's rules and add others at once; again if the chain changed in between."""
        for attempt in range(_ATTEMPTS):
            stale = [f"-D {CHAIN} {shlex.join(found)}" for found in self._rules() if _tag(found) == tag]
            if not stale and not additions:
                return False
            try:
                self._commit([*stale, *additions])
            except KernelError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return bool(stale)
        return False

    def _commit(self, lines: list[str]) -> None:
        text = "\n".join([f"*{TABLE}", *lines, "COMMIT", ""])
        run([self._restore, "--noflush", "--wait"], text)

    def _rules(self) -> list[list[str]]:
        listing = run([self._command, "--wait", "-t", TABLE, "-S", CHAIN])
        return [words[2:] for line in listing.splitlines() if (words := shlex.split(line))[:1] == ["-A"]]

    def _forget_empty_chain(self) -> None:
        """The first rule made the chain; older versions keep it, which harms nothing."""
        listing = run([self._command, "--wait", "-t", TABLE, "-S", CHAIN])
        if listing.split() == ["-P", CHAIN, "ACCEPT"]:
            with contextlib.suppress(KernelError):
                run([self._command, "--wait", "-t", TABLE, "-X", CHAIN])


def open_firewall(family: Family) -> NftFirewall:
    for command in (f"{family.command}-nft", family.command):
        if _is_nft(command):
            return NftFirewall(command)
    problem = f"there is no {family.command} of the nf_tables variant"
    raise OperatorError(problem, "install iptables, or set firewall.backend")


def _is_nft(command: str) -> bool:
    installed = shutil.which(command) and shutil.which(f"{command}-restore")
    return bool(installed) and "nf_tables" in run([command, "--version"])


def _tag(rule: list[str]) -> str | None:
    return our_tag([value for option, value in itertools.pairwise(rule) if option == "--comment"])
