"""Settings of the interpreter for a process that packets pass through."""

from __future__ import annotations

import ctypes
import gc
import sys

_SWITCH_INTERVAL = 0.0005
"""Seconds after which the checking thread gives way to the data path (the default is ten times that)."""
_MEMORY = ((-1, 256 << 20), (-2, 16 << 20), (-3, 32 << 20))
"""M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD of <malloc.h>, in bytes."""


def prepare() -> None:
    """Keep pauses of the interpreter and page faults out of the packets' way."""
    _keep_freed_memory()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()


def _keep_freed_memory() -> None:
    """Let the C library reuse memory instead of giving it back and faulting it in again (mallopt(3)).

    Each 64 KB payload that waits is a block of its own: 45 page faults a MB, a fifth of the system time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, size in _MEMORY:
            mallopt(parameter, size)
