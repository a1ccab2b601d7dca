"""One NIC of a guest, protected on one host: everything of this package put together.

The order is the point.  Nothing is diverted before somebody can answer for it, and the
secondary's port is never up without its detour.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterable

from colo_bridge.config import Config, NicConfig
from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.kernel import bridge, firewall, forwarding, links, traffic
from colo_bridge.kernel.bridge import Hook
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.fault import Fault, Probe, Step, answer, first
from colo_bridge.kernel.firewall import Diversion, Firewall, Placement
from colo_bridge.kernel.links import Link
from colo_bridge.kernel.nfqueue import PacketQueue
from colo_bridge.kernel.state import StateFile
from colo_bridge.kernel.tap import Tap, transit
from colo_bridge.kernel.traffic import Detour
from colo_bridge.kernel.withdrawal import Names, withdraw

_TAP_QUEUE = 8_192
"""Frames that a TAP keeps for the daemon; a short queue loses bursts of 64 KB segments."""
_SETTLING = 2.0
"""Seconds for which a guest port that was made anew may be up before it is back on its bridge."""
_MASTERS = ("", "bridge", "vrf")
"""Where a port's packets pass iptables: alone, or on a Linux bridge; not in Open vSwitch."""


class NicProtection:
    """`queue` and the TAPs exist between `arm` and `disarm`.

    `check`, `mend` and `counters` may run in another thread than the one that uses those: they
    touch neither their buffers nor what waits in them.  `mend_devices` may run beside them in a third.
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
        """Held for one probe or step at a time: `mend_devices` has no time to wait for a whole check."""
        self._bridged = False
        self._primary_index, self._primary_made = 0, float("-inf")
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
            self.queue = PacketQueue(self._nic.queue_number, self._config.queue)
            undo.callback(self.queue.close)
            if not self.taken_over:
                undo.callback(self._withdraw)
            for _, step in (*self._device_steps(), *self._rule_steps()):
                step()
            undo.pop_all()
        self._remove_from_other_tables()

    @property
    def devices(self) -> frozenset[str]:
        """Names of those whose coming and going changes the protection."""
        names = self._names
        return frozenset(
            (self._nic.primary_port, self._nic.secondary_port, names.mirror, names.secondary, names.forward)
        )

    def check(self) -> list[Fault]:
        """What is not in force at this moment; meant for once a second."""
        with links.session(snapshot=True):
            return self._found((*self._device_probes(), *self._rule_probes()))

    def mend(self, parts: Collection[str] | None = None) -> None:
        """Put in force again what can be, of these parts or of all; what cannot is for the next `check` to report."""
        self._take((*self._device_steps(), *self._rule_steps()), parts)

    def mend_devices(self) -> list[Fault]:
        """The part of `check` and `mend` that takes milliseconds: for when a device came, went or changed."""
        # What keeps packets in comes first: until it is back, they pass unverified.
        faults = self._found_and_mended(self._urgent_probes(), self._urgent_steps())
        faults += self._found_and_mended(self._device_probes(), self._device_steps())
        return list(dict.fromkeys(faults))

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

    def _urgent_steps(self) -> tuple[Step, ...]:
        return (
            ("port", self._contain_secondary),
            ("redirect", self._detour_secondary),
            ("discard", self._discard),
            ("mirror", self._copy_to_secondary),
        )

    def _device_steps(self) -> tuple[Step, ...]:
        return (
            ("tap", self._create_taps),
            *self._urgent_steps(),
            ("tap", self._raise_taps),
            ("port", self._raise_secondary_port),
            ("forward", self._attach_forward),
            ("hook", self._switch_hooks_on),
        )

    def _rule_steps(self) -> tuple[Step, ...]:
        return ("queue", self._bind_queue), ("rule", self._divert)

    def _urgent_probes(self) -> tuple[Probe, ...]:
        return (
            ("port", self._problem_of_ports),
            ("redirect", self._problem_of_redirect),
            ("discard", self._problem_of_discards),
            ("mirror", self._problem_of_mirror),
        )

    def _device_probes(self) -> tuple[Probe, ...]:
        return (
            *self._urgent_probes(),
            ("tap", self._problem_of_taps),
            ("forward", self._problem_of_forward),
            ("hook", self._problem_of_hooks),
        )

    def _rule_probes(self) -> tuple[Probe, ...]:
        return ("queue", self._problem_of_queue), ("rule", self._problem_of_rules)

    def _found(self, probes: Iterable[Probe]) -> list[Fault]:
        faults = []
        for part, probe in probes:
            with self._lock:
                problem = answer(probe)
            if problem:
                faults.append(Fault(part, problem))
        return faults

    def _found_and_mended(self, probes: Iterable[Probe], steps: Iterable[Step]) -> list[Fault]:
        with links.session(snapshot=True):
            faults = self._found(probes)
        if faults:
            self._take(steps, {fault.part for fault in faults})
        return faults

    def _take(self, steps: Iterable[Step], parts: Collection[str] | None) -> None:
        """Each of them, also if another one fails; a part that nobody found at fault is not mended unsaid."""
        with links.session():
            for part, step in steps:
                if parts is None or part in parts:
                    with self._lock, contextlib.suppress(ColoBridgeError):
                        step()

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

    def _contain_secondary(self) -> None:
        """A port that came back on a bridge may be there without its redirect."""
        secondary = links.find(self._nic.secondary_port)
        if secondary is not None and secondary.master is not None and secondary.up:
            links.set_down(secondary.name)

    def _create_taps(self) -> None:
        """Those that somebody deleted."""
        for tap in self._taps():
            if links.find(tap.name) is None:
                tap.create()

    def _raise_taps(self) -> None:
        """What is sent into one before it has its redirect would reach the host."""
        if self._problem_of_redirect():
            return
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
        # The one that keeps the secondary in comes first: its port may be up already.
        for detour in reversed(self._redirect_detours()):
            self._ensure(detour)
        port = self._nic.secondary_port
        if not links.is_quiet(port):
            self._state.record_quieted(port)
            links.quiet(port)

    def _raise_secondary_port(self) -> None:
        port = links.get(self._nic.secondary_port)
        if not self._problem_of_redirect() and not port.up and port.master is None:
            links.set_up(port.name)

    def _discard(self) -> None:
        if not self._problem_of_discards():
            return
        with transit(self._names.transit) as nowhere:
            for port, kinds in filter(_exists, self._discards()):
                if traffic.ensure_discards(port, kinds, nowhere):
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
        for tap in self._taps():
            link = links.find(tap.name)
            if link is None:
                return f"{tap.name} is gone"
            if link.index != tap.index:
                return f"{tap.name} is somebody else's: delete it"
            if not link.up:
                return f"{tap.name} is down"
        return ""

    def _problem_of_forward(self) -> str:
        return forwarding.problem(self.forward.name, self._nic.primary_port) if self.forward else ""

    def _problem_of_queue(self) -> str:
        return "" if self.queue.is_bound() else f"queue {self._nic.queue} is not bound by this daemon"

    def _problem_of_mirror(self) -> str:
        return first(traffic.problem(detour) for detour in self._mirror_detours())

    def _problem_of_redirect(self) -> str:
        return first(traffic.problem(detour) for detour in self._redirect_detours())

    def _problem_of_discards(self) -> str:
        present = filter(_exists, self._discards())
        wrong = (port for port, kinds in present if traffic.discards(port).keys() != kinds)
        return first(f"the filters on {port} that drop what is not compared are not those wanted" for port in wrong)

    def _problem_of_hooks(self) -> str:
        port = links.find(self._nic.primary_port)
        hooks = self._hooks(port) if port is not None else ()
        return first(f"the {hook} is off" for hook in hooks if not bridge.hook_is_on(hook))

    def _problem_of_rules(self) -> str:
        if links.find(self._nic.primary_port) is None:
            return ""
        rule = self._rule()
        found = ((tables, opened.inspect(rule)) for tables, opened in zip(self._tables, self._firewalls, strict=True))
        wrong = ((tables, place) for tables, place in found if place is not Placement.FIRST)
        return first(f"the rule {rule.tag} of {tables} is {place.value}" for tables, place in wrong)

    def _taps(self) -> Iterable[Tap]:
        return filter(None, (self.mirror, self.secondary, self.forward))

    def _rule(self) -> Diversion:
        port = links.get(self._nic.primary_port)
        settling = self._is_settling(port)
        if port.bridge is not None or not settling:
            self._bridged = port.bridge is not None
        bypass = self._config.queue.bypass_when_dead
        return Diversion(port.name, self._bridged, self._nic.queue_number, bypass, self._names.tag)

    def _is_settling(self, port: Link) -> bool:
        """Whether a port that is alone is about to go where it was: the rule waits for it there."""
        if port.index != self._primary_index:
            self._primary_made = time.monotonic() if self._primary_index else self._primary_made
            self._primary_index = port.index
        return not port.up or time.monotonic() - self._primary_made < _SETTLING

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


def _exists(wanted: tuple[str, set[str]]) -> bool:
    """Whether this port does; one that is missing is reported as such."""
    return links.find(wanted[0]) is not None
