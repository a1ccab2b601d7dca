"""Which descriptors of a primary are read: all of them, but for the time that it stands still for a checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from colo_bridge.daemon.linked_path import LinkedPath


class PrimaryReaders:
    """The callbacks of all NICs in the running event loop."""

    def __init__(self, paths: Sequence[LinkedPath]) -> None:
        self._paths = paths
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
        for path in self._paths:
            for descriptor, read in path.sources():
                loop.add_reader(descriptor, read)

    def _forget(self) -> None:
        loop = asyncio.get_running_loop()
        for path in self._paths:
            for descriptor, _ in path.sources():
                loop.remove_reader(descriptor)
