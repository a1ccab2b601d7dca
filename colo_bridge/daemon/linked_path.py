"""One NIC of a guest whose secondary is on another host: what clients send goes there, what it answers comes back."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from colo_bridge.compare.comparator import Comparator
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.primary_side import HeldPackets, PrimarySide, Reporter, exhaust
from colo_bridge.membership.actions import Traffic
from colo_bridge.rewrite.inheritance import Offsets
from colo_bridge.wire.frame import parse_frame, parse_ip
from colo_bridge.wire.framing import Frame
from colo_bridge.wire.packet import MalformedPacket, Parsed


class Sender(Protocol):
    """The link, as far as packets are sent on it."""

    def put(self, nic: str, packet: memoryview, /) -> bool:
        """Queue a copy of a packet with its virtio-net header; False: there is no room, or no link."""

    def flush(self, nic: str, /) -> None:
        """Send what was put."""


class LinkedPath(PrimarySide):
    """`on_primary` and `on_mirror` are called when their descriptor can be read, `from_secondary` by the link."""

    def __init__(
        self,
        nic: str,
        queue: HeldPackets,
        link: Sender,
        comparator: Comparator,
        reporter: Reporter,
        outlet: Outlet | None = None,
        parse: Callable[[bytearray, int, int], Parsed] = parse_ip,
    ) -> None:
        super().__init__(queue, comparator, reporter, outlet, parse)
        self.nic = nic
        self._link = link
        self.accepts = False
        """Whether what comes from the secondary belongs to the epoch that is compared."""
        self.stale_packets = 0
        """Of the secondary, thrown away because they are of another epoch."""
        self.mirrored_discarded = 0

    @abstractmethod
    def sources(self) -> Iterable[tuple[int, Callable[[], object]]]:
        """Descriptors, and what to call when one of them can be read."""

    @abstractmethod
    def on_mirror(self) -> bool:
        """What clients send to the guest: the secondary gets it too; whether there may be more."""

    def offsets(self) -> list[Offsets]:
        """Of the connections whose clients know other numbers than those that are compared."""
        return []

    def from_secondary(self, buffer: bytearray, frames: Sequence[Frame]) -> None:
        """What the secondary sent, in the primary's numbers; `frames` are indexes into `buffer`."""
        if not self.accepts or self.traffic is not Traffic.COMPARE:
            self.stale_packets += len(frames)
            return
        comparator, now = self.comparator, time.monotonic()
        for _, start, end in frames:
            try:
                packet = parse_frame(buffer, start, end)
            except MalformedPacket:
                comparator.secondary_malformed(end - start)
                continue
            comparator.secondary(packet, now)
        self._carry_out()

    def stopped(self) -> None:
        """The guest stands still: read what it sent before."""
        exhaust(self.on_primary)

    def checkpoint_done(self, synchronised: bool) -> None:
        """Release what is held.

        Unless both stood still (`synchronised`), everything that the primary has sent up to now is of before.
        """
        if not synchronised:
            exhaust(self.on_primary)
        self.comparator.checkpoint_done(synchronised)
        self._carry_out_if_allowed()
