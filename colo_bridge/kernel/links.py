"""Network devices of this namespace: what they are, quiet, up, down.

pyroute2 runs an event loop of its own inside every call: never call this from a thread
whose event loop runs.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink import nlmsg
from pyroute2.netlink.exceptions import NetlinkError

from colo_bridge.errors import ColoBridgeError, KernelError, OperatorError

_IPV6 = Path("/proc/sys/net/ipv6/conf")
_Answer = TypeVar("_Answer")
_FLAG_UP = 1
_EUI64_ADDRESS, _NO_ADDRESS = 0, 1


@dataclass(frozen=True, slots=True)
class Link:
    """A device as the kernel described it last; `index` changes when it is created anew."""

    name: str
    index: int
    kind: str
    up: bool
    master: str | None
    """Name of the device that it is a port of."""
    master_kind: str
    mtu: int
    queue_length: int
    address: str

    @property
    def bridge(self) -> str | None:
        """Name of the Linux bridge that it is a port of."""
        return self.master if self.master_kind == "bridge" else None


class _ThreadSession(threading.local):
    route: IPRoute | None = None
    answers: dict[tuple[str, str | int], Any] | None = None
    """Of a snapshot: what each question was answered."""


_session = _ThreadSession()


@contextlib.contextmanager
def session(*, snapshot: bool = False) -> Iterator[IPRoute]:
    """One netlink socket for everything that this thread asks inside; a new one costs half a millisecond.

    With `snapshot` each device is looked up once only: for code that changes nothing.
    """
    if _session.route is not None:
        yield _session.route
        return
    with IPRoute() as route:
        _session.route, _session.answers = route, {} if snapshot else None
        try:
            yield route
        finally:
            _session.route = _session.answers = None


def find(name: str) -> Link | None:
    """The device of this name, None if there is none."""
    return _once("link", name, lambda: _look_up(name))


def get(name: str) -> Link:
    """Like `find`; OperatorError names the missing device."""
    link = find(name)
    if link is None:
        raise OperatorError(f"there is no network device {name}", "check its name with `ip link`")
    return link


def change(name: str, **attributes: str | int | dict[str, Any]) -> None:
    """Set pyroute2's link attributes (`state`, `mtu`, `txqlen`, `address`); KernelError if refused."""
    index = get(name).index
    with _explained(f"change {name} ({', '.join(attributes)})"), session() as route:
        route.link("set", index=index, **attributes)


def change_port(name: str, **flags: int) -> None:
    """Set pyroute2's flags of a bridge port (`learning`, `unicast_flood`); KernelError if refused."""
    index = get(name).index
    with _explained(f"change the port {name} ({', '.join(flags)})"), session() as route:
        route.brport("set", index=index, **flags)


def set_up(name: str) -> None:
    change(name, state="up")


def set_down(name: str) -> None:
    change(name, state="down")


def delete(name: str) -> None:
    """Delete the device, if there is one; KernelError if refused."""
    link = find(name)
    if link is not None:
        with _explained(f"delete {name}"), session() as route:
            route.link("del", index=link.index)


def has_ipv6() -> bool:
    """Whether this kernel runs with IPv6."""
    return _IPV6.exists()


def quiet(name: str) -> None:
    """No IPv6 of the host's own on this device: neither MLD nor DAD nor router solicitations."""
    with contextlib.suppress(ColoBridgeError):
        # Refused where the kernel has no IPv6, which is as quiet.
        _set_address_generation(name, _NO_ADDRESS)
    _disable_ipv6(name, True)


def is_quiet(name: str) -> bool:
    try:
        return (_IPV6 / name / "disable_ipv6").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return True


def allow_ipv6(name: str) -> None:
    """Undo `quiet`: the host may use IPv6 on this device again."""
    with contextlib.suppress(ColoBridgeError):
        _set_address_generation(name, _EUI64_ADDRESS)
    _disable_ipv6(name, False)


def attributes(name: str, nest: str) -> dict[str, Any]:
    """What is particular to the kind of a device (`IFLA_INFO_DATA`), or to its kind of port (`IFLA_INFO_SLAVE_DATA`).

    Empty if there is no such device, or nothing of the sort to say.
    """
    with session() as route:
        message = _message(route, "ifname", name)
    info = message.get_attr("IFLA_LINKINFO") if message is not None else None
    nested = info.get_attr(nest) if info else None
    return dict(nested["attrs"]) if nested else {}


def _disable_ipv6(name: str, disabled: bool) -> None:
    with contextlib.suppress(FileNotFoundError):
        (_IPV6 / name / "disable_ipv6").write_text(str(int(disabled)), encoding="ascii")


def _set_address_generation(name: str, mode: int) -> None:
    inet6 = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", mode)]}
    change(name, IFLA_AF_SPEC={"attrs": [("AF_INET6", inet6)]})


def _once(question: str, value: str | int, ask: Callable[[], _Answer]) -> _Answer:
    """The answer; in a snapshot that of the first time."""
    answers = _session.answers
    if answers is None:
        return ask()
    if (question, value) not in answers:
        answers[question, value] = ask()
    answer: _Answer = answers[question, value]
    return answer


def _look_up(name: str) -> Link | None:
    with session() as route:
        message = _message(route, "ifname", name)
        return _link(route, message) if message is not None else None


def _message(route: IPRoute, attribute: str, value: str | int) -> nlmsg | None:
    return _once(attribute, value, lambda: _asked(route, attribute, value))


def _asked(route: IPRoute, attribute: str, value: str | int) -> nlmsg | None:
    try:
        return route.link("get", **{attribute: value})[0]
    except NetlinkError as error:
        if error.code in (errno.ENODEV, errno.ENOENT):
            return None
        raise KernelError(f"cannot look up {attribute} {value}: {error}") from error


def _link(route: IPRoute, message: nlmsg) -> Link:
    index = message.get_attr("IFLA_MASTER")
    master = _message(route, "index", index) if index else None
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        kind=_kind(message),
        up=bool(message["flags"] & _FLAG_UP),
        master=master.get_attr("IFLA_IFNAME") if master else None,
        master_kind=_kind(master) if master else "",
        mtu=message.get_attr("IFLA_MTU"),
        queue_length=message.get_attr("IFLA_TXQLEN") or 0,
        address=message.get_attr("IFLA_ADDRESS") or "",
    )


def _kind(message: nlmsg) -> str:
    info = message.get_attr("IFLA_LINKINFO")
    return (info.get_attr("IFLA_INFO_KIND") if info else None) or ""


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code in (errno.EPERM, errno.EACCES):
            raise OperatorError(f"no permission to {what}", "run as root or with CAP_NET_ADMIN") from error
        raise KernelError(f"cannot {what}: {error.args[-1]}") from error
