"""How a daemon ends: its event loop by a signal, or by an error wherever it happens; and what is said then."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNAL = signal.SIGHUP
HANDLED_SIGNALS = (*STOP_SIGNALS, RELOAD_SIGNAL)
"""Of a daemon that protects a guest; blocked while it cannot act on them."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """The last line of the log, behind "stopped, "."""

    level: int
    text: str


NOTHING_IS_LEFT = Farewell(logging.INFO, "nothing of ours is left in the kernel")


def end_by_callback(failed: asyncio.Future[None], loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A bug in a data path ends the daemon: what it was reading when it failed would never get a verdict."""
    loop.default_exception_handler(context)
    error = context.get("exception")
    if "handle" in context and error is not None and not failed.done():
        failed.set_exception(error)


async def first_end(stopped: asyncio.Event, helpers: list[asyncio.Future[None]]) -> None:
    """Until a signal comes; a helper that ends by an error ends the daemon with it."""
    waiting = asyncio.create_task(stopped.wait())
    ends: list[asyncio.Future[Any]] = [waiting, *helpers]
    done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()
