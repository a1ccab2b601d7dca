"""The primary's half of one NIC: what it sends is held, what it is sent is copied.

1. The rules come last: nothing is held before somebody can give a verdict.
2. A rule that waits for a port made anew waits for it where it was, on its bridge.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from colo_bridge.config import Config, NicConfig
from colo_bridge.errors import OperatorError
from colo_bridge.kernel import bridge, firewall, forwarding, links, traffic
from colo_bridge.kernel.bridge import Hook
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.fault import first
from colo_bridge.kernel.firewall import Diversion, Placement
from colo_bridge.kernel.half import TAGGED, TAP_QUEUE, Half, never_compared
from colo_bridge.kernel.links import Link
from colo_bridge.kernel.nfqueue import PacketQueue
from colo_bridge.kernel.parts import Probes, Steps
from colo_bridge.kernel.tap import Tap
from colo_bridge.kernel.traffic import Detour

_SETTLING = 2.0
"""Seconds for which a guest port that was made anew may be up before it is back on its bridge."""
_MASTERS = ("", "bridge", "vrf")
"""Where a port's packets pass iptables: alone, or on a Linux bridge; not in Open vSwitch."""


class PrimaryNic(Half):
    """`queue` and the TAPs exist between `arm` and `disarm`."""

    queue: PacketQueue
    mirror: Tap
    """Copies of what the host sends to the primary."""
    forward: Tap | None
    """What is sent into it, the guest's bridge forwards to the clients; None where the port was on no bridge."""

    def __init__(self, guest: str, nic: NicConfig, config: Config, *, silent: bool = False) -> None:
        """`silent`: as `silence` makes it, from the beginning."""
        self._families = tuple(Family) if config.firewall.ipv6 else (Family.IPV4,)
        tables = [firewall.choose(config.firewall.backend, family) for family in self._families]
        super().__init__(guest, nic, config, nic.primary_port, _discarded(config), tables)
        self._firewalls = [firewall.open_firewall(one) for one in tables]
        self._bridged = False
        self._index, self._made = 0, float("-inf")
        self._silence(silent)

    def silence(self, on: bool) -> None:
        """Let nothing at all come from the guest, its ARP included, or again what is held and what nobody compares."""
        self._silence(on)
        self.mend({"discard"})

    def _silence(self, on: bool) -> None:
        audible = _discarded(self._config)
        self._discarded = audible | {traffic.EVERYTHING} if on else audible

    @property
    def devices(self) -> frozenset[str]:
        return frozenset((self._port, self._names.mirror, self._names.forward))

    @property
    def steps(self) -> Steps:
        return Steps(
            create=(("tap", self._create_taps),),
            contain=(("discard", self._discard), ("mirror", self._lead_away)),
            connect=(("tap", self._raise_mirror), ("forward", self._attach_forward), ("hook", self._switch_hooks_on)),
            divert=(("queue", self._bind_queue), ("rule", self._divert)),
        )

    @property
    def probes(self) -> Probes:
        return Probes(
            contain=(
                ("port", self._problem_of_port),
                ("discard", self._problem_of_discards),
                ("mirror", self._problem_of_detours),
            ),
            connect=(
                ("tap", self._problem_of_taps),
                ("forward", self._problem_of_forward),
                ("hook", self._problem_of_hooks),
            ),
            divert=(("queue", self._problem_of_queue), ("rule", self._problem_of_rules)),
        )

    def require(self) -> None:
        port = links.get(self._port)
        if port.master_kind not in _MASTERS:
            raise OperatorError(
                f"{port.name} is a port of {port.master}, whose packets iptables does not see",
                "attach it to a Linux bridge",
            )
        for tables in self.tables:
            firewall.require(tables)

    def is_left_by_another(self) -> bool:
        tag = self._names.tag
        return self._state.read() is not None or any(tag in opened.list_tagged(tag) for opened in self._firewalls)

    def open(self, undo: contextlib.ExitStack) -> None:
        self.mirror = Tap(self._names.mirror, queue_length=TAP_QUEUE)
        undo.callback(self.mirror.close)
        self.forward = self._forward_tap()
        undo.callback(self._close_forward)
        self.queue = PacketQueue(self._nic.queue_number, self._config.queue)
        undo.callback(self.queue.close)

    def close(self) -> None:
        self.queue.close()
        self.mirror.close()
        self._close_forward()

    def remove_former(self) -> None:
        """After a change of `[firewall]`: twice diverted is twice held."""
        for tables in firewall.present_tables():
            if tables not in self.tables:
                firewall.open_firewall(tables).remove(self._names.tag)

    def counted(self) -> dict[str, dict[str, int]]:
        return {
            "queue": self.queue.counters(),
            "mirror": self.mirror.counters(),
            "forward": self.forward.counters() if self.forward else {},
            "primary_discarded": traffic.discards(self._port),
        }

    def _forward_tap(self) -> Tap | None:
        bridged = links.get(self._port).bridge is not None
        return Tap(self._names.forward, queue_length=forwarding.QUEUE_LENGTH) if bridged else None

    def _close_forward(self) -> None:
        if self.forward is not None:
            self.forward.close()

    # What has to be so.

    def _raise_mirror(self) -> None:
        if not links.get(self.mirror.name).up:
            links.set_up(self.mirror.name)

    def _attach_forward(self) -> None:
        if self.forward is not None:
            forwarding.attach(self.forward.name, self._port)

    def _bind_queue(self) -> None:
        if not self.queue.is_bound():
            self.queue.rebind()

    def _switch_hooks_on(self) -> None:
        for hook in self._hooks(links.get(self._port)):
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

    def _problem_of_port(self) -> str:
        return f"{self._port} is missing" if links.find(self._port) is None else ""

    def _problem_of_forward(self) -> str:
        return forwarding.problem(self.forward.name, self._port) if self.forward else ""

    def _problem_of_queue(self) -> str:
        return "" if self.queue.is_bound() else f"queue {self._nic.queue_number} is not bound by this daemon"

    def _problem_of_hooks(self) -> str:
        port = links.find(self._port)
        hooks = self._hooks(port) if port is not None else ()
        return first(f"the {hook} is off" for hook in hooks if not bridge.hook_is_on(hook))

    def _problem_of_rules(self) -> str:
        if links.find(self._port) is None:
            return ""
        rule = self._rule()
        found = ((tables, opened.inspect(rule)) for tables, opened in zip(self.tables, self._firewalls, strict=True))
        wrong = ((tables, place) for tables, place in found if place is not Placement.FIRST)
        return first(f"the rule {rule.tag} of {tables} is {place.value}" for tables, place in wrong)

    def _taps(self) -> Iterable[Tap]:
        return filter(None, (self.mirror, self.forward))

    def _detours(self) -> tuple[Detour, ...]:
        return traffic.mirror(self._port, self.mirror.name)

    def _rule(self) -> Diversion:
        port = links.get(self._port)
        settling = self._is_settling(port)
        if port.bridge is not None or not settling:
            self._bridged = port.bridge is not None
        bypass = self._config.queue.bypass_when_dead
        return Diversion(port.name, self._bridged, self._nic.queue_number, bypass, self._names.tag)

    def _is_settling(self, port: Link) -> bool:
        """Whether a port that is alone is about to go where it was: the rule waits for it there."""
        if port.index != self._index:
            self._made = time.monotonic() if self._index else self._made
            self._index = port.index
        return not port.up or time.monotonic() - self._made < _SETTLING

    def _hooks(self, port: Link) -> tuple[Hook, ...]:
        return tuple(Hook(port.bridge, family) for family in self._families) if port.bridge is not None else ()


def _discarded(config: Config) -> frozenset[str]:
    if config.compare.mode == "observe":
        return frozenset()
    kinds = never_compared(config)
    return kinds - TAGGED if config.compare.tagged == "pass" else kinds
