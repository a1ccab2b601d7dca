"""The secondary's packets of one NIC: read from its TAP, put into the primary's numbers, and handed on."""

from __future__ import annotations

import time
from collections.abc import Callable

from colo_bridge.daemon.primary_side import READS
from colo_bridge.kernel.tap import VNET_HEADER_BYTES, Tap
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.packet import MalformedPacket, Parsed

NEEDS_CHECKSUM = 1
"""VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum is still to be finished (linux/virtio_net.h)."""


class SecondarySide:
    """`read` takes what the secondary sent; what the rewriter has ready for it is delivered on the way.

    `passed_on` gets each packet, in the primary's numbers, while its frame stands in the TAP's buffer up to `end`;
    `malformed` the length of each frame that makes no sense.
    """

    def __init__(
        self,
        tap: Tap,
        rewriter: Rewriter,
        passed_on: Callable[[Parsed, float], None],
        malformed: Callable[[int], None],
    ) -> None:
        self._tap = tap
        self._passed_on = passed_on
        self._malformed = malformed
        self.rewriter = rewriter
        self.end = 0

    def read(self) -> bool:
        """Frames that the secondary sent; whether there may be more."""
        tap, rewriter, passed_on = self._tap, self.rewriter, self._passed_on
        buffer, now = tap.buffer, time.monotonic()
        for _ in range(READS):
            self.end = end = tap.receive()
            if not end:
                return False
            try:
                packet = rewriter.egress(buffer, VNET_HEADER_BYTES, end, bool(buffer[0] & NEEDS_CHECKSUM), now)
            except MalformedPacket:
                self._malformed(end - VNET_HEADER_BYTES)
                continue
            passed_on(packet, now)
            if rewriter.ready:
                self.deliver_ready()
        return True

    def synchronised(self) -> None:
        """The secondary is a copy of the primary now."""
        self.rewriter.synchronised()
        self.deliver_ready()

    def deliver_ready(self) -> None:
        ready = self.rewriter.ready
        for frame in ready:
            self._tap.send(frame)
        ready.clear()
