"""What the kernel is told about a packet of our own (struct virtio_net_hdr_mrg_rxbuf, host byte order)."""

from __future__ import annotations

import struct

import pytest

from colo_bridge.compare.decisions import Forward
from colo_bridge.daemon.outlet import Outlet

ETHERNET = bytes(12) + b"\x08\x00"
TAGGED = bytes(12) + b"\x81\x00\x00\x07\x08\x00"


class Noting:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, frame: bytes) -> bool:
        self.sent.append(frame)
        return True


@pytest.mark.parametrize(
    ("forward", "header"),
    [
        (Forward(ETHERNET, b"\x45" + bytes(60), 20, 52, 0), (1, 0, 66, 0, 34, 16, 0)),
        (Forward(ETHERNET, b"\x45" + bytes(5_000), 20, 52, 1_200), (1, 1, 66, 1_200, 34, 16, 0)),
        (Forward(TAGGED, b"\x60" + bytes(5_000), 40, 60, 1_200), (1, 4, 78, 1_200, 58, 16, 0)),
    ],
)
def test_the_kernel_finishes_the_checksum_and_cuts_what_is_large(forward: Forward, header: tuple[int, ...]) -> None:
    tap = Noting()
    Outlet(tap).send(forward)
    assert tap.sent == [struct.pack("=BBHHHHH", *header) + forward.ethernet + forward.packet]
