"""Diversion rules of the legacy variant, through python-iptables.

Its tables are cached for the process, its commits swallow errors and it does not take
the lock of the iptables commands.  So: one process per network namespace, everything
under that lock, refreshed before and read again after each change.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator

import iptc

from colo_bridge.errors import KernelError, OperatorError
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.firewall import CHAIN, TABLE, Diversion, Listed, Placement, our_tag, placement

_LOCK_FILE = "/run/xtables.lock"
_LOCK_SECONDS = 20.0
_LOCK_PAUSE = 0.02
_THREADS = threading.Lock()


class LegacyFirewall:
    """The chain PREROUTING of one family; a commit exchanges the whole table at once."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._seen_with = f"`{family.command}-legacy -t mangle -S` and `dmesg`"

    def place(self, rule: Diversion) -> None:
        with _locked_table(self._family) as chain:
            for _, found in _tagged(chain, rule.tag):
                chain.delete_rule(found)
            chain.insert_rule(_rule(rule, self._family))
        if self.inspect(rule) is not Placement.FIRST:
            raise KernelError(f"the rule {rule.tag} was not placed", f"see {self._seen_with}")

    def inspect(self, rule: Diversion) -> Placement:
        wanted = _rule(rule, self._family)
        with _locked_table(self._family, change=False) as chain:
            return placement([Listed(tag := _tag(found), tag == rule.tag and found == wanted) for found in chain.rules])

    def remove(self, tag: str) -> bool:
        with _locked_table(self._family) as chain:
            stale = _tagged(chain, tag)
            for _, found in stale:
                chain.delete_rule(found)
        if tag in self.list_tagged(tag):
            raise KernelError(f"the rule {tag} was not removed", f"see {self._seen_with}")
        return bool(stale)

    def list_tagged(self, prefix: str) -> list[str]:
        with _locked_table(self._family, change=False) as chain:
            return [tag for found in chain.rules if (tag := _tag(found)) is not None and tag.startswith(prefix)]


def open_firewall(family: Family) -> LegacyFirewall:
    return LegacyFirewall(family)


def _rule(rule: Diversion, family: Family) -> iptc.Rule:
    made = iptc.Rule6() if family is Family.IPV6 else iptc.Rule()
    if rule.bridged:
        made.create_match("physdev").physdev_in = rule.port
    else:
        made.in_interface = rule.port
    made.create_match("comment").comment = rule.tag
    target = made.create_target("NFQUEUE")
    target.queue_num = str(rule.queue)
    if rule.bypass:
        target.queue_bypass = ""
    return made


def _tagged(chain: iptc.Chain, tag: str) -> list[tuple[str, iptc.Rule]]:
    return [(found_tag, found) for found in chain.rules if (found_tag := _tag(found)) == tag]


def _tag(rule: iptc.Rule) -> str | None:
    """None also for a foreign rule whose extensions python-iptables cannot read."""
    try:
        return our_tag([match.comment for match in rule.matches if match.name == "comment"])
    except (iptc.XTablesError, iptc.IPTCError, AttributeError, KeyError, ValueError):
        return None


@contextlib.contextmanager
def _locked_table(family: Family, *, change: bool = True) -> Iterator[iptc.Chain]:
    with _THREADS, _lock_of_iptables(), _explained(family):
        table = (iptc.Table6 if family is Family.IPV6 else iptc.Table)(TABLE, autocommit=False)
        table.autocommit = False
        table.refresh()
        yield iptc.Chain(table, CHAIN)
        if change:
            table.commit()
            table.refresh()


@contextlib.contextmanager
def _lock_of_iptables() -> Iterator[None]:
    try:
        descriptor = os.open(_LOCK_FILE, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(f"cannot open {_LOCK_FILE}: {error.strerror}", "run as root") from error
    try:
        _take(descriptor)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise KernelError(f"{_LOCK_FILE} is held by another program", "which iptables command hangs?") from None
            time.sleep(_LOCK_PAUSE)


@contextlib.contextmanager
def _explained(family: Family) -> Iterator[None]:
    try:
        yield
    except (iptc.IPTCError, iptc.XTablesError) as error:
        if "ermission" in str(error):
            raise OperatorError(
                f"no permission to change {family.command}", "run as root or with CAP_NET_ADMIN and CAP_NET_RAW"
            ) from error
        raise KernelError(f"{family.command} (legacy): {error}", "does this kernel have the legacy tables?") from error
