"""The control socket: one JSON object a line in, one out, for root, ourselves and the users that are configured.

{"verb": "status", …}   →   {"ok": true, "result": …}
anything wrong          →   {"ok": false, "error": "one sentence"}

What stands beside the verb are its arguments. The kernel says who asks; that is judged with each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from colo_bridge.daemon import unix_socket
from colo_bridge.daemon.rate import RateLimit
from colo_bridge.errors import ColoBridgeError, OperatorError, PeerError

LINE_LIMIT = 64 * 1024
"""Bytes of one request, its newline included."""
CLIENT_LIMIT = 16
"""Connections served at once."""
IDLE_SECONDS = 30.0
"""How long a client may be silent, or leave an answer unread."""

LOOKS = frozenset(("status", "passthrough-list"))
"""Verbs that change nothing, and are not logged."""
GROUP_VERBS = ("failover", "solo", "resume", "protect", "drain")
"""Verbs about who speaks, of replicas on two hosts."""
_LOGGED_CHARACTERS = 500
_REFUSED_LINES, _REFUSED_SECONDS = 20, 60.0
"""Refused users that are logged, in so many seconds: with a socket for several users anybody can ask."""

Verb = Callable[[dict[str, object]], object]
"""Answers a request, or returns an awaitable for what takes its time."""

log = logging.getLogger(__name__)


def refusing(verbs: Iterable[str], problem: str, hint: str = "") -> dict[str, Verb]:
    """Verbs that a daemon of this role or configuration does not have, each with the reason."""

    def refuse(_request: Mapping[str, object]) -> object:
        raise OperatorError(problem, hint)

    return dict.fromkeys(verbs, refuse)


class ControlServer:
    """Answers `verbs` on the Unix stream socket `path` inside the running event loop."""

    def __init__(
        self,
        path: Path,
        verbs: Mapping[str, Verb],
        *,
        uids: Collection[int] = (),
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`uids`: users who are answered besides root and ourselves."""
        self._path = path
        self._verbs = verbs
        self._uids = frozenset(uids)
        self._refused_lines = RateLimit(_REFUSED_LINES, _REFUSED_SECONDS)
        self._idle_seconds = idle_seconds
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._inode = 0

    def claim(self) -> None:
        """Take the path; raises OperatorError if another daemon has it or it cannot be used.

        Apart from `start`, because whoever is to be the only one must know before it changes anything.
        """
        self._listener, self._inode = _listen(self._path, bool(self._uids))
        self._warn_of_directory()

    def admit(self, uids: Collection[int]) -> None:
        """Answer these from now on, and no others but root and ourselves."""
        self._uids = frozenset(uids)
        unix_socket.open_to_all(self._path, self._inode, bool(uids))
        self._warn_of_directory()

    def _warn_of_directory(self) -> None:
        with contextlib.suppress(OSError):
            if self._uids and not self._path.parent.stat().st_mode & stat.S_IXOTH:
                log.warning("control socket: the users of control.uids may not enter %s (chmod o+x)", self._path.parent)

    def release(self) -> None:
        """Give a path back that was claimed."""
        if self._listener is not None:
            self._listener.close()
        unix_socket.remove(self._path, self._inode)

    async def start(self) -> None:
        """Answer in the running loop; claims the path if that was not done."""
        if self._listener is None:
            self.claim()
        self._server = await asyncio.start_unix_server(self._accept, sock=self._listener, limit=LINE_LIMIT)

    async def close(self) -> None:
        """Stop listening, end every connection and take the socket away."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        unix_socket.remove(self._path, self._inode)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        self._clients.add(client)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._clients.discard(client)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = _peer_uid(writer)
        if refusal := self._refusal(uid) or self._crowded():
            await self._send(writer, _failure(refusal))
            return
        while line := await self._line(reader, writer):
            await self._send(writer, await self._answer(line, uid))

    def _refusal(self, uid: int) -> str:
        if uid in (0, os.geteuid()) or uid in self._uids:
            return ""
        if self._refused_lines.allows(time.monotonic()):
            log.warning("control socket: uid %d refused", uid)
        return "only root and the users of control.uids may use the control socket"

    def _crowded(self) -> str:
        return "too many clients" if len(self._clients) > CLIENT_LIMIT else ""

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The next request; empty at the end of the connection or after one that is too long."""
        async with asyncio.timeout(self._idle_seconds):
            try:
                return await reader.readline()
            except ValueError:
                pass
        await self._send(writer, _failure(f"a request is limited to {LINE_LIMIT} bytes"))
        return b""

    async def _send(self, writer: asyncio.StreamWriter, answer: dict[str, object]) -> None:
        writer.write(json.dumps(answer).encode() + b"\n")
        async with asyncio.timeout(self._idle_seconds):
            await writer.drain()

    async def _answer(self, line: bytes, uid: int) -> dict[str, object]:
        # They may have changed since this user connected.
        if refusal := self._refusal(uid):
            return _failure(refusal)
        try:
            request = _parse(line)
            verb = self._verbs[_verb_name(request, self._verbs)]
            if request["verb"] not in LOOKS:
                log.info("control socket: %s by uid %d", _describe(request), uid)
            result = verb(request)
            return {"ok": True, "result": await result if inspect.isawaitable(result) else result}
        except ColoBridgeError as error:
            return _failure(str(error))
        except Exception:
            # A bug in one answer must not end the connection, let alone the data path.
            log.exception("control socket: a request failed")
            return _failure("internal error; see the log")


def _failure(error: str) -> dict[str, object]:
    return {"ok": False, "error": error}


def _parse(line: bytes) -> dict[str, object]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PeerError("the request is not JSON") from error
    if not isinstance(request, dict):
        raise PeerError("the request is not a JSON object")
    return request


def _describe(request: Mapping[str, object]) -> str:
    """The verb and its arguments, on one line of bounded length."""
    arguments = {key: value for key, value in request.items() if key != "verb"}
    text = f" {json.dumps(arguments)}" if arguments else ""
    return f"{request['verb']}{text[:_LOGGED_CHARACTERS]}"


def _verb_name(request: Mapping[str, object], verbs: Mapping[str, Verb]) -> str:
    name = request.get("verb")
    if not isinstance(name, str) or name not in verbs:
        raise PeerError("unknown verb", f"known are {', '.join(sorted(verbs))}")
    return name


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    """Who connected, from SO_PEERCRED: struct ucred is pid, uid, gid (unix(7))."""
    peer: socket.socket = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def _listen(path: Path, for_others: bool) -> tuple[socket.socket, int]:
    """The listening socket and its file's inode; a dead daemon's socket is replaced."""
    try:
        path.parent.mkdir(mode=0o711 if for_others else 0o700, parents=True, exist_ok=True)
        listener, inode = unix_socket.listen(path, CLIENT_LIMIT)
        unix_socket.open_to_all(path, inode, for_others)
        return listener, inode
    except OSError as error:
        raise OperatorError(f"cannot make the control socket {path}: {error.strerror or error}") from error
