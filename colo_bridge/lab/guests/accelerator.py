"""Whether the guests run on KVM: tried, because a /dev/kvm may be there that boots no ordinary kernel."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from colo_bridge.lab.guests import machine
from colo_bridge.lab.guests.machine import Accelerator
from colo_bridge.lab.guests.parts import Parts

_KVM = Path("/dev/kvm")
_BOOT_SECONDS = 10.0
"""A kernel that KVM runs needs less than two."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def choose(parts: Parts) -> Accelerator:
    """KVM if it boots the guest; remembered until this machine boots again."""
    memory, this_boot = parts.directory / "accelerator", _BOOT_ID.read_text(encoding="ascii").strip()
    known = memory.read_text(encoding="ascii").split() if memory.exists() else []
    if known[:1] == [this_boot]:
        return Accelerator(known[1])
    found = Accelerator.KVM if os.access(_KVM, os.R_OK | os.W_OK) and _boots_on_kvm(parts) else Accelerator.TCG
    memory.write_text(f"{this_boot} {found.value}\n", encoding="ascii")
    return found


def _boots_on_kvm(parts: Parts) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        console = Path(directory) / "console"
        command = machine.boot(parts, Accelerator.KVM, console)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as trial:
            deadline = time.monotonic() + _BOOT_SECONDS
            while trial.poll() is None and not machine.serves(console) and time.monotonic() < deadline:
                time.sleep(0.05)
            trial.kill()
        return machine.serves(console)
