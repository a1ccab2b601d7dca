"""One virtual machine of the lab: the command that starts it, and its sockets."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from colo_bridge.lab.guests.parts import Parts
from colo_bridge.lab.layout import (
    GUEST_ADDRESS,
    GUEST_IPV6_ADDRESS,
    GUEST_MAC,
    IPV6_PREFIX_LENGTH,
    PREFIX_LENGTH,
    Role,
)

MEGABYTES = 128
"""Of a guest's memory; the secondary's QEMU takes twice that."""
READY = "GUEST READY"
"""What the guest says on its console when it serves."""
_ADDRESSES = f"guest_ipv4={GUEST_ADDRESS}/{PREFIX_LENGTH} guest_ipv6={GUEST_IPV6_ADDRESS}/{IPV6_PREFIX_LENGTH}"


class Accelerator(enum.Enum):
    """What executes a guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class Machine:
    """A replica; both are the same but for their ports and sockets."""

    parts: Parts
    accelerator: Accelerator
    role: Role
    """The guest that it is; its sockets and its console are in that role's directory."""
    port: str
    """The TAP that it is attached to."""

    @property
    def console(self) -> Path:
        return self.role.directory / "console"

    def is_ready(self) -> bool:
        return serves(self.console)

    def command(self, incoming: str | None = None) -> list[str]:
        """What starts it; `incoming`: where it gets its state from, instead of booting."""
        sockets = (f"unix:{path},server=on,wait=off" for path in (self.role.qmp_socket, self.role.operators_socket))
        return [
            *boot(self.parts, self.accelerator, self.console),
            *("-netdev", f"tap,id=net0,ifname={self.port},script=no,downscript=no,vhost=off"),
            *("-device", f"virtio-net-pci,netdev=net0,mac={GUEST_MAC}"),
            *(word for socket in sockets for word in ("-qmp", socket)),
            *(("-incoming", incoming) if incoming else ()),
        ]


def boot(parts: Parts, accelerator: Accelerator, console: Path) -> list[str]:
    """The command that boots the guest, without a network."""
    preloaded = [f"LD_PRELOAD={parts.without_kvm}"] if accelerator is Accelerator.TCG else []
    return [
        *("env", *preloaded, str(parts.qemu), "-accel", accelerator.value),
        # q35 fails in COLO.
        *("-M", "pc", "-m", str(MEGABYTES), "-nodefaults", "-display", "none"),
        *("-serial", f"file:{console}", "-rtc", "base=2026-01-01,clock=vm"),
        *("-kernel", str(parts.kernel), "-initrd", str(parts.initrd)),
        *("-append", f"console=ttyS0 quiet panic=-1 {_ADDRESSES}"),
    ]


def serves(console: Path) -> bool:
    """Whether the guest has said on its console that it is ready."""
    return console.exists() and READY in console.read_text(encoding="ascii", errors="replace")
