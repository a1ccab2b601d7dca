"""What makes the lab's life hard: cores that are busy with something else, and copies that get lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from colo_bridge.kernel.withdrawal import Names
from colo_bridge.lab import configuration
from tests.lab.helpers import on_host

_RANDOM = 0xFFFF_F038
"""Where a filter finds a random number (SKF_AD_OFF + SKF_AD_RANDOM, linux/filter.h)."""
_LOAD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
"""Instructions of a classic BPF program (linux/bpf_common.h)."""
_MATCH, _NO_MATCH = 0xFFFF_FFFF, 0
_VANISHING = "cb-nowhere"


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy, at ordinary priority, for as long as the block lasts."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
        for burner in burners:
            burner.wait()


@contextmanager
def lossy_mirror(one_of: int) -> Iterator[Callable[[], int]]:
    """Throw away one of so many (a power of two) mirrored packets, at random; tells how many were.

    The kernel does it, behind the mirror's filter and before the daemon: what is chosen is
    redirected to a device that is gone.
    """
    assert one_of & (one_of - 1) == 0
    nic = configuration.current().nic[0]
    tap = Names(configuration.current().guest, nic.name).mirror
    on_host("ip", "link", "add", _VANISHING, "type", "bridge")
    on_host("tc", "qdisc", "add", "dev", tap, "clsact")
    action = ["action", "mirred", "egress", "redirect", "dev", _VANISHING]
    on_host("tc", "filter", "add", "dev", tap, "egress", "protocol", "all", "bpf", "bytecode", _choose(one_of), *action)
    on_host("ip", "link", "delete", _VANISHING)
    try:
        yield lambda: _lost(tap)
    finally:
        on_host("tc", "qdisc", "del", "dev", tap, "clsact")


def _choose(one_of: int) -> str:
    """A program for `tc` that matches one of so many packets."""
    program = [
        (_LOAD, 0, 0, _RANDOM),
        (_AND, 0, 0, one_of - 1),
        (_JUMP_IF_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _MATCH),
        (_RETURN, 0, 0, _NO_MATCH),
    ]
    return ",".join([str(len(program)), *(" ".join(map(str, instruction)) for instruction in program)])


def _lost(tap: str) -> int:
    filters = json.loads(on_host("tc", "-statistics", "-json", "filter", "show", "dev", tap, "egress"))
    (action,) = [action for item in filters for action in item.get("options", {}).get("actions", ())]
    return int(action["stats"]["packets"])
