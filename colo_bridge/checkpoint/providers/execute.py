"""A command of the operator's, run with little, for a bounded time, to its exit status; what it prints is logged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence

OUTPUT_LINES = 100
"""Lines of the command's output that reach our log; the rest is read and counted only."""
LINE_LENGTH = 500
"""Characters of one such line."""
KILL_SECONDS = 1.0
"""How long after SIGKILL we wait for the command's end: it does not come while the kernel does something for it."""
DRAIN_SECONDS = 1.0
"""How long after the command's end we still read, should a process it left behind hold the pipe."""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# setpriv(1) of util-linux, so that what a daemon without root keeps as ambient capabilities does not pass to the
# command, and that the command does not outlive a daemon that is killed.
_CONFINED = ("setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--pdeathsig=KILL", "--")

log = logging.getLogger(__name__)


class Command:
    """It gets the variables that it is run with and no others, no standard input, and a session of its own."""

    def __init__(self, name: str, command: Sequence[str], timeout: float) -> None:
        """`name`: what the log calls it."""
        self._name = name
        self._command = command
        self._timeout = timeout
        self._ends: set[asyncio.Future[int]] = set()

    async def run(self, variables: Mapping[str, str]) -> bool:
        """True for exit status 0, False for any other end or the time-out.  Cancelling it kills it.

        It returns when the command has ended, or KILL_SECONDS after SIGKILL, and at most DRAIN_SECONDS after that.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._run({"PATH": SEARCH_PATH, "LANG": "C.UTF-8", **variables})
        except TimeoutError:
            log.error("%s killed after %g s", self._name, self._timeout)
        except OSError as error:
            log.error("%s cannot be run: %s", self._name, error)
        return False

    async def _run(self, environment: Mapping[str, str]) -> bool:
        # A pipe of our own: with subprocess.PIPE the end of the command would not be
        # noticed before every process that inherited the pipe has closed it.
        read_end, write_end = os.pipe()
        output = asyncio.create_task(self._log_output(read_end))
        try:
            process = await self._spawn(environment, write_end)
        finally:
            os.close(write_end)
        try:
            status = await process.wait()
        finally:
            await self._stop(process)
            await _end_output(output)
        if status:
            log.error("%s failed with status %d", self._name, status)
        return status == 0

    async def _spawn(self, environment: Mapping[str, str], output: int) -> Process:
        return await asyncio.create_subprocess_exec(
            *_CONFINED,
            *self._command,
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    async def _stop(self, process: Process) -> None:
        """Kill the command's process group unless the command has ended by itself."""
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        end = asyncio.ensure_future(process.wait())
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)
        await asyncio.wait([end], timeout=KILL_SECONDS)
        if not end.done():
            log.error("%s: process %d does not end by SIGKILL: it is left behind", self._name, process.pid)
            end.add_done_callback(lambda _: log.warning("%s: process %d has ended", self._name, process.pid))

    async def _log_output(self, descriptor: int) -> None:
        """Log the first lines; read the rest too, or the command would block on a full pipe."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        with contextlib.closing(transport):
            left_out = await self._log_lines(reader)
        if left_out:
            log.warning("%s: %d more lines of output left out", self._name, left_out)

    async def _log_lines(self, reader: asyncio.StreamReader) -> int:
        """Log up to OUTPUT_LINES lines until the end; returns how many more there were."""
        pending, lines = b"", 0
        while chunk := await reader.read(1 << 16):
            *complete, pending = (pending[:LINE_LENGTH] + chunk).split(b"\n")
            for line in complete[: max(0, OUTPUT_LINES - lines)]:
                self._log_line(line)
            lines += len(complete)
        if pending and lines < OUTPUT_LINES:
            self._log_line(pending)
        return max(0, lines - OUTPUT_LINES)

    def _log_line(self, line: bytes) -> None:
        text = line[:LINE_LENGTH].decode("utf-8", "replace")
        log.info("%s: %s", self._name, "".join(c if c.isprintable() else "?" for c in text))


async def _end_output(output: asyncio.Task[None]) -> None:
    await asyncio.wait([output], timeout=DRAIN_SECONDS)
    output.cancel()
