"""Which descriptors of a primary are read: all of them, but for the time that it stands still for a checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from colo_bridge.daemon.primary_path import PrimaryPath
from colo_bridge.kernel.primary_nic import PrimaryNic


class PrimaryReaders:
    """The callbacks of all NICs in the running event loop."""

    def __init__(self, nics: Sequence[tuple[PrimaryNic, PrimaryPath]]) -> None:
        self._nics = nics
        self._rests = False

    def start(self) -> None:
        self._rests = False
        self._read()

    def rest(self) -> None:
        """Read nothing, until `start`."""
        self._rests = True
        self._forget()

    def renew(self) -> None:
        """The loop gives up a TAP that somebody deletes, for ever: read anew what was read."""
        self._forget()
        if not self._rests:
            self._read()

    def _read(self) -> None:
        loop = asyncio.get_running_loop()
        for nic, path in self._nics:
            loop.add_reader(nic.queue.fileno(), path.on_primary)
            loop.add_reader(nic.mirror.fileno(), path.on_mirror)

    def _forget(self) -> None:
        loop = asyncio.get_running_loop()
        for nic, _ in self._nics:
            for port in (nic.queue, nic.mirror):
                loop.remove_reader(port.fileno())
