"""Which descriptors of a guest are read: all of them, but for the time that a replica stands still for a checkpoint.

What a replica sends after the pause must not meet what was sent before it: it stays in the kernel until
the books are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from colo_bridge.daemon.datapath import DataPath
from colo_bridge.kernel.protection import NicProtection


class Readers:
    """The callbacks of all NICs in the running event loop."""

    def __init__(self, nics: Sequence[tuple[NicProtection, DataPath]]) -> None:
        self._nics = nics
        self._loop = asyncio.get_running_loop()
        self._primary_rests = self._secondary_rests = False

    def start(self) -> None:
        """Read everything."""
        self._primary_rests = self._secondary_rests = False
        self._read()

    def renew(self) -> None:
        """The loop gives up a TAP that somebody deletes, for ever: read anew what was read."""
        for nic, _ in self._nics:
            for port in (nic.queue, nic.secondary, nic.mirror):
                self._loop.remove_reader(port.fileno())
        self._read()

    def stop(self) -> None:
        """Read nothing."""
        self._rest_primary()
        self._rest_secondary()

    # What a checkpoint does.

    def stopped(self, primary: bool) -> None:
        self.primary_stopped() if primary else self.secondary_stopped()

    def checkpoint_done(self, synchronised: bool) -> None:
        for _, path in self._nics:
            path.checkpoint_done(synchronised)

    def checkpoint_failed(self, why: str) -> None:
        """What is held waits for the next one."""

    def goes_on(self) -> None:
        self.start()

    def secondary_stopped(self) -> None:
        """Read what the secondary sent, and then nothing of it and nothing for it."""
        if not self._secondary_rests:
            for _, path in self._nics:
                path.secondary_stopped()
            self._rest_secondary()

    def primary_stopped(self) -> None:
        """Read what both sent, and then nothing: where the primary stands still the secondary does."""
        self.secondary_stopped()
        for _, path in self._nics:
            path.primary_stopped()
        self._rest_primary()

    def _read(self) -> None:
        for nic, path in self._nics:
            if not self._primary_rests:
                self._loop.add_reader(nic.queue.fileno(), path.on_primary)
            if not self._secondary_rests:
                self._loop.add_reader(nic.secondary.fileno(), path.on_secondary)
                self._loop.add_reader(nic.mirror.fileno(), path.on_input)

    def _rest_primary(self) -> None:
        self._primary_rests = True
        for nic, _ in self._nics:
            self._loop.remove_reader(nic.queue.fileno())

    def _rest_secondary(self) -> None:
        self._secondary_rests = True
        for nic, _ in self._nics:
            self._loop.remove_reader(nic.secondary.fileno())
            self._loop.remove_reader(nic.mirror.fileno())
