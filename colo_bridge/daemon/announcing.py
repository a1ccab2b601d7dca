"""A guest that has moved tells its link so, several times: a switch, or a neighbour's table, may miss the first."""

from __future__ import annotations

import asyncio

from colo_bridge.daemon.live_path import LivePath

_PAUSES = (0.0, 0.05, 0.15, 0.3, 0.5, 1.0, 2.0)
"""Seconds in front of each round."""


async def announce(path: LivePath) -> None:
    """One NIC, as soon as it has its way to the network."""
    await path.way.opened.wait()
    for pause in _PAUSES:
        await asyncio.sleep(pause)
        path.announce()
