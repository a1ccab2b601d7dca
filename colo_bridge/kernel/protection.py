"""One NIC of a guest, both halves of which are on this host.

The order is the point.  Nothing is diverted before somebody can answer for it, and the
secondary's port is never up without its detour.
"""

from __future__ import annotations

import contextlib

from colo_bridge.config import Config, NicConfig
from colo_bridge.kernel.nfqueue import PacketQueue
from colo_bridge.kernel.parts import Parts, Probes, Steps
from colo_bridge.kernel.primary_nic import PrimaryNic
from colo_bridge.kernel.secondary_nic import SecondaryNic
from colo_bridge.kernel.tap import Tap


class NicProtection(Parts):
    """Both halves.  What keeps the secondary in comes first wherever both have something to do."""

    def __init__(self, guest: str, nic: NicConfig, config: Config) -> None:
        self._primary, self._secondary = PrimaryNic(guest, nic, config), SecondaryNic(guest, nic, config)
        super().__init__(guest, nic, config, self._primary.tables)

    @property
    def queue(self) -> PacketQueue:
        return self._primary.queue

    @property
    def mirror(self) -> Tap:
        """Copies of what the host sends to the primary."""
        return self._primary.mirror

    @property
    def secondary(self) -> Tap:
        """Both directions of the secondary's guest port."""
        return self._secondary.secondary

    @property
    def forward(self) -> Tap | None:
        """As of `PrimaryNic`."""
        return self._primary.forward

    @property
    def devices(self) -> frozenset[str]:
        return self._secondary.devices | self._primary.devices

    @property
    def steps(self) -> Steps:
        return self._secondary.steps.and_then(self._primary.steps)

    @property
    def probes(self) -> Probes:
        return self._secondary.probes.and_then(self._primary.probes)

    def require(self) -> None:
        self._primary.require()
        self._secondary.require()

    def is_left_by_another(self) -> bool:
        return self._primary.is_left_by_another() or self._secondary.is_left_by_another()

    def open(self, undo: contextlib.ExitStack) -> None:
        self._primary.open(undo)
        self._secondary.open(undo)

    def close(self) -> None:
        self._primary.close()
        self._secondary.close()

    def remove_former(self) -> None:
        self._primary.remove_former()

    def counted(self) -> dict[str, dict[str, int]]:
        return self._primary.counted() | self._secondary.counted()
