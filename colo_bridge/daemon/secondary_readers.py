"""When a secondary's TAPs are read: not while its guest stands still, and not faster than the link takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from colo_bridge.daemon.secondary_path import SecondaryPath
from colo_bridge.kernel.secondary_nic import SecondaryNic


class SecondaryReaders:
    """The callbacks of all NICs in the running event loop."""

    def __init__(
        self, nics: Sequence[tuple[SecondaryNic, SecondaryPath]], is_full: Callable[[str], bool] = lambda _: False
    ) -> None:
        """`is_full`: whether the link takes no more of this NIC until `room`."""
        self._nics = nics
        self._is_full = is_full
        self._reading = False
        self._waiting: set[str] = set()

    def read(self, on: bool) -> None:
        """Read all of them, or none."""
        self._reading = on
        self._waiting.clear()
        self.renew()

    def leave(self) -> None:
        """Touch the TAPs no more: somebody else reads them from now on."""
        self.read(False)
        self._nics = ()

    def renew(self) -> None:
        """The loop gives up a TAP that somebody deletes, for ever: read anew what was read."""
        loop = asyncio.get_running_loop()
        for nic, path in self._nics:
            loop.remove_reader(nic.secondary.fileno())
            if self._reading and path.nic not in self._waiting:
                loop.add_reader(nic.secondary.fileno(), self._read, nic, path)

    def room(self, name: str) -> None:
        """The link takes packets of this NIC again."""
        self._waiting.discard(name)
        self.renew()

    def _read(self, nic: SecondaryNic, path: SecondaryPath) -> None:
        path.on_secondary()
        if self._is_full(path.nic):
            self._waiting.add(path.nic)
            asyncio.get_running_loop().remove_reader(nic.secondary.fileno())
