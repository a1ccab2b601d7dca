"""Keeps client and server of short turns on different CPUs, as two machines would be.

On one machine the scheduler may put both on the same CPU, where a turn is a mere
context switch (11 µs against 70 µs and more), or not, at random from run to run.
"""

from __future__ import annotations

import os


def to_client_cpu() -> None:
    """Run the calling thread on the first CPU that it may use."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def to_server_cpu() -> None:
    """Run the calling thread on the last CPU that it may use."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
