"""The primary's packets of one NIC: held, in the kernel or here, judged by the comparator, and given their verdict.

1. One callback reads a bounded number of packets, so that no descriptor starves the others, and ends by carrying out
   what the comparator decided.
2. A buffer is reused by the next read: the comparator has copied what has to wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Divergence
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.membership.actions import Traffic
from colo_bridge.wire.frame import cut_short, parse_ip
from colo_bridge.wire.packet import MalformedPacket, Parsed

READS = 64
"""Packets that one callback reads; more wait for the next turn of the loop."""
_DRAINING_TURNS = 1_024
"""Callbacks that a checkpoint drains a descriptor with: more than any queue holds, but not for ever."""


class Reporter(Protocol):
    """Who hears of divergences."""

    def diverged(self, divergence: Divergence) -> None: ...


class HeldPackets(Protocol):
    """Where the primary's packets wait for their verdict; see `PacketQueue`."""

    @property
    def buffer(self) -> bytearray: ...

    def fileno(self) -> int: ...

    def receive(self) -> tuple[int, int, int, bool] | None:
        """The next packet: its number, where it stands in `buffer`, whether it was cut; None: nothing waits."""

    def accept(self, packet_id: int, /) -> None: ...

    def drop(self, packet_id: int, /) -> None: ...

    def replace(self, packet_id: int, payload: bytes, /) -> None:
        """Accept with another IP packet, whose checksums are finished."""

    def flush(self) -> None:
        """Carry out what was said."""


class PrimarySide:
    """`on_primary` is called when the queue can be read; `traffic` says what becomes of what is read."""

    def __init__(
        self,
        queue: HeldPackets,
        comparator: Comparator,
        reporter: Reporter,
        outlet: Outlet | None = None,
        parse: Callable[[bytearray, int, int], Parsed] = parse_ip,
    ) -> None:
        """`outlet`: for `Settings.forward`; `parse`: what stands in the queue's buffer."""
        self._queue = queue
        self._reporter = reporter
        self._outlet = outlet
        self._parse = parse
        self.comparator = comparator
        self.traffic = Traffic.COMPARE
        self.passed_packets = self.blocked_packets = 0
        """Of the primary, let through or dropped without a look because nobody is there to compare them with."""

    def on_primary(self) -> bool:
        """Packets that the primary sent and the kernel holds; whether there may be more."""
        if self.traffic is not Traffic.COMPARE:
            return self._decide_unseen(self.traffic is Traffic.PASS)
        queue, comparator, parse = self._queue, self.comparator, self._parse
        buffer, now = queue.buffer, time.monotonic()
        more = True
        for _ in range(READS):
            received = queue.receive()
            if received is None:
                more = False
                break
            packet_id, start, end, truncated = received
            try:
                packet = cut_short(buffer, start, end) if truncated else parse(buffer, start, end)
            except MalformedPacket:
                comparator.primary_malformed(packet_id, end - start)
                continue
            comparator.primary(packet, packet_id, now)
        self._carry_out()
        return more

    def tick(self, now: float) -> None:
        """Look for timeouts; to be called several times per compare timeout."""
        if self.traffic is not Traffic.BLOCK:
            self.comparator.tick(now)
            self._carry_out()

    def age(self, now: float) -> None:
        """Forget idle connections; to be called about once a second."""
        self.comparator.age(now)

    def cure(self, now: float) -> None:
        """End what two healthy stacks might otherwise wait for."""
        if self.comparator.needs_cure and self.traffic is not Traffic.BLOCK:
            self.comparator.cure(now)
            self._carry_out()

    def forget(self) -> None:
        """Release what is held, and forget all connections: there is nobody to compare them with."""
        self.comparator.forget()
        self._carry_out_if_allowed()

    def _decide_unseen(self, accepted: bool) -> bool:
        queue = self._queue
        decide = queue.accept if accepted else queue.drop
        count = 0
        while count < READS and (received := queue.receive()) is not None:
            decide(received[0])
            count += 1
        queue.flush()
        if accepted:
            self.passed_packets += count
        else:
            self.blocked_packets += count
        return count == READS

    def _carry_out_if_allowed(self) -> None:
        """Give the verdicts; where nothing may leave, all that the comparator lets go is dropped."""
        if self.traffic is Traffic.BLOCK:
            comparator = self.comparator
            barred = [*comparator.released, *(packet_id for packet_id, _ in comparator.revised), *comparator.replaced]
            for decided in (comparator.released, comparator.revised, comparator.replaced, comparator.forwarded):
                decided.clear()
            comparator.dropped += barred
            self.blocked_packets += len(barred)
        self._carry_out()

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


def exhaust(read: Callable[[], bool]) -> None:
    """Read until nothing waits."""
    for _ in range(_DRAINING_TURNS):
        if not read():
            break
