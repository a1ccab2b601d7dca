"""From the decision that a secondary's guest is the service to its serving the network.

1. The guest is not connected before it is out of COLO: until then a checkpoint may still change its state, and the
   numbers of its connections with it. For a hypervisor that does not answer nobody waits.
2. One NIC does not wait for another, and nothing waits for what else a service does: take a secondary, keep records.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from colo_bridge.daemon.announcing import announce, prompt
from colo_bridge.daemon.live_path import LivePath
from colo_bridge.daemon.protector import Protector
from colo_bridge.daemon.secondary_path import SecondaryPath
from colo_bridge.errors import ColoBridgeError
from colo_bridge.kernel.secondary_nic import SecondaryNic

log = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds between two tries to put a NIC on the network."""


class TakingOver:
    def __init__(
        self,
        guest: str,
        nics: Sequence[tuple[SecondaryNic, SecondaryPath]],
        protector: Protector,
        make_path: Callable[[SecondaryNic, SecondaryPath], LivePath],
    ) -> None:
        """`make_path` makes of both parts of a NIC what serves once the guest is the service."""
        self.paths: Sequence[LivePath] = ()
        """From when on the guest is served."""
        self.obstacle = ""
        """Why the guest, or one NIC of it, is not on the network."""
        self.has_tried = asyncio.Event()
        self._guest = guest
        self._nics = nics
        self._protector = protector
        self._make_path = make_path

    async def run(self, out_of_colo: Awaitable[object], hand_over: Callable[[], None]) -> None:
        """Connect the guest and announce it; `hand_over` is called when nobody else may touch its paths any more."""
        await asyncio.gather(self._raise_uplinks(), out_of_colo)
        hand_over()
        self._serve()
        async with asyncio.TaskGroup() as announcing:
            self._connect(announcing)
            self._protector.read()
            self.has_tried.set()
            while self.obstacle:
                await asyncio.sleep(AGAIN)
                await self._raise_uplinks()
                self._connect(announcing)
                self._protector.renew()
            log.warning("guest %s has its way to the network", self._guest)

    async def _raise_uplinks(self) -> None:
        """All that can be."""
        loop, obstacles = asyncio.get_running_loop(), []
        for nic, path in self._nics:
            try:
                # A thread, because pyroute2 cannot be used in a running loop.
                await loop.run_in_executor(None, nic.go_live)
            except (ColoBridgeError, OSError) as error:
                obstacles.append(f"nic {path.nic}: {error}")
        obstacle = "; ".join(obstacles)
        if obstacle not in ("", self.obstacle):
            log.critical("guest %s is live, but not on the network: %s", self._guest, obstacle)
        self.obstacle = obstacle

    def _serve(self) -> None:
        self.paths = [self._make_path(nic, path) for nic, path in self._nics]
        self._protector.serve(self.paths)
        for live, (_, path) in zip(self.paths, self._nics, strict=True):
            live.send_kept(path.take_over())

    def _connect(self, announcing: asyncio.TaskGroup) -> None:
        """Those that have a way by now."""
        for path, (nic, _) in zip(self.paths, self._nics, strict=True):
            if nic.uplink is not None and path.way.uplink is None:
                path.connect(nic.uplink)
                announcing.create_task(announce(path))
                announcing.create_task(prompt(path))
