"""A checkpoint that is done when the operator's command says so by its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping

from colo_bridge.config import CheckpointConfig

OUTPUT_LINES = 100
"""Lines of the command's output that reach our log; the rest is read and counted only."""
LINE_LENGTH = 500
"""Characters of one such line."""
DRAIN_SECONDS = 1.0
"""How long after the command's end we still read, should a process it left behind hold the pipe."""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# setpriv(1) of util-linux, so that what a daemon without root keeps as ambient
# capabilities does not pass to the command.
WITHOUT_AMBIENT = ("setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--")

log = logging.getLogger(__name__)


class CommandProvider:
    """Runs `checkpoint.command`; it copies no state itself, so connections keep their offsets.

    The command gets COLO_GUEST, COLO_REASON, COLO_CONNECTION (and one COLO_… variable
    for each further detail), no standard input, and a session of its own.
    """

    synchronises_state = False

    def __init__(self, guest: str, config: CheckpointConfig) -> None:
        self._guest = guest
        self._config = config

    async def checkpoint(self, reason: str, detail: Mapping[str, str]) -> bool:
        """Run the command; True for exit status 0, False for any other end or the time-out."""
        try:
            async with asyncio.timeout(self._config.timeout):
                return await self._run(self._environment(reason, detail))
        except TimeoutError:
            log.error("checkpoint command killed after %g s", self._config.timeout)
        except OSError as error:
            log.error("checkpoint command cannot be run: %s", error)
        return False

    def _environment(self, reason: str, detail: Mapping[str, str]) -> dict[str, str]:
        details = {f"COLO_{name.upper()}": value for name, value in detail.items()}
        named = {"COLO_GUEST": self._guest, "COLO_REASON": reason}
        return {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "COLO_CONNECTION": "", **details, **named}

    async def _run(self, environment: Mapping[str, str]) -> bool:
        # A pipe of our own: with subprocess.PIPE the end of the command would not be
        # noticed before every process that inherited the pipe has closed it.
        read_end, write_end = os.pipe()
        output = asyncio.create_task(_log_output(read_end))
        try:
            process = await self._spawn(environment, write_end)
        finally:
            os.close(write_end)
        try:
            status = await process.wait()
        finally:
            await _stop(process)
            await _end_output(output)
        if status:
            log.error("checkpoint command failed with status %d", status)
        return status == 0

    async def _spawn(self, environment: Mapping[str, str], output: int) -> Process:
        return await asyncio.create_subprocess_exec(
            *WITHOUT_AMBIENT,
            *self._config.command,
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd="/",
            start_new_session=True,
        )


async def _stop(process: Process) -> None:
    """Kill the command's process group unless the command has ended by itself."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _end_output(output: asyncio.Task[None]) -> None:
    await asyncio.wait([output], timeout=DRAIN_SECONDS)
    output.cancel()


async def _log_output(descriptor: int) -> None:
    """Log the first lines; read the rest too, or the command would block on a full pipe."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    with contextlib.closing(transport):
        left_out = await _log_lines(reader)
    if left_out:
        log.warning("checkpoint command: %d more lines of output left out", left_out)


async def _log_lines(reader: asyncio.StreamReader) -> int:
    """Log up to OUTPUT_LINES lines until the end; returns how many more there were."""
    pending, lines = b"", 0
    while chunk := await reader.read(1 << 16):
        *complete, pending = (pending[:LINE_LENGTH] + chunk).split(b"\n")
        for line in complete[: max(0, OUTPUT_LINES - lines)]:
            _log_line(line)
        lines += len(complete)
    if pending and lines < OUTPUT_LINES:
        _log_line(pending)
    return max(0, lines - OUTPUT_LINES)


def _log_line(line: bytes) -> None:
    text = line[:LINE_LENGTH].decode("utf-8", "replace")
    log.info("checkpoint command: %s", "".join(c if c.isprintable() else "?" for c in text))
