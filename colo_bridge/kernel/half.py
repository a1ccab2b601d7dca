"""What both halves of a NIC's protection have: a guest port, filters on it, TAPs behind them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from colo_bridge.config import Config, NicConfig
from colo_bridge.kernel import links, traffic
from colo_bridge.kernel.fault import first
from colo_bridge.kernel.firewall import Tables
from colo_bridge.kernel.parts import Parts
from colo_bridge.kernel.tap import Tap, transit
from colo_bridge.kernel.traffic import Detour

TAP_QUEUE = 8_192
"""Frames that a TAP keeps for the daemon; a short queue loses bursts of 64 KB segments."""
TAGGED = frozenset(("vlan", "qinq"))
"""Kinds of frames whose tag the queue does not tell."""


class Half(Parts):
    """One replica's guest port and what is done to its frames."""

    def __init__(
        self,
        guest: str,
        nic: NicConfig,
        config: Config,
        port: str,
        discarded: frozenset[str],
        tables: Iterable[Tables] = (),
    ) -> None:
        """`discarded`: kinds of frames that are dropped as they come from the guest."""
        super().__init__(guest, nic, config, tables)
        self._port = port
        self._discarded = discarded

    @abstractmethod
    def _taps(self) -> Iterable[Tap]: ...

    @abstractmethod
    def _detours(self) -> tuple[Detour, ...]: ...

    # What has to be so.

    def _create_taps(self) -> None:
        """Those that somebody deleted."""
        for tap in self._taps():
            tap.restore()

    def _lead_away(self) -> None:
        for detour in self._detours():
            if traffic.ensure(detour) and detour.source == self._port:
                self._state.record_qdisc(self._port)

    def _discard(self) -> None:
        if not self._problem_of_discards():
            return
        with transit(self._names.transit) as nowhere:
            if traffic.ensure_discards(self._port, self._discarded, nowhere):
                self._state.record_qdisc(self._port)

    # What is wrong with it; empty: nothing.

    def _problem_of_taps(self) -> str:
        return first(tap.problem() for tap in self._taps())

    def _problem_of_detours(self) -> str:
        return first(traffic.problem(detour) for detour in self._detours())

    def _problem_of_discards(self) -> str:
        """A port that is missing is reported as such."""
        if links.find(self._port) is None or traffic.discards(self._port).keys() == self._discarded:
            return ""
        return f"the filters on {self._port} that drop what is not compared are not those wanted"


def never_compared(config: Config) -> frozenset[str]:
    """Kinds of frames that nobody compares, see `traffic.DISCARDS`."""
    return TAGGED if config.firewall.ipv6 else TAGGED | {"ipv6"}
