"""A QEMU that consists of its machine protocol alone: it says and does what a test wants, when it wants it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

GREETING = {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": ""}, "capabilities": []}}
DELAY = 20_000


class FakeQemu:
    """Serves one client at a time, as QEMU does; `asked` counts the checkpoints that were asked for, `alone` how often
    it was told that it is alone.  What it `defers` waits in `deferred` for `catch_up`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = "running"
        self.migration = "colo"
        self.parameters: dict[str, Any] = {"x-checkpoint-delay": DELAY}
        self.refuses: set[str] = set()
        self.silent: set[str] = set()
        self.has_loaded = False
        """Of a secondary that stands still: the primary's state has come, and is what it goes on with."""
        self.defers: set[str] = set()
        self.deferred: list[dict[str, Any]] = []
        self.greeting = _line(GREETING)
        self.results: dict[str, Any] = {}
        """What is answered to a command instead of the truth."""
        self.asked = self.alone = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._turn = asyncio.Lock()
        self._writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def die(self) -> None:
        """As by SIGKILL: no event, the connection and the socket are gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()

    def drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    # What the guest does.

    def stop(self, status: str = "colo") -> None:
        self.status = status
        self.event("STOP")

    def go_on(self, at: float | None = None) -> None:
        self.status = "running"
        self.event("RESUME", at=at)

    def exit(self, reason: str = "error") -> None:
        self.migration = "failed"
        self.event("COLO_EXIT", {"mode": "primary", "reason": reason})

    def event(self, name: str, data: dict[str, Any] | None = None, at: float | None = None) -> None:
        when = time.time() if at is None else at
        timestamp = {"seconds": int(when), "microseconds": int(when % 1 * 1e6)}
        self._send({"event": name, "timestamp": timestamp} | ({"data": data} if data else {}))

    # The protocol.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._turn:
            await self._talk(reader, writer)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connections += 1
        self.say(self.greeting)
        try:
            text = ""
            while chunk := await reader.read(1 << 16):
                # Nothing stands between two requests.
                text += chunk.decode()
                with contextlib.suppress(json.JSONDecodeError):
                    while text:
                        request, end = json.JSONDecoder().raw_decode(text)
                        text = text[end:].lstrip()
                        self._requested(request)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _requested(self, request: dict[str, Any]) -> None:
        if request["execute"] in self.defers:
            self.deferred.append(request)
        else:
            self._answer(request)

    def catch_up(self) -> None:
        """Answer what was deferred, as things are now."""
        deferred, self.deferred = self.deferred, []
        for request in deferred:
            self._answer(request)

    def _answer(self, request: dict[str, Any]) -> None:
        command = request["execute"]
        if command in self.silent:
            return
        if command in self.refuses:
            answer: dict[str, Any] = {"error": {"class": "GenericError", "desc": "not now"}}
        else:
            answer = {"return": self._result(command, request.get("arguments", {}))}
        self._send(answer | ({"id": request["id"]} if "id" in request else {}))

    def _result(self, command: str, arguments: dict[str, Any]) -> Any:
        if command in self.results:
            return self.results[command]
        match command:
            case "query-status":
                return {"status": self.status, "running": self.status == "running"}
            case "query-migrate":
                return {"status": self.migration} if self.migration else {}
            case "query-migrate-parameters":
                return self.parameters
            case "migrate-set-parameters":
                assert arguments == {"x-checkpoint-delay": DELAY}
                self.asked += 1
            case "x-colo-lost-heartbeat":
                self.alone += 1
                self._end_colo()
        return {}

    def _end_colo(self) -> None:
        """A guest that stands still goes on, one that runs is stopped for a moment; not where COLO is over."""
        if self.migration == "colo":
            if self.has_loaded:
                self.go_on()
            if self.status == "running":
                self.stop("finish-migrate")
            self.exit("request")
            self.migration = "completed"
            self.go_on()

    def _send(self, message: dict[str, Any]) -> None:
        self.say(_line(message))

    def say(self, text: bytes) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(text)


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\r\n"
