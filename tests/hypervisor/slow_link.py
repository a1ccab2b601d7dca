"""Run inside a host: takes one connection after the other, and hands on what the caller sends a while later.

What comes back is handed on at once.
"""

from __future__ import annotations

import asyncio
import sys

_CHUNK = 1 << 18


async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def hand_on() -> None:
        while True:
            due, chunk = await waiting.get()
            await asyncio.sleep(due - loop.time())
            sink.write(chunk)
            await sink.drain()

    handing_on = asyncio.create_task(hand_on())
    try:
        while chunk := await source.read(_CHUNK):
            waiting.put_nowait((loop.time() + delay, chunk))
    except OSError:
        pass
    handing_on.cancel()
    sink.close()


async def main(here: str, there: str, delay: str) -> None:
    async def serve(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            back, on = await asyncio.open_connection(*there.split(":"))
        except OSError:
            sink.close()
            return
        await asyncio.gather(carry(source, on, float(delay)), carry(back, sink, 0.0))

    server = await asyncio.start_server(serve, *here.split(":"))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
