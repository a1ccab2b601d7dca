"""The way of every packet of one NIC whose replicas are both on this host: a primary and a secondary side, joined.

What was delivered to the guests is answered within microseconds: the answer is looked for instead
of slept for, because being woken costs more than it takes.
"""

from __future__ import annotations

import os
import time

from colo_bridge.compare.comparator import Comparator
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.primary_side import READS, PrimarySide, Reporter, exhaust
from colo_bridge.daemon.secondary_side import NEEDS_CHECKSUM, SecondarySide
from colo_bridge.kernel.nfqueue import PacketQueue
from colo_bridge.kernel.tap import VNET_HEADER_BYTES, Tap
from colo_bridge.rewrite.rewriter import Rewriter


class DataPath(PrimarySide):
    """One NIC; `on_primary`, `on_secondary` and `on_input` are called when their descriptor can be read."""

    def __init__(
        self,
        queue: PacketQueue,
        mirror: Tap,
        secondary: Tap,
        comparator: Comparator,
        rewriter: Rewriter,
        reporter: Reporter,
        busy_poll: float = 0.0,
        outlet: Outlet | None = None,
    ) -> None:
        """`busy_poll`: seconds for which answers are looked for after a delivery."""
        super().__init__(queue, comparator, reporter, outlet)
        self._mirror = mirror
        self._mirror_frame = memoryview(mirror.buffer)
        self._secondary = secondary
        # The local link: what one side hands on the other takes at once.
        self._replica = SecondarySide(secondary, rewriter, comparator.secondary, comparator.secondary_malformed)
        self._busy_poll = busy_poll
        self.rewriter = rewriter
        self.mirrored_discarded = 0

    def on_secondary(self) -> bool:
        """Frames that the secondary sent; whether there may be more."""
        more = self._replica.read()
        self._carry_out()
        return more

    def on_mirror(self) -> bool:
        """Copies of what was sent to the primary: the secondary gets them too."""
        mirror, rewriter, send, view = self._mirror, self.rewriter, self._secondary.send, self._mirror_frame
        buffer, now = mirror.buffer, time.monotonic()
        for _ in range(READS):
            end = mirror.receive()
            if not end:
                return False
            if rewriter.ingress(buffer, VNET_HEADER_BYTES, end, bool(buffer[0] & NEEDS_CHECKSUM), now):
                send(view[:end])
        return True

    def on_input(self) -> None:
        """`on_mirror`, and then a short while of looking for what the guests answer."""
        if self.on_mirror() or not self._busy_poll:
            return
        comparator, deadline = self.comparator, time.monotonic() + self._busy_poll
        released = comparator.released_packets
        while comparator.released_packets == released and time.monotonic() < deadline:
            self.on_secondary()
            self.on_primary()
            self.on_mirror()
            os.sched_yield()

    def age(self, now: float) -> None:
        super().age(now)
        self.rewriter.tick(now)

    def secondary_stopped(self) -> None:
        """The secondary stands still: read what it sent before."""
        exhaust(self.on_secondary)

    def primary_stopped(self) -> None:
        """The primary stands still: read what it sent before, and throw away what it got before.

        What it got is part of the state that the secondary takes over, or its sender repeats it.
        """
        exhaust(self.on_primary)
        exhaust(self._discard_mirrored)

    def checkpoint_done(self, synchronised: bool) -> None:
        """Release what is held.

        The secondary only has the primary's state (`synchronised`) if both stood still and nothing was read
        since; otherwise everything that was sent up to now is of before the checkpoint, and is read first.
        """
        if not synchronised:
            for read in (self.on_primary, self.on_secondary, self.on_mirror):
                exhaust(read)
        self.comparator.checkpoint_done(synchronised)
        if synchronised:
            self._replica.synchronised()
        self._carry_out()

    def _discard_mirrored(self) -> bool:
        for _ in range(READS):
            if not self._mirror.receive():
                return False
            self.mirrored_discarded += 1
        return True
