"""What a daemon asks of the part of the kernel boundary that protects one NIC, whatever its role."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from colo_bridge.kernel.fault import Fault


class Protection(Protocol):
    """`check`, `mend` and `counters` may run in another thread than the one that reads packets; `mend_devices` in a
    third.
    """

    taken_over: bool
    """Whether `arm` found something in force that another daemon had left."""

    @property
    def devices(self) -> frozenset[str]:
        """Names of those whose coming and going changes the protection."""
        ...

    def arm(self) -> None: ...

    def check(self) -> list[Fault]: ...

    def mend(self, parts: Collection[str] | None = None) -> None: ...

    def mend_devices(self) -> list[Fault]: ...

    def disarm(self) -> None: ...

    def counters(self) -> dict[str, int]: ...
