"""What becomes of released frames while their reader does not take them.

1. From `FULL` queued bytes on nothing more is read from the replicas, and the comparator's clock stands still: nothing
   is lost, and nothing diverges because of it. Below `ROOM` it goes on.
2. Not for ever: QEMU writes to us and reads from us in one thread, and blocks while it writes, so each end would wait
   for the other. Once a reader has taken nothing for `PATIENCE` seconds, the replicas wait for it no more: what is
   released above `FULL` is then lost, and counted. The next reader is waited for again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from colo_bridge.daemon.clock import Clock
from colo_bridge.daemon.frame_socket import FrameSocket
from colo_bridge.wire.packet import Buffer

log = logging.getLogger(__name__)

FULL = 64 << 20
ROOM = FULL // 2
PATIENCE = 2.0


class BackPressure:
    """Between the comparator and `out`; `feeds` are where the replicas' frames come from."""

    def __init__(self, out: FrameSocket, feeds: Sequence[FrameSocket], clock: Clock) -> None:
        self.lost_packets = 0
        self.stops = 0
        self._out = out
        self._feeds = feeds
        self._clock = clock
        self._stopped = False
        self._patient = True
        self._seen = 0
        self._seen_at = 0.0
        out.on_sent = self._sent
        out.on_connect = self._reader_came

    def release(self, frames: Sequence[Buffer]) -> None:
        """Send these, or lose them."""
        out = self._out
        if out.queued_bytes <= FULL or self._patient:
            out.send(frames)
        else:
            self.lost_packets += len(frames)
        if out.queued_bytes > FULL and self._patient and not self._stopped:
            self._stop()

    def tick(self) -> None:
        """Look whether the reader still reads; to be called a few times a second."""
        if not self._stopped:
            return
        now, sent = time.monotonic(), self._out.sent_bytes
        if sent != self._seen:
            self._seen, self._seen_at = sent, now
        elif now - self._seen_at > PATIENCE:
            log.error("%s: nothing was read for %g s: from now on what finds no room is lost", self._out.name, PATIENCE)
            self._patient = False
            self._go_on()

    def _reader_came(self) -> None:
        self._patient = True

    def _sent(self) -> None:
        if self._stopped and self._out.queued_bytes <= ROOM:
            self._go_on()

    def _stop(self) -> None:
        self._stopped = True
        self.stops += 1
        self._seen, self._seen_at = self._out.sent_bytes, time.monotonic()
        self._clock.stop()
        for feed in self._feeds:
            feed.pause()
        log.warning("%s: %d bytes wait to be read: the replicas wait too", self._out.name, self._out.queued_bytes)

    def _go_on(self) -> None:
        self._stopped = False
        self._clock.go_on()
        for feed in self._feeds:
            feed.resume()
