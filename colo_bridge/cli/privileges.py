"""Refuses early what would fail in the middle for lack of privileges."""

from __future__ import annotations

import re
from pathlib import Path

from colo_bridge.errors import OperatorError

# Bit numbers of capabilities, from linux/capability.h.
NEEDED = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}


def require() -> None:
    """Raise OperatorError unless this process may change the host's network."""
    effective = effective_capabilities(Path("/proc/self/status").read_text(encoding="ascii"))
    missing = [name for name, bit in NEEDED.items() if not effective >> bit & 1]
    if missing:
        raise OperatorError(f"this needs {' and '.join(missing)}", "run it as root, or as the systemd service")


def effective_capabilities(process_status: str) -> int:
    """The bit set in the CapEff line of /proc/PID/status (proc(5)); 0 without one."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", process_status, re.MULTILINE)
    return int(found[1], 16) if found else 0
