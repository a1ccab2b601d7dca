"""One NIC of a secondary on its own host: its packets go to the primary's daemon, until it goes live.

    out       where what the guest sends goes                     when
    --------  --------------------------------------------------  -------------------------------------------
    LINK      to the primary's daemon                             the link is up and the epoch is the primary's
    KEEP      there too, and the newest of it is kept             nothing was heard of the primary for a while
    DISCARD   nowhere, and is counted                             nobody could tell which epoch it is of

1. A guest that is not live reaches nobody but the primary's daemon.
2. What was kept leaves when the guest goes live: with it begins what its clients miss.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Sequence

from colo_bridge.daemon.linked_path import Sender
from colo_bridge.daemon.primary_side import exhaust
from colo_bridge.daemon.secondary_side import NEEDS_CHECKSUM, SecondarySide
from colo_bridge.kernel.tap import VNET_HEADER_BYTES, Tap
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.framing import Frame
from colo_bridge.wire.packet import Parsed

MOST_KEPT = 512
"""Frames that are kept while nothing is heard of the primary; the oldest make room."""


class Out(enum.Enum):
    LINK = "link"
    KEEP = "keep"
    DISCARD = "discard"


class SecondaryPath:
    """`on_secondary` is called when the secondary's TAP can be read."""

    def __init__(self, nic: str, tap: Tap, link: Sender, rewriter: Rewriter) -> None:
        self.nic = nic
        self.rewriter = rewriter
        self.delivers = False
        """Whether what the link brings belongs to the guest's epoch."""
        self.discarded_ingress = self.discarded_egress = 0
        self.malformed_secondary = 0
        self.kept_overflow = 0
        """Of what was kept, forgotten because newer ones took the room."""
        self._tap = tap
        self._frame = memoryview(tap.buffer)
        self._link = link
        self._side = SecondarySide(tap, rewriter, self._pass_on, self._count_malformed)
        self._out = Out.DISCARD
        self._kept: deque[bytes] = deque(maxlen=MOST_KEPT)

    @property
    def out(self) -> Out:
        return self._out

    @out.setter
    def out(self, out: Out) -> None:
        if out is not Out.KEEP:
            self._kept.clear()
        self._out = out

    def take_over(self) -> list[bytes]:
        """The guest is the service; what was kept, in the numbers that the clients know.

        What belongs to an inherited connection has others, and is left to the guest to repeat.
        """
        rewriter = self.rewriter
        kept = [
            frame for frame in self._kept if not rewriter.is_inherited(bytearray(frame), VNET_HEADER_BYTES, len(frame))
        ]
        self._kept.clear()
        rewriter.take_over(time.monotonic())
        return kept

    # The guest.

    def on_secondary(self) -> bool:
        """Frames that the secondary sent; whether there may be more."""
        more = self._side.read()
        if self._out in (Out.LINK, Out.KEEP):
            self._link.flush(self.nic)
        return more

    def stopped(self) -> None:
        """The secondary stands still: read what it sent before."""
        exhaust(self.on_secondary)

    def synchronised(self) -> None:
        """The secondary is a copy of the primary now, which has sent, or never will, what was kept until here."""
        self._kept.clear()
        self._side.synchronised()

    def age(self, now: float) -> None:
        self.rewriter.tick(now)

    # The link.

    def from_primary(self, buffer: bytearray, frames: Sequence[Frame]) -> None:
        """What clients sent to the primary; `frames` are indexes into `buffer`, virtio-net headers in front."""
        if not self.delivers:
            self.discarded_ingress += len(frames)
            return
        ingress, send, now = self.rewriter.ingress, self._tap.send, time.monotonic()
        with memoryview(buffer) as view:
            for _, start, end in frames:
                header = start - VNET_HEADER_BYTES
                if ingress(buffer, start, end, bool(buffer[header] & NEEDS_CHECKSUM), now):
                    send(view[header:end])

    # Where packets go.

    def _pass_on(self, _packet: Parsed, _now: float) -> None:
        frame, out = self._frame[: self._side.end], self._out
        # Fast path: the primary is there.
        if out is Out.LINK:
            self._link.put(self.nic, frame)
        elif out is Out.KEEP:
            self.kept_overflow += len(self._kept) == MOST_KEPT
            self._kept.append(bytes(frame))
            self._link.put(self.nic, frame)
        else:
            self.discarded_egress += 1

    def _count_malformed(self, _length: int) -> None:
        self.malformed_secondary += 1
