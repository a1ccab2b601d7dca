"""The same over HTTP, for clients that are not ours: what is answered depends on the request alone.

GET /N/SEED         N bytes of the seed's content
GET /N/SEED/RATE    the same, RATE bytes in a second and evenly, however fast they are read
PUT /…              the answer is the SHA-256 of what was sent, in hexadecimal, and a newline
"""

from __future__ import annotations

import hashlib
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from colo_bridge.lab.service.server import BACKLOG, CHUNK, dual_stack, send_content

_MOST_PACING_RATE = 47
"""SO_MAX_PACING_RATE, in bytes per second (asm-generic/socket.h)."""


class HttpServer(ThreadingHTTPServer):
    """Serves until `shutdown`; at `::` for both families."""

    request_queue_size = BACKLOG

    def __init__(self, address: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        dual_stack(self.socket)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def date_time_string(self, _timestamp: float | None = None) -> str:
        """The time of day is where two replicas differ."""
        return "Thu, 01 Jan 1970 00:00:00 GMT"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the lab's logs are for problems."""

    def do_GET(self) -> None:
        words = self.path.split("/")[1:]
        if len(words) not in (2, 3) or not all(word.isdigit() for word in words):
            self.send_error(404)
            return
        length, seed, *rate = map(int, words)
        if rate:
            self.connection.setsockopt(socket.SOL_SOCKET, _MOST_PACING_RATE, rate[0].to_bytes(8, sys.byteorder))
        self._begin(200, length)
        send_content(self.connection, length, seed)

    def do_PUT(self) -> None:
        remaining = int(self.headers["Content-Length"])
        digest = hashlib.sha256()
        while remaining and (piece := self.rfile.read1(min(remaining, CHUNK))):
            remaining -= len(piece)
            digest.update(piece)
        answer = f"{digest.hexdigest()}\n".encode()
        self._begin(201, len(answer))
        self.wfile.write(answer)

    def _begin(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
