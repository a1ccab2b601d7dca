"""What a guest tells its link, and its clients, when it has become the service.

A switch, or a neighbour's table, may miss what is said once. Clients that wait for an answer are prompted as well, see
`rewrite.prompting`: first the guest repeats what it has acknowledged, then its clients hear why there was no answer.
"""

from __future__ import annotations

import asyncio

from colo_bridge.daemon.live_path import LivePath

_PAUSES = (0.0, 0.05, 0.15, 0.3, 0.5, 1.0, 2.0)
"""Seconds in front of each round."""
_MOST_PROMPTED = 4_096
"""Connections of one NIC: those that were heard last."""
_AT_ONCE = 64
"""Connections that are prompted in one turn of the loop."""
_ANSWERED = 0.01
"""Seconds in which the guest answers what it is asked, and that has reached the client."""
_AGAIN = (0.05, 0.1, 0.2)
"""Seconds in front of each further round of telling clients: each takes back one doubling of their time-outs."""


async def announce(path: LivePath) -> None:
    for pause in _PAUSES:
        await asyncio.sleep(pause)
        path.announce()


async def prompt(path: LivePath) -> None:
    prompts = path.rewriter.prompts(_MOST_PROMPTED)
    batches = [prompts[begin : begin + _AT_ONCE] for begin in range(0, len(prompts), _AT_ONCE)]
    for batch in batches:
        path.ask_guest(batch)
        await asyncio.sleep(0)
    for pause in (_ANSWERED, *_AGAIN):
        await asyncio.sleep(pause)
        for batch in batches:
            path.tell_clients(batch)
            await asyncio.sleep(0)
