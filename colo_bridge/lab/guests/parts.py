"""What the guests are made of: fetched and built by `prepare` once, and kept."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from colo_bridge.errors import OperatorError

ENVIRONMENT = "COLO_BRIDGE_GUESTS"
"""Names another directory for the parts."""
_USUAL_PLACE = Path("/var/cache/colo-bridge/guests")
_PREPARE = Path(__file__).with_name("prepare")
_HINT = "this needs Debian on x86-64 with a network, apt and gcc; the lab's other guests need none of these"


@dataclass(frozen=True, slots=True)
class Parts:
    """Where each part is."""

    directory: Path

    @property
    def qemu(self) -> Path:
        return self.directory / "qemu/qemu"

    @property
    def kernel(self) -> Path:
        return self.directory / "guest/vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "guest/initrd.gz"

    @property
    def without_kvm(self) -> Path:
        """To be preloaded into a QEMU that does not use KVM."""
        return self.directory / "colo_without_kvm.so"

    @property
    def complete(self) -> bool:
        return all(part.exists() for part in (self.qemu, self.kernel, self.initrd, self.without_kvm))


def get() -> Parts:
    """The parts, made if there are none yet; raises OperatorError where that is not possible."""
    parts = Parts(Path(os.environ.get(ENVIRONMENT, _USUAL_PLACE)))
    if not parts.complete:
        _prepare(parts.directory)
    return parts


def _prepare(directory: Path) -> None:
    done = subprocess.run(["bash", str(_PREPARE), str(directory)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reasons = done.stderr.strip().splitlines() or ["no reason was given"]
        raise OperatorError(f"QEMU guests cannot be had here: {reasons[-1]}", _HINT)
