"""Linux bridges: which families they show to iptables, and ports that only take frames in."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from colo_bridge.errors import KernelError
from colo_bridge.kernel import links
from colo_bridge.kernel.family import Family

_SYSCTLS = Path("/proc/sys/net/bridge")
_ONE_WAY = ("learning", "unicast_flood", "mcast_flood", "bcast_flood")
"""Flags of a port, all off: the bridge learns no address there and sends nothing there unasked."""


@dataclass(frozen=True, slots=True)
class Hook:
    """By which one bridge shows its frames of one family to iptables."""

    bridge: str
    family: Family

    def __str__(self) -> str:
        return f"{self.family.command} hook of {self.bridge}"

    @property
    def attribute(self) -> str:
        return f"br_nf_call_{self.family.command}"


def hook_is_on(hook: Hook) -> bool:
    """False also if there is no such bridge."""
    return bool(links.attributes(hook.bridge, "IFLA_INFO_DATA").get(f"IFLA_{hook.attribute.upper()}"))


def set_hook(hook: Hook, on: bool) -> None:
    """Show the frames of this one bridge and family to iptables, or no longer."""
    _load_bridge_netfilter()
    links.change(hook.bridge, kind="bridge", **{hook.attribute: int(on)})


def join_one_way(device: str, bridge: str) -> None:
    """Make the device a port from which the bridge takes frames, and to which it sends none."""
    links.change(device, master=links.get(bridge).index)
    links.change_port(device, **dict.fromkeys(_ONE_WAY, 0))


def is_one_way(device: str) -> bool:
    flags = links.attributes(device, "IFLA_INFO_SLAVE_DATA")
    return all(flags.get(f"IFLA_BRPORT_{name.upper()}") == 0 for name in _ONE_WAY)


def _load_bridge_netfilter() -> None:
    """The module starts with the hooks on for every bridge of the host: back to off."""
    if _SYSCTLS.exists():
        return
    with contextlib.suppress(OSError):
        subprocess.run(["modprobe", "br_netfilter"], check=False, capture_output=True, timeout=30)
    if not _SYSCTLS.exists():
        raise KernelError("the kernel has no br_netfilter", "load or install the module br_netfilter")
    for name in ("iptables", "ip6tables", "arptables"):
        (_SYSCTLS / f"bridge-nf-call-{name}").write_text("0", encoding="ascii")
