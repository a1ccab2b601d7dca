"""The way of every packet of one NIC: queue, TAPs, rewriter and comparator put together.

1. Each of the three descriptors has one callback; it reads a bounded number of packets, so that
   none of them starves the others, and ends by carrying out what the comparator decided.
2. A buffer is reused by the next read: the comparator has copied what has to wait.
3. What was delivered to the guests is answered within microseconds: the answer is looked for instead
   of slept for, because being woken costs more than it takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Divergence
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.kernel.nfqueue import PacketQueue
from colo_bridge.kernel.tap import VNET_HEADER_BYTES, Tap
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.frame import cut_short, parse_ip
from colo_bridge.wire.packet import MalformedPacket

_READS = 64
"""Packets that one callback reads; more wait for the next turn of the loop."""
_DRAINING_TURNS = 1_024
"""Callbacks that a checkpoint drains a descriptor with: more than any queue holds, but not for ever."""
_NEEDS_CHECKSUM = 1
"""VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum is still to be finished (linux/virtio_net.h)."""


class Reporter(Protocol):
    """Who hears of divergences."""

    def diverged(self, divergence: Divergence) -> None: ...


class DataPath:
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
        """`busy_poll`: seconds for which answers are looked for after a delivery; `outlet`: for `Settings.forward`."""
        self._queue = queue
        self._mirror = mirror
        self._secondary = secondary
        self._mirror_frame = memoryview(mirror.buffer)
        self._reporter = reporter
        self._busy_poll = busy_poll
        self._outlet = outlet
        self.comparator = comparator
        self.rewriter = rewriter
        self.mirrored_discarded = 0

    def on_primary(self) -> bool:
        """Packets that the primary sent and the kernel holds; whether there may be more."""
        queue, comparator = self._queue, self.comparator
        buffer, now = queue.buffer, time.monotonic()
        more = True
        for _ in range(_READS):
            received = queue.receive()
            if received is None:
                more = False
                break
            packet_id, start, end, truncated = received
            try:
                packet = cut_short(buffer, start, end) if truncated else parse_ip(buffer, start, end)
            except MalformedPacket:
                comparator.primary_malformed(packet_id, end - start)
                continue
            comparator.primary(packet, packet_id, now)
        self._carry_out()
        return more

    def on_secondary(self) -> bool:
        """Frames that the secondary sent; whether there may be more."""
        tap, comparator, rewriter = self._secondary, self.comparator, self.rewriter
        buffer, now = tap.buffer, time.monotonic()
        more = True
        for _ in range(_READS):
            end = tap.receive()
            if not end:
                more = False
                break
            try:
                packet = rewriter.egress(buffer, VNET_HEADER_BYTES, end, bool(buffer[0] & _NEEDS_CHECKSUM), now)
            except MalformedPacket:
                comparator.secondary_malformed(end - VNET_HEADER_BYTES)
                continue
            comparator.secondary(packet, now)
            if rewriter.ready:
                self._deliver_ready()
        self._carry_out()
        return more

    def on_mirror(self) -> bool:
        """Copies of what was sent to the primary: the secondary gets them too."""
        mirror, rewriter, send, view = self._mirror, self.rewriter, self._secondary.send, self._mirror_frame
        buffer, now = mirror.buffer, time.monotonic()
        for _ in range(_READS):
            end = mirror.receive()
            if not end:
                return False
            if rewriter.ingress(buffer, VNET_HEADER_BYTES, end, bool(buffer[0] & _NEEDS_CHECKSUM), now):
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

    def tick(self, now: float) -> None:
        """Look for timeouts; to be called several times per compare timeout."""
        self.comparator.tick(now)
        self._carry_out()

    def age(self, now: float) -> None:
        """Forget idle connections; to be called about once a second."""
        self.comparator.age(now)
        self.rewriter.tick(now)

    def cure(self, now: float) -> None:
        """End what two healthy stacks might otherwise wait for."""
        if self.comparator.needs_cure:
            self.comparator.cure(now)
            self._carry_out()

    def secondary_stopped(self) -> None:
        """The secondary stands still: read what it sent before."""
        _exhaust(self.on_secondary)

    def primary_stopped(self) -> None:
        """The primary stands still: read what it sent before, and throw away what it got before.

        What it got is part of the state that the secondary takes over, or its sender repeats it.
        """
        _exhaust(self.on_primary)
        _exhaust(self._discard_mirrored)

    def checkpoint_done(self, synchronised: bool) -> None:
        """Release what is held.

        The secondary only has the primary's state (`synchronised`) if both stood still and nothing was read
        since; otherwise everything that was sent up to now is of before the checkpoint, and is read first.
        """
        if not synchronised:
            for read in (self.on_primary, self.on_secondary, self.on_mirror):
                _exhaust(read)
        self.comparator.checkpoint_done(synchronised)
        if synchronised:
            self.rewriter.synchronised()
            self._deliver_ready()
        self._carry_out()

    def _discard_mirrored(self) -> bool:
        for _ in range(_READS):
            if not self._mirror.receive():
                return False
            self.mirrored_discarded += 1
        return True

    def _carry_out(self) -> None:
        """Give the verdicts, then tell what differed."""
        comparator, queue = self.comparator, self._queue
        if comparator.forwarded:
            self._forward()
        released, revised, dropped = comparator.released, comparator.revised, comparator.dropped
        if released or revised or dropped:
            for packet_id in released:
                queue.accept(packet_id)
            for packet_id, packet in revised:
                queue.replace(packet_id, packet)
            for packet_id in dropped:
                queue.drop(packet_id)
            released.clear()
            revised.clear()
            dropped.clear()
            queue.flush()
        if comparator.divergences:
            divergences = comparator.divergences[:]
            comparator.divergences.clear()
            for divergence in divergences:
                self._reporter.diverged(divergence)

    def _forward(self) -> None:
        """Send packets of our own, and drop what they replace."""
        comparator, queue = self.comparator, self._queue
        if self._outlet is not None:
            for forward in comparator.forwarded:
                self._outlet.send(forward)
        comparator.forwarded.clear()
        for packet_id in comparator.replaced:
            queue.drop(packet_id)
        comparator.replaced.clear()
        queue.flush()

    def _deliver_ready(self) -> None:
        ready = self.rewriter.ready
        for frame in ready:
            self._secondary.send(frame)
        ready.clear()


def _exhaust(read: Callable[[], bool]) -> None:
    for _ in range(_DRAINING_TURNS):
        if not read():
            break
