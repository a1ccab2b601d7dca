"""One NIC of a guest that has gone live: between its TAP and the uplink by which the network and it reach each other.

    guest's TAP ── held here ── rewriter ── uplink         what the guest sends
    guest's TAP ─┬─ rewriter ── uplink                     what clients send to it
            link ┘                                         and its new secondary gets as well

1. The comparison is in the guest's own numbers: as its packets come from its TAP, and as the rewriter lets others in.
2. All that leaves goes through the rewriter, packets of our own too: connections from before the guest went live have
   other numbers outside.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from colo_bridge.compare.comparator import Comparator
from colo_bridge.daemon.linked_path import LinkedPath, Sender
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.primary_side import READS, Reporter
from colo_bridge.daemon.secondary_path import MOST_KEPT
from colo_bridge.daemon.secondary_side import NEEDS_CHECKSUM
from colo_bridge.kernel.tap import VNET_HEADER_BYTES, Tap
from colo_bridge.membership.actions import Traffic
from colo_bridge.rewrite.inheritance import Offsets
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.announcement import announcements
from colo_bridge.wire.frame import behind_tags, parse_frame
from colo_bridge.wire.packet import MalformedPacket


class WayOut:
    """To the clients, in the numbers that they know; the newest frames are kept for as long as there is no uplink."""

    def __init__(self, guest: Tap, rewriter: Rewriter) -> None:
        self.uplink: Tap | None = None
        self.opened = asyncio.Event()
        self.sent_packets = self.malformed_packets = 0
        self.lost_packets = 0
        """Of what was kept, forgotten because newer ones took the room."""
        self._kept: deque[bytes] = deque(maxlen=MOST_KEPT)
        self._guest = guest
        self._rewriter = rewriter

    def connect(self, uplink: Tap, leaves: bool) -> None:
        """What was kept leaves first, if it may."""
        self.uplink = uplink
        self.opened.set()
        kept, self._kept = self._kept, deque(maxlen=MOST_KEPT)
        for frame in kept if leaves else ():
            self.send_rewritten(frame)

    def send(self, frame: bytes) -> None:
        """A frame of our own, its virtio-net header in front."""
        self.leave(bytearray(frame), len(frame))

    def send_rewritten(self, frame: bytes | memoryview) -> None:
        # Fast path: there is one.
        if self.uplink is not None:
            self.sent_packets += 1
            self.uplink.send(frame)
        else:
            self.lost_packets += len(self._kept) == MOST_KEPT
            self._kept.append(bytes(frame))

    def leave(self, frame: bytearray, end: int) -> None:
        """A frame of the guest's in `frame[:end]`, its virtio-net header in front; it is changed."""
        rewriter = self._rewriter
        try:
            rewriter.egress(frame, VNET_HEADER_BYTES, end, bool(frame[0] & NEEDS_CHECKSUM), time.monotonic())
        except MalformedPacket:
            self.malformed_packets += 1
            return
        with memoryview(frame) as view:
            self.send_rewritten(view[:end])
        if rewriter.ready:
            for answer in rewriter.ready:
                self._guest.send(answer)
            rewriter.ready.clear()


class HeldFrames:
    """The guest's frames, read from its TAP and kept until they have their verdict; whoever holds them bounds them."""

    def __init__(self, guest: Tap, way: WayOut) -> None:
        self.buffer = guest.buffer
        self._guest = guest
        self._way = way
        self._held: dict[int, bytearray] = {}
        self._newest = 0
        self._end = 0
        """Of the newest frame while it stands in the buffer, undecided."""

    def fileno(self) -> int:
        return self._guest.fileno()

    def receive(self) -> tuple[int, int, int, bool] | None:
        if self._end:
            self._held[self._newest] = self.buffer[: self._end]
        self._end = end = self._guest.receive()
        if not end:
            return None
        self._newest += 1
        return self._newest, VNET_HEADER_BYTES, end, False

    def accept(self, packet_id: int) -> None:
        # Fast path: it was just read.
        if self._end and packet_id == self._newest:
            end, self._end = self._end, 0
            self._way.leave(self.buffer, end)
        else:
            frame = self._held.pop(packet_id)
            self._way.leave(frame, len(frame))

    def drop(self, packet_id: int) -> None:
        self._take(packet_id)

    def replace(self, packet_id: int, payload: bytes) -> None:
        frame = self._take(packet_id)
        _, ip = behind_tags(frame, VNET_HEADER_BYTES, len(frame))
        self._way.send(bytes(VNET_HEADER_BYTES) + frame[VNET_HEADER_BYTES:ip] + payload)

    def flush(self) -> None:
        """What was said was done at once."""

    def _take(self, packet_id: int) -> bytearray:
        if self._end and packet_id == self._newest:
            end, self._end = self._end, 0
            return self.buffer[:end]
        return self._held.pop(packet_id)


class LivePath(LinkedPath):
    def __init__(
        self, nic: str, guest: Tap, rewriter: Rewriter, link: Sender, comparator: Comparator, reporter: Reporter
    ) -> None:
        self.way = WayOut(guest, rewriter)
        self.rewriter = rewriter
        self._guest = guest
        held = HeldFrames(guest, self.way)
        super().__init__(nic, held, link, comparator, reporter, Outlet(self.way), parse_frame)

    def sources(self) -> Iterable[tuple[int, Callable[[], object]]]:
        yield self._guest.fileno(), self.on_primary
        if self.way.uplink is not None:
            yield self.way.uplink.fileno(), self.on_mirror

    def on_mirror(self) -> bool:
        """Frames that the network has for the guest, and for its secondary."""
        uplink = self.way.uplink
        if uplink is None:
            return False
        ingress, deliver, put, nic = self.rewriter.ingress, self._guest.send, self._link.put, self.nic
        buffer, now = uplink.buffer, time.monotonic()
        more = True
        with memoryview(buffer) as view:
            for _ in range(READS):
                end = uplink.receive()
                if not end:
                    more = False
                    break
                if ingress(buffer, VNET_HEADER_BYTES, end, bool(buffer[0] & NEEDS_CHECKSUM), now):
                    frame = view[:end]
                    deliver(frame)
                    # The link counts what it has no room for; TCP's senders repeat it, because nobody acknowledges it.
                    put(nic, frame)
        self._link.flush(nic)
        return more

    def offsets(self) -> list[Offsets]:
        return self.rewriter.offsets()

    def connect(self, uplink: Tap | None) -> None:
        """None: there is none yet."""
        if uplink is not None:
            self.way.connect(uplink, self.traffic is not Traffic.BLOCK)

    def send_kept(self, frames: Sequence[bytes]) -> None:
        """What the guest sent lately, rewritten already: it leaves first, unless nothing may leave."""
        if self.traffic is not Traffic.PASS:
            self.blocked_packets += len(frames)
            return
        for frame in frames:
            self.way.send_rewritten(frame)

    def age(self, now: float) -> None:
        super().age(now)
        self.rewriter.tick(now)

    def announce(self) -> None:
        """Tell the guest's link where the guest is now."""
        if self.way.uplink is not None and self.traffic is not Traffic.BLOCK:
            for hardware, address in self.rewriter.addresses():
                for frame in announcements(hardware, address):
                    self.way.send_rewritten(bytes(VNET_HEADER_BYTES) + frame)
