"""One NIC of a guest, protected on one host: everything of this package put together.

The order is the point.  Nothing is diverted before somebody can answer for it, and the
secondary's port is never up without its detour.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from colo_bridge.config import Config, NicConfig
from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.kernel import firewall, links, traffic
from colo_bridge.kernel.firewall import Diversion, Placement, Variant
from colo_bridge.kernel.nfqueue import PacketQueue
from colo_bridge.kernel.state import StateFile
from colo_bridge.kernel.tap import Tap
from colo_bridge.kernel.traffic import Detour
from colo_bridge.kernel.withdrawal import Names, withdraw

_TAP_QUEUE = 8_192
"""Frames that a TAP keeps for the daemon; a short queue loses bursts of 64 KB segments."""
_MASTERS = ("", "bridge", "vrf")
"""Where a port's packets pass iptables: alone, or on a Linux bridge; not in Open vSwitch."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One part of the protection that is not in force."""

    part: str
    """`port`, `tap`, `queue`, `mirror`, `redirect`, `uncompared`, `hook` or `rule`."""
    problem: str


class NicProtection:
    """`queue`, `mirror` and `secondary` exist between `arm` and `disarm`.

    `check`, `mend` and `counters` may run in another thread than the one that uses those
    three: they touch neither their buffers nor what waits in them.
    """

    queue: PacketQueue
    mirror: Tap
    """Copies of what the host sends to the primary."""
    secondary: Tap
    """Both directions of the secondary's guest port."""

    def __init__(self, guest: str, nic: NicConfig, config: Config) -> None:
        self._nic = nic
        self._config = config
        self._names = Names(guest, nic.name)
        self._state = StateFile(config.state_file, nic.name)
        self._variant: Variant = firewall.choose(config.firewall.backend)
        self._firewall = firewall.open_firewall(self._variant)
        self._lock = threading.Lock()
        self.taken_over = False
        """Whether `arm` found something in force that a killed daemon had left."""

    def arm(self) -> None:
        """Put the protection in force, or take over what a killed daemon left; errors leave no new trace."""
        self._refuse_wrong_ports()
        self.taken_over = self._left_by_another()
        with contextlib.ExitStack() as undo:
            self.mirror = Tap(self._names.mirror, queue_length=_TAP_QUEUE)
            undo.callback(self.mirror.close)
            self.secondary = Tap(self._names.secondary, queue_length=_TAP_QUEUE)
            undo.callback(self.secondary.close)
            self.queue = PacketQueue(self._nic.queue, self._config.queue)
            undo.callback(self.queue.close)
            if not self.taken_over:
                undo.callback(self._withdraw)
            for step in self._steps():
                step()
            undo.pop_all()
        self._remove_from_other_variant()

    def check(self) -> list[Fault]:
        """What is not in force at this moment; meant for once a second."""
        with self._lock, links.session(snapshot=True):
            return [Fault(part, problem) for part, probe in self._probes() if (problem := _answer(probe))]

    def mend(self) -> None:
        """Put in force again what can be; what cannot is for the next `check` to report."""
        with self._lock, links.session():
            for step in self._steps():
                with contextlib.suppress(ColoBridgeError):
                    step()

    def disarm(self) -> None:
        """Remove everything; the secondary's port stays down."""
        with self._lock:
            try:
                self._withdraw()
            finally:
                self.queue.close()
                self.mirror.close()
                self.secondary.close()

    def counters(self) -> dict[str, int]:
        """The kernel's own numbers: `queue_…`, `mirror_…`, `secondary_…`, `uncompared_…`."""
        groups = {
            "queue": self.queue.counters(),
            "mirror": self.mirror.counters(),
            "secondary": self.secondary.counters(),
            "uncompared": traffic.discards(self._nic.primary_port) or {},
        }
        return {f"{group}_{name}": count for group, counts in groups.items() for name, count in counts.items()}

    def _steps(self) -> tuple[Callable[[], None], ...]:
        return (
            self._raise_taps,
            self._bind_queue,
            self._copy_to_secondary,
            self._detour_secondary,
            self._raise_secondary_port,
            self._drop_uncompared,
            self._switch_hook_on,
            self._divert,
        )

    def _probes(self) -> tuple[tuple[str, Callable[[], str]], ...]:
        return (
            ("port", self._problem_of_ports),
            ("tap", self._problem_of_taps),
            ("queue", self._problem_of_queue),
            ("mirror", self._problem_of_mirror),
            ("redirect", self._problem_of_redirect),
            ("uncompared", self._problem_of_discards),
            ("hook", self._problem_of_hook),
            ("rule", self._problem_of_rule),
        )

    def _refuse_wrong_ports(self) -> None:
        primary, secondary = links.get(self._nic.primary_port), links.get(self._nic.secondary_port)
        if primary.master_kind not in _MASTERS:
            raise OperatorError(
                f"{primary.name} is a port of {primary.master}, whose packets iptables does not see",
                "attach it to a Linux bridge",
            )
        if secondary.master is not None:
            raise OperatorError(
                f"{secondary.name}, the secondary's port, is a port of {secondary.master}",
                "detach it: what the secondary sends must reach nobody",
            )

    def _left_by_another(self) -> bool:
        return self._state.read() is not None or self._names.tag in self._firewall.list_tagged(self._names.tag)

    def _withdraw(self) -> None:
        for _ in withdraw(self._names, self._nic, self._state, [self._variant]):
            pass

    def _remove_from_other_variant(self) -> None:
        """After a change of `firewall.backend`: twice diverted is twice held."""
        for variant in firewall.present_variants():
            if variant != self._variant:
                firewall.open_firewall(variant).remove(self._names.tag)

    # What has to be so, in this order.

    def _raise_taps(self) -> None:
        for tap in (self.mirror, self.secondary):
            if not links.get(tap.name).up:
                links.set_up(tap.name)

    def _bind_queue(self) -> None:
        if not self.queue.is_bound():
            self.queue.rebind()

    def _copy_to_secondary(self) -> None:
        for detour in self._mirror_detours():
            self._ensure(detour)

    def _detour_secondary(self) -> None:
        port = self._nic.secondary_port
        if not links.is_quiet(port):
            self._state.record_quieted(port)
            links.quiet(port)
        for detour in self._redirect_detours():
            self._ensure(detour)

    def _raise_secondary_port(self) -> None:
        if not self._problem_of_redirect() and not links.get(self._nic.secondary_port).up:
            links.set_up(self._nic.secondary_port)

    def _drop_uncompared(self) -> None:
        port = self._nic.primary_port
        if not self._problem_of_discards():
            return
        with contextlib.closing(Tap(self._names.transit, queue_length=1)):
            if traffic.ensure_discards(port, self._names.transit):
                self._state.record_qdisc(port)

    def _switch_hook_on(self) -> None:
        bridge = links.get(self._nic.primary_port).bridge
        if bridge is None:
            return
        before = self._state.users_before(bridge)
        self._state.record_hook(bridge, all(before) if before else links.hook_is_on(bridge))
        if not links.hook_is_on(bridge):
            links.set_hook(bridge, True)

    def _divert(self) -> None:
        rule = self._rule()
        if self._firewall.inspect(rule) is not Placement.FIRST:
            self._firewall.place(rule)

    # What is wrong with it; empty: nothing.

    def _problem_of_ports(self) -> str:
        secondary = links.find(self._nic.secondary_port)
        if links.find(self._nic.primary_port) is None:
            return f"{self._nic.primary_port} is missing"
        if secondary is None:
            return f"{self._nic.secondary_port} is missing"
        if secondary.master is not None:
            return f"{secondary.name}, the secondary's port, is a port of {secondary.master}"
        return "" if secondary.up else f"{secondary.name} is down"

    def _problem_of_taps(self) -> str:
        for tap in (self.mirror, self.secondary):
            link = links.find(tap.name)
            if link is None or link.index != tap.index:
                return f"{tap.name} is gone: restart the daemon"
            if not link.up:
                return f"{tap.name} is down"
        return ""

    def _problem_of_queue(self) -> str:
        return "" if self.queue.is_bound() else f"queue {self._nic.queue} is not bound by this daemon"

    def _problem_of_mirror(self) -> str:
        return _first(traffic.problem(detour) for detour in self._mirror_detours())

    def _problem_of_redirect(self) -> str:
        return _first(traffic.problem(detour) for detour in self._redirect_detours())

    def _problem_of_discards(self) -> str:
        if self._config.compare.uncompared == "pass" or traffic.discards(self._nic.primary_port) is not None:
            return ""
        return f"a filter on {self._nic.primary_port} that drops what is not compared is gone"

    def _problem_of_hook(self) -> str:
        port = links.find(self._nic.primary_port)
        if port is None or port.bridge is None or links.hook_is_on(port.bridge):
            return ""
        return f"the iptables hook of {port.bridge} is off"

    def _problem_of_rule(self) -> str:
        if links.find(self._nic.primary_port) is None:
            return ""
        found = self._firewall.inspect(self._rule())
        return "" if found is Placement.FIRST else f"the rule {self._names.tag} is {found.value}"

    def _rule(self) -> Diversion:
        bridged = links.get(self._nic.primary_port).bridge is not None
        bypass = self._config.queue.bypass_when_dead
        return Diversion(self._nic.primary_port, bridged, self._nic.queue, bypass, self._names.tag)

    def _mirror_detours(self) -> tuple[Detour, ...]:
        return traffic.mirror(self._nic.primary_port, self.mirror.name)

    def _redirect_detours(self) -> tuple[Detour, ...]:
        return traffic.redirect(self._nic.secondary_port, self.secondary.name)

    def _ensure(self, detour: Detour) -> None:
        if traffic.ensure(detour) and detour.source in (self._nic.primary_port, self._nic.secondary_port):
            self._state.record_qdisc(detour.source)


def _answer(probe: Callable[[], str]) -> str:
    """A probe that fails is a fault as well."""
    try:
        return probe()
    except ColoBridgeError as error:
        return error.problem


def _first(problems: Iterable[str]) -> str:
    return next((problem for problem in problems if problem), "")
