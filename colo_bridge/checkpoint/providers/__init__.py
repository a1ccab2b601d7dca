"""Who carries a checkpoint out.  These modules do I/O; the coordinator above them does none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from colo_bridge.checkpoint.cause import Cause


class Provider(Protocol):
    """Something that can make the secondary equal to the primary, or at least says so."""

    @property
    def synchronises_state(self) -> bool:
        """Whether the secondary *is* the primary afterwards, sequence numbers included."""

    async def checkpoint(self, reason: str, detail: Mapping[str, str], /) -> bool:
        """Carry out one checkpoint; True if it is done.  Cancelling it stops it at once.

        A provider that tells a `Listener` when it is done only ever returns False.
        """


class Listener(Protocol):
    """Who hears what the hypervisor does, in the order in which it does it."""

    def stopped(self, primary: bool) -> None:
        """A replica, the primary or the other, stands still: nothing that it sends from now on may be read."""

    def goes_on(self) -> None:
        """Whoever stood still runs again, and this was no checkpoint: nothing that was held leaves for it."""

    def paused(self) -> None:
        """The primary stands still for a checkpoint."""

    def resumed(self) -> None:
        """The primary runs again and the secondary has its state."""

    def wanted(self, cause: Cause) -> None:
        """The replicas may differ, and a checkpoint can be asked for."""
