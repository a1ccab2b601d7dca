"""Packets of our own, on their way to the clients.

What the kernel takes no more of is counted by the TAP; nothing is lost by it, since TCP repeats.
"""

from __future__ import annotations

import struct
from typing import Protocol

from colo_bridge.compare.decisions import Forward

_HEADER = struct.Struct("=BBHHHHH")
"""struct virtio_net_hdr_mrg_rxbuf of <linux/virtio_net.h>: flags, GSO type, header length, GSO size, checksum start
and offset, number of buffers."""
_NEEDS_CHECKSUM, _GSO_NONE, _GSO_TCPV4, _GSO_TCPV6 = 1, 0, 1, 4
_TCP_CHECKSUM = 16


class Way(Protocol):
    def send(self, frame: bytes, /) -> object:
        """Send a frame, its virtio-net header in front."""


class Outlet:
    def __init__(self, way: Way) -> None:
        """`way`: a TAP that leads to the clients, for one."""
        self._way = way

    def send(self, forward: Forward) -> None:
        """Hand a packet to the bridge; the kernel cuts it and finishes its checksum."""
        self._way.send(_header(forward) + forward.ethernet + forward.packet)


def _header(forward: Forward) -> bytes:
    ethernet = len(forward.ethernet)
    gso_type = _GSO_NONE
    if forward.segment_size:
        gso_type = _GSO_TCPV6 if forward.packet[0] >> 4 == 6 else _GSO_TCPV4
    return _HEADER.pack(
        _NEEDS_CHECKSUM,
        gso_type,
        ethernet + forward.payload,
        forward.segment_size,
        ethernet + forward.tcp,
        _TCP_CHECKSUM,
        0,
    )
