"""One NIC of a primary: what its guest sends is held in the kernel, and what clients send to it is mirrored there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from colo_bridge.compare.comparator import Comparator
from colo_bridge.daemon.linked_path import LinkedPath, Sender
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.primary_side import READS, Reporter, exhaust
from colo_bridge.kernel.nfqueue import PacketQueue
from colo_bridge.kernel.tap import Tap


class PrimaryPath(LinkedPath):
    def __init__(
        self,
        nic: str,
        queue: PacketQueue,
        mirror: Tap,
        link: Sender,
        comparator: Comparator,
        reporter: Reporter,
        outlet: Outlet | None = None,
    ) -> None:
        super().__init__(nic, queue, link, comparator, reporter, outlet)
        self._mirror = mirror
        self._mirror_frame = memoryview(mirror.buffer)

    def sources(self) -> Iterable[tuple[int, Callable[[], object]]]:
        return (self._queue.fileno(), self.on_primary), (self._mirror.fileno(), self.on_mirror)

    def on_mirror(self) -> bool:
        """Copies of what was sent to the primary."""
        mirror, put, nic, view = self._mirror, self._link.put, self.nic, self._mirror_frame
        more = True
        for _ in range(READS):
            end = mirror.receive()
            if not end:
                more = False
                break
            # The link counts what it has no room for; TCP's senders repeat it, because nobody acknowledges it.
            put(nic, view[:end])
        self._link.flush(nic)
        return more

    def stopped(self) -> None:
        """The primary stands still: read what it sent before, and throw away what it got before.

        What it got is part of the state that the secondary takes over, or its sender repeats it.
        """
        super().stopped()
        exhaust(self._discard_mirrored)

    def _discard_mirrored(self) -> bool:
        for _ in range(READS):
            if not self._mirror.receive():
                return False
            self.mirrored_discarded += 1
        return True
