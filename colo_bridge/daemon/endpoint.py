"""Where a stream socket listens: `unix:PATH` or `tcp:HOST:PORT`.

1. Whoever may connect may read and write the guest's network traffic: a Unix socket is its owner's alone (mode 0600),
   TCP is for this host alone unless the operator insists.
2. What a dead process left at a path is replaced; a live one's is not.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from colo_bridge.daemon import unix_socket
from colo_bridge.errors import OperatorError

log = logging.getLogger(__name__)

_TCP = re.compile(r"\[([^]]+)\]:(\d{1,5})|([^:]+):(\d{1,5})")
_BACKLOG = 16
"""Clients that may wait for the one that is being served to go."""


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """Port 0 lets the kernel choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"


Endpoint = UnixEndpoint | TcpEndpoint


def parse(text: str) -> Endpoint:
    """Raises OperatorError."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return UnixEndpoint(Path(rest))
    found = _TCP.fullmatch(rest)
    if kind == "tcp" and found:
        host, port = found[1] or found[3], int(found[2] or found[4])
        if port <= 0xFFFF:
            return TcpEndpoint(host, port)
    raise OperatorError(f"{text!r} is no address", "unix:PATH or tcp:HOST:PORT, as in tcp:127.0.0.1:9004")


class Listener:
    """A listening socket; raises OperatorError if it cannot be made."""

    def __init__(self, endpoint: Endpoint, insecure: bool = False) -> None:
        """`insecure`: TCP may listen where other hosts can connect."""
        self._inode = 0
        self._path: Path | None = None
        try:
            if isinstance(endpoint, UnixEndpoint):
                self._path = endpoint.path
                self.socket, self._inode = unix_socket.listen(endpoint.path, _BACKLOG)
            else:
                self.socket = _listen_tcp(endpoint, insecure)
                endpoint = TcpEndpoint(endpoint.host, self.socket.getsockname()[1])
        except OSError as error:
            raise OperatorError(f"cannot listen at {endpoint}: {error.strerror or error}") from error
        self.endpoint = endpoint

    def close(self) -> None:
        self.socket.close()
        if self._path is not None:
            unix_socket.remove(self._path, self._inode)


def _listen_tcp(endpoint: TcpEndpoint, insecure: bool) -> socket.socket:
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    # `localhost` is IPv4 first: that is where clients look that know only one of the two.
    family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    if not ipaddress.ip_address(address[0]).is_loopback:
        if not insecure:
            raise OperatorError(
                f"{endpoint} can be reached from other hosts, and nothing here asks who they are",
                "use a Unix socket or 127.0.0.1, or say --insecure",
            )
        log.warning("%s can be reached from other hosts: they can read and forge what the guest sends", endpoint)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
