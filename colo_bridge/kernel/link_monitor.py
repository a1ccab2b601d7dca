"""Hears at once when a network device of this namespace comes, goes or changes.

A socket without pyroute2, which may not be used in a running event loop.  Numbers: linux/netlink.h,
linux/rtnetlink.h, linux/if_link.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

_LINK_GROUP = 1
_NEW_LINK, _DEL_LINK = 16, 17
_HEADER = struct.Struct("=IHHII")
_LINK_BYTES = 16
"""struct ifinfomsg, between the header and the attributes."""
_ATTRIBUTE = struct.Struct("=HH")
_NAME = 3
_LARGEST = 1 << 16
_READS = 64


class LinkMonitor:
    """A descriptor that can be read when a device has changed."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _LINK_GROUP))

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> set[str] | None:
        """Names of the devices that changed; None if some changes were lost: it may have been any."""
        names: set[str] = set()
        for _ in range(_READS):
            try:
                names.update(_names(self._socket.recv(_LARGEST)))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return None
        return names

    def close(self) -> None:
        self._socket.close()


def _names(messages: bytes) -> Iterator[str]:
    at = 0
    while at + _HEADER.size <= len(messages):
        length, kind, *_ = _HEADER.unpack_from(messages, at)
        if kind in (_NEW_LINK, _DEL_LINK):
            yield _name(messages[at + _HEADER.size + _LINK_BYTES : at + length])
        at += _aligned(max(length, _HEADER.size))


def _name(attributes: bytes) -> str:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if kind == _NAME:
            return attributes[at + _ATTRIBUTE.size : at + length].rstrip(b"\0").decode(errors="replace")
        at += _aligned(max(length, _ATTRIBUTE.size))
    return ""


def _aligned(length: int) -> int:
    return (length + 3) & ~3
