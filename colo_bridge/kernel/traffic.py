"""Copies and detours of frames between devices (tc: u32 filters with mirred actions).

Numbers: linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_DELTFILTER, RTM_NEWTFILTER
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from colo_bridge.errors import ColoBridgeError, KernelError, OperatorError
from colo_bridge.kernel import links

PREF = 203
"""Ours on every device.  Small: a foreign filter that came first could end the search before
our turn.  Not what `tc` chooses by itself (49152 and below, 1 by habit)."""
_EVERY_TYPE = 0x0003
EVERYTHING = "everything"
DISCARDS = {
    EVERYTHING: (199, _EVERY_TYPE),
    "ipv6": (200, 0x86DD),
    "vlan": (201, 0x8100),
    "qinq": (202, 0x88A8),
}
"""What can be discarded: pref and Ethernet type of its filter, ahead of a redirect's."""
BARRIER = 204
"""Of the filter that stays for as long as its device: behind a redirect, so that it is met where there is none."""

_PREFS = frozenset((PREF, *(pref for pref, _ in DISCARDS.values())))
_QDISC_PARENT, _INGRESS_HANDLE = 0xFFFF_FFF1, 0xFFFF_0000
_MATCH_ALL = "0x0/0x0+-4"
"""Reads four bytes of the Ethernet header: at 0, a frame with less than four bytes behind it is missed."""
_KEY_NODE = 0xFFF
_CONTINUE, _STOLEN = -1, 4
"""After a copy the search for filters goes on, so that foreign ones keep working."""
_REDIRECT, _MIRROR = 1, 2


class Side(IntEnum):
    """Where a filter sits (clsact's parent numbers; `ingress` has the first as well)."""

    INGRESS = 0xFFFF_FFF2
    """What the device brings into the host."""
    EGRESS = 0xFFFF_FFF3
    """What the host sends to the device."""


@dataclass(frozen=True, slots=True)
class Detour:
    """Every frame at one side of `source` is sent out at `destination`, or copied there."""

    source: str
    side: Side
    destination: str
    copy: bool


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a filter's frames go, and whether the original goes on."""

    index: int
    copy: bool

    @property
    def action(self) -> int:
        return _MIRROR if self.copy else _REDIRECT

    @property
    def verdict(self) -> int:
        return _CONTINUE if self.copy else _STOLEN


@dataclass(frozen=True, slots=True)
class _Installed:
    """A filter of ours as the kernel has it; `target` is 0 when the device vanished."""

    handle: int
    target: int
    packets: int


def mirror(port: str, tap: str) -> tuple[Detour, ...]:
    """A copy of all that the host sends to the guest port goes to the TAP."""
    return (Detour(port, Side.EGRESS, tap, copy=True),)


def redirect(port: str, tap: str) -> tuple[Detour, ...]:
    """The guest port and the TAP see only each other."""
    return Detour(tap, Side.INGRESS, port, copy=False), Detour(port, Side.INGRESS, tap, copy=False)


def ensure(detour: Detour) -> bool:
    """Put the filter there or make it point at the present device, without a gap.

    True if the source had no qdisc for it, so that it was given one (`remove_qdisc`).
    """
    source, target = links.get(detour.source), links.get(detour.destination)
    with _control(detour.source) as control:
        created = control.ensure_qdisc(source.index, detour.side)
        installed = control.find(source.index, detour.side, PREF)
        if installed is None or installed.target != target.index:
            control.install(source.index, detour.side, PREF, _EVERY_TYPE, _Target(target.index, detour.copy), installed)
    return created


def problem(detour: Detour) -> str:
    """What is wrong with this detour; empty if it is in force."""
    source, target = links.find(detour.source), links.find(detour.destination)
    if source is None or target is None:
        return f"{detour.source if source is None else detour.destination} is missing"
    with _control(detour.source) as control:
        installed = control.find(source.index, detour.side, PREF)
    if installed is None:
        return f"the filter on {detour.source} is gone"
    if installed.target != target.index:
        return f"the filter on {detour.source} does not point at {detour.destination}"
    return ""


def ensure_discards(port: str, kinds: Collection[str], transit: str) -> bool:
    """Drop and count these kinds, and no other, as they come from the guest; True if a qdisc was created.

    The drop is a redirect to a device that is gone: `transit`, which exists during this call
    only.  A plain drop would need act_gact, which not every kernel has.
    """
    source, target = links.get(port), _Target(links.get(transit).index, copy=False)
    with _control(port) as control:
        created = bool(kinds) and control.ensure_qdisc(source.index, Side.INGRESS)
        present = control.installed(source.index, Side.INGRESS)
        for kind, (pref, ethernet_type) in DISCARDS.items():
            if kind in kinds and pref not in present:
                control.install(source.index, Side.INGRESS, pref, ethernet_type, target, None)
            elif kind not in kinds and pref in present:
                control.remove_one(source.index, Side.INGRESS, pref, ethernet_type)
    return created


def bar(port: str, transit: str) -> None:
    """Drop all that comes from the port and is not redirected, until the port is deleted; nothing here undoes it.

    `transit` as in `ensure_discards`.
    """
    source, target = links.get(port), _Target(links.get(transit).index, copy=False)
    with _control(port) as control:
        control.ensure_qdisc(source.index, Side.INGRESS)
        control.install(source.index, Side.INGRESS, BARRIER, _EVERY_TYPE, target, None)


def is_barred(port: str) -> bool:
    """Whether nothing that comes from the port can reach anybody but by a redirect."""
    barrier = _from_port(port, BARRIER)
    return barrier is not None and barrier.target == 0


def is_redirected(port: str) -> bool:
    """Whether what comes from the port goes to a device that exists."""
    installed = _from_port(port, PREF)
    return installed is not None and installed.target != 0


def discards(port: str) -> dict[str, int]:
    """Packets dropped so far of each kind that is discarded."""
    source = links.find(port)
    if source is None:
        return {}
    with _control(port) as control:
        present = control.installed(source.index, Side.INGRESS)
    return {kind: present[pref].packets for kind, (pref, _) in DISCARDS.items() if pref in present}


def has_filters(device: str) -> bool:
    """Whether any filter of ours is on the device."""
    link = links.find(device)
    if link is None:
        return False
    with _control(device) as control:
        return any(control.find(link.index, side, PREF) for side in Side)


def remove(device: str) -> list[str]:
    """Remove every filter of ours from the device; says which."""
    link = links.find(device)
    if link is None:
        return []
    with _control(device) as control:
        return list(control.remove(link.index))


def remove_qdisc(device: str) -> bool:
    """Remove the clsact qdisc if no filter of anybody is left in it; True if removed."""
    link = links.find(device)
    if link is None:
        return False
    with _control(device) as control:
        return control.remove_empty_qdisc(link.index)


def _from_port(port: str, pref: int) -> _Installed | None:
    source = links.find(port)
    if source is None:
        return None
    with _control(port) as control:
        return control.find(source.index, Side.INGRESS, pref)


@contextlib.contextmanager
def _control(device: str) -> Iterator[_Control]:
    try:
        with links.session() as route:
            yield _Control(device, route)
    except NetlinkError as error:
        raise _explained(device, error) from error


class _Control:
    """The traffic control of one device."""

    def __init__(self, device: str, route: IPRoute) -> None:
        self._device = device
        self._route = route

    def ensure_qdisc(self, index: int, side: Side) -> bool:
        """True if clsact had to be added; an `ingress` qdisc of somebody else serves one side."""
        kind = self._qdisc(index)
        if kind == "clsact" or (kind == "ingress" and side is Side.INGRESS):
            return False
        if kind is not None:
            raise OperatorError(
                f"{self._device} has an `{kind}` qdisc, which cannot copy what is sent to it",
                "delete it and add `clsact` instead, which takes the same ingress filters",
            )
        self._route.tc("add", "clsact", index=index)
        return True

    def remove_empty_qdisc(self, index: int) -> bool:
        if self._qdisc(index) != "clsact" or any(any(self._filters(index, side)) for side in Side):
            return False
        self._route.tc("del", "clsact", index=index)
        return True

    def find(self, index: int, side: Side, pref: int) -> _Installed | None:
        return self.installed(index, side).get(pref)

    def installed(self, index: int, side: Side) -> dict[int, _Installed]:
        """Ours by pref; u32 lists its hash tables too, which have no key node."""
        messages = self._route.get_filters(index=index, parent=side)
        known = _PREFS | {BARRIER}
        ours = [item for item in messages if item["info"] >> 16 in known and item["handle"] & _KEY_NODE]
        return {item["info"] >> 16: _installed(item) for item in ours if item.get_attr("TCA_KIND") == "u32"}

    def install(
        self, index: int, side: Side, pref: int, ethernet_type: int, target: _Target, present: _Installed | None
    ) -> None:
        """Add a filter, or exchange the action of a present one in one step."""
        message = tcmsg()
        message["index"], message["parent"] = index, self._parent(index, side)
        message["handle"] = present.handle if present else 0
        message["info"] = pref << 16 | socket.htons(ethernet_type)
        message["attrs"] = [("TCA_KIND", "u32"), ("TCA_OPTIONS", _options(target))]
        self._request(message, RTM_NEWTFILTER, 0 if present else NLM_F_CREATE | NLM_F_EXCL)

    def remove(self, index: int) -> Iterator[str]:
        """Filters go by their pref; a device without a qdisc for them has none."""
        for side in Side:
            ours = {message["info"] >> 16: message["info"] & 0xFFFF for message in self._filters(index, side)}
            for pref in sorted(ours.keys() & _PREFS):
                self.remove_one(index, side, pref, socket.ntohs(ours[pref]))
                yield f"filter {pref} at the {side.name.lower()} of {self._device}"

    def remove_one(self, index: int, side: Side, pref: int, ethernet_type: int) -> None:
        message = tcmsg()
        message["index"], message["parent"] = index, side
        message["info"] = pref << 16 | socket.htons(ethernet_type)
        self._request(message, RTM_DELTFILTER, 0)

    def _request(self, message: nlmsg, kind: int, flags: int) -> None:
        message["header"]["type"] = kind
        message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | flags
        self._route.nlm_request_batch([message])

    def _parent(self, index: int, side: Side) -> int:
        """An `ingress` qdisc takes the sides' numbers too, but then shows foreign filters under them."""
        return _INGRESS_HANDLE if self._qdisc(index) == "ingress" else side

    def _filters(self, index: int, side: Side) -> list[nlmsg]:
        kind = self._qdisc(index)
        if kind is None or (kind == "ingress" and side is Side.EGRESS):
            return []
        return list(self._route.get_filters(index=index, parent=side))

    def _qdisc(self, index: int) -> str | None:
        """Kind of the qdisc at the place where only one of clsact and ingress can be."""
        for message in self._route.get_qdiscs(index=index):
            if message["index"] == index and message["parent"] == _QDISC_PARENT:
                return str(message.get_attr("TCA_KIND"))
        return None


def _explained(device: str, error: NetlinkError) -> ColoBridgeError:
    if error.code in (errno.EPERM, errno.EACCES):
        return OperatorError(f"no permission to set filters on {device}", "run as root or with CAP_NET_ADMIN")
    return KernelError(f"cannot set filters on {device}: {error.args[-1]}", "see `tc filter show`")


def _options(target: _Target) -> dict[str, Any]:
    mirred = {"action": target.verdict, "eaction": target.action, "ifindex": target.index}
    action = [("TCA_ACT_KIND", "mirred"), ("TCA_ACT_OPTIONS", {"attrs": [("TCA_MIRRED_PARMS", mirred)]})]
    return {
        "attrs": [
            ("TCA_U32_ACT", {"attrs": [("TCA_ACT_PRIO_1", {"attrs": action})]}),
            ("TCA_U32_SEL", {"keys": [_MATCH_ALL]}),
        ]
    }


def _installed(message: nlmsg) -> _Installed:
    """What a filter does, taken from its first action; 0 where it has none of ours."""
    parameters, packets = None, 0
    actions = message.get_attr("TCA_OPTIONS").get_attr("TCA_U32_ACT")
    action = actions.get_attr("TCA_ACT_PRIO_1") if actions else None
    if action is not None and action.get_attr("TCA_ACT_KIND") == "mirred":
        parameters = action.get_attr("TCA_ACT_OPTIONS").get_attr("TCA_MIRRED_PARMS")
        packets = action.get_attr("TCA_ACT_STATS").get_attr("TCA_STATS_BASIC")["packets"]
    return _Installed(message["handle"], parameters["ifindex"] if parameters else 0, packets)
