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
from colo_bridge.kernel import bridge, firewall, forwarding, links, traffic
from colo_bridge.kernel.bridge import Hook
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.firewall import Diversion, Firewall, Placement
from colo_bridge.kernel.links import Link
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
    """`port`, `tap`, `forward`, `queue`, `mirror`, `redirect`, `discard`, `hook` or `rule`."""
    problem: str


class NicProtection:
    """`queue` and the TAPs exist between `arm` and `disarm`.

    `check`, `mend` and `counters` may run in another thread than the one that uses those: they
    touch neither their buffers nor what waits in them.
    """

    queue: PacketQueue
    mirror: Tap
    """Copies of what the host sends to the primary."""
    secondary: Tap
    """Both directions of the secondary's guest port."""
    forward: Tap | None
    """What is sent into it, the guest's bridge forwards to the clients; None where the port was on no bridge."""

    def __init__(self, guest: str, nic: NicConfig, config: Config) -> None:
        self._nic = nic
        self._config = config
        self._names = Names(guest, nic.name)
        self._state = StateFile(config.state_file, nic.name)
        self._families = tuple(Family) if config.firewall.ipv6 else (Family.IPV4,)
        self._tables = [firewall.choose(config.firewall.backend, family) for family in self._families]
        self._firewalls: list[Firewall] = [firewall.open_firewall(tables) for tables in self._tables]
        self._lock = threading.Lock()
        self.taken_over = False
        """Whether `arm` found something in force that a killed daemon had left."""

    def arm(self) -> None:
        """Put the protection in force, or take over what a killed daemon left; errors leave no new trace."""
        self._refuse_wrong_ports()
        for tables in self._tables:
            firewall.require(tables)
        self.taken_over = self._left_by_another()
        with contextlib.ExitStack() as undo:
            self.mirror = Tap(self._names.mirror, queue_length=_TAP_QUEUE)
            undo.callback(self.mirror.close)
            self.secondary = Tap(self._names.secondary, queue_length=_TAP_QUEUE)
            undo.callback(self.secondary.close)
            self.forward = self._forward_tap()
            undo.callback(self._close_forward)
            self.queue = PacketQueue(self._nic.queue, self._config.queue)
            undo.callback(self.queue.close)
            if not self.taken_over:
                undo.callback(self._withdraw)
            for step in self._steps():
                step()
            undo.pop_all()
        self._remove_from_other_tables()

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
                self._close_forward()

    def counters(self) -> dict[str, int]:
        """The kernel's own numbers: `queue_…`, `mirror_…`, `secondary_…`, `forward_…` and what is discarded."""
        with links.session(snapshot=True):
            groups = {
                "queue": self.queue.counters(),
                "mirror": self.mirror.counters(),
                "secondary": self.secondary.counters(),
                "forward": self.forward.counters() if self.forward else {},
                "primary_discarded": traffic.discards(self._nic.primary_port),
                "secondary_discarded": traffic.discards(self._nic.secondary_port),
            }
        return {f"{group}_{name}": count for group, counts in groups.items() for name, count in counts.items()}

    def _steps(self) -> tuple[Callable[[], None], ...]:
        return (
            self._raise_taps,
            self._attach_forward,
            self._bind_queue,
            self._copy_to_secondary,
            self._detour_secondary,
            self._discard,
            self._raise_secondary_port,
            self._switch_hooks_on,
            self._divert,
        )

    def _probes(self) -> tuple[tuple[str, Callable[[], str]], ...]:
        return (
            ("port", self._problem_of_ports),
            ("tap", self._problem_of_taps),
            ("forward", self._problem_of_forward),
            ("queue", self._problem_of_queue),
            ("mirror", self._problem_of_mirror),
            ("redirect", self._problem_of_redirect),
            ("discard", self._problem_of_discards),
            ("hook", self._problem_of_hooks),
            ("rule", self._problem_of_rules),
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
        tag = self._names.tag
        return self._state.read() is not None or any(tag in opened.list_tagged(tag) for opened in self._firewalls)

    def _withdraw(self) -> None:
        for _ in withdraw(self._names, self._nic, self._state, self._tables):
            pass

    def _remove_from_other_tables(self) -> None:
        """After a change of `[firewall]`: twice diverted is twice held."""
        for tables in firewall.present_tables():
            if tables not in self._tables:
                firewall.open_firewall(tables).remove(self._names.tag)

    def _forward_tap(self) -> Tap | None:
        bridged = links.get(self._nic.primary_port).bridge is not None
        return Tap(self._names.forward, queue_length=forwarding.QUEUE_LENGTH) if bridged else None

    def _close_forward(self) -> None:
        if self.forward is not None:
            self.forward.close()

    # What has to be so, in this order.

    def _raise_taps(self) -> None:
        for tap in (self.mirror, self.secondary):
            if not links.get(tap.name).up:
                links.set_up(tap.name)

    def _attach_forward(self) -> None:
        if self.forward is not None:
            forwarding.attach(self.forward.name, self._nic.primary_port)

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

    def _discard(self) -> None:
        if not self._problem_of_discards():
            return
        with contextlib.closing(Tap(self._names.transit, queue_length=1)):
            for port, kinds in self._discards():
                if traffic.ensure_discards(port, kinds, self._names.transit):
                    self._state.record_qdisc(port)

    def _switch_hooks_on(self) -> None:
        for hook in self._hooks(links.get(self._nic.primary_port)):
            before = self._state.users_before(hook)
            self._state.record_hook(hook, all(before) if before else bridge.hook_is_on(hook))
            if not bridge.hook_is_on(hook):
                bridge.set_hook(hook, True)

    def _divert(self) -> None:
        rule = self._rule()
        for opened in self._firewalls:
            if opened.inspect(rule) is not Placement.FIRST:
                opened.place(rule)

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
        for tap in filter(None, (self.mirror, self.secondary, self.forward)):
            link = links.find(tap.name)
            if link is None or link.index != tap.index:
                return f"{tap.name} is gone: restart the daemon"
            if not link.up:
                return f"{tap.name} is down"
        return ""

    def _problem_of_forward(self) -> str:
        return forwarding.problem(self.forward.name, self._nic.primary_port) if self.forward else ""

    def _problem_of_queue(self) -> str:
        return "" if self.queue.is_bound() else f"queue {self._nic.queue} is not bound by this daemon"

    def _problem_of_mirror(self) -> str:
        return _first(traffic.problem(detour) for detour in self._mirror_detours())

    def _problem_of_redirect(self) -> str:
        return _first(traffic.problem(detour) for detour in self._redirect_detours())

    def _problem_of_discards(self) -> str:
        wrong = (port for port, kinds in self._discards() if traffic.discards(port).keys() != kinds)
        return _first(f"the filters on {port} that drop what is not compared are not those wanted" for port in wrong)

    def _problem_of_hooks(self) -> str:
        port = links.find(self._nic.primary_port)
        hooks = self._hooks(port) if port is not None else ()
        return _first(f"the {hook} is off" for hook in hooks if not bridge.hook_is_on(hook))

    def _problem_of_rules(self) -> str:
        if links.find(self._nic.primary_port) is None:
            return ""
        rule = self._rule()
        found = ((tables, opened.inspect(rule)) for tables, opened in zip(self._tables, self._firewalls, strict=True))
        wrong = ((tables, place) for tables, place in found if place is not Placement.FIRST)
        return _first(f"the rule {rule.tag} of {tables} is {place.value}" for tables, place in wrong)

    def _rule(self) -> Diversion:
        bridged = links.get(self._nic.primary_port).bridge is not None
        bypass = self._config.queue.bypass_when_dead
        return Diversion(self._nic.primary_port, bridged, self._nic.queue, bypass, self._names.tag)

    def _hooks(self, port: Link) -> tuple[Hook, ...]:
        return tuple(Hook(port.bridge, family) for family in self._families) if port.bridge is not None else ()

    def _discards(self) -> tuple[tuple[str, set[str]], ...]:
        """For each guest port the kinds of frames that nobody compares."""
        undiverted = set() if Family.IPV6 in self._families else {"ipv6"}
        tagged = {"vlan", "qinq"}
        primary = undiverted if self._config.compare.tagged == "pass" else undiverted | tagged
        if self._config.compare.mode == "observe":
            primary = set()
        return (self._nic.primary_port, primary), (self._nic.secondary_port, undiverted | tagged)

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
