"""A guest port for a secondary whose frames reach nobody, whatever becomes of the daemon.

1. The barrier is in force before the port is up, and before it outlives this process.
2. Nothing but deleting the port removes the barrier.  The daemon's redirect stands ahead of it.
"""

from __future__ import annotations

import os

from colo_bridge.errors import KernelError, OperatorError
from colo_bridge.kernel import links, tap, traffic


def create(name: str, *, address: str | None = None, owner: int | None = None) -> None:
    """Make a persistent TAP, up and barred; errors leave nothing. `owner` is the user that may attach a guest to it."""
    descriptor = tap.open_device()
    try:
        tap.name_device(descriptor, name)
        links.quiet(name)
        if address is not None:
            links.change(name, address=address)
        _bar(name)
        links.set_up(name)
        tap.persist(descriptor, name, owner)
    finally:
        os.close(descriptor)


def delete(name: str) -> None:
    """Remove the port and all that is on it; OperatorError if it is not one of `create`, or a daemon uses it."""
    links.get(name)
    if not traffic.is_barred(name):
        raise OperatorError(f"{name} was not made by `port create`", "`ip link del` deletes any device")
    if traffic.is_redirected(name):
        raise OperatorError(f"a daemon uses {name}", "stop it first")
    links.delete(name)


def _bar(name: str) -> None:
    """A port without its barrier is never left behind: it is not persistent yet."""
    with tap.transit(tap.name_for("port", name, "x")) as nowhere:
        traffic.bar(name, nowhere)
    if not traffic.is_barred(name):
        raise KernelError(f"the barrier of {name} is not in force")
