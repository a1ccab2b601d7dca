"""Servers that the lab's tests run in both guests: what they answer depends on the request alone.

python -m tests.lab.servers http DIRECTORY     files by GET and PUT, over both families, at port 80
python -m tests.lab.servers echo               datagrams sent back over both families, at port 7
"""

from __future__ import annotations

import selectors
import socket
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HTTP_PORT, ECHO_PORT = 80, 7
_CHUNK = 1 << 20


class _Handler(SimpleHTTPRequestHandler):
    """Without the time of day, in which two replicas differ."""

    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Thu, 01 Jan 1970 00:00:00 GMT"

    def do_PUT(self) -> None:
        remaining = int(self.headers["Content-Length"])
        with Path(self.translate_path(self.path)).open("wb") as file:
            while remaining and (piece := self.rfile.read(min(remaining, _CHUNK))):
                remaining -= file.write(piece)
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def serve_files(directory: str) -> None:
    with _Server(("::", HTTP_PORT), lambda *arguments: _Handler(*arguments, directory=directory)) as server:
        server.serve_forever()


def echo() -> None:
    """Every datagram goes back to where it came from; a socket each, so that the source address is right."""
    selector = selectors.DefaultSelector()
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        made = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.bind((any_address, ECHO_PORT))
        selector.register(made, selectors.EVENT_READ, made)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            datagram, sender = key.data.recvfrom(1 << 16)
            key.data.sendto(datagram, sender)


if __name__ == "__main__":
    _SERVERS = {"http": serve_files, "echo": echo}
    _SERVERS[sys.argv[1]](*sys.argv[2:])
