"""`colo-bridge compare`: a comparator between QEMU's network filters, over sockets.

    primary-in    →  ┐              ┌ →  out      what both replicas sent
    secondary-in  →  ┴  comparator  ┴ ⇄  notify   divergences and checkpoints (see wire.notification)

1. A frame of the primary leaves as it came, length words and virtio-net header included; none is ever changed.
2. A finished checkpoint concerns what was sent before it: that is read first.
3. What has diverged is never released but by a finished checkpoint; without `notify` there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import uvloop

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.settings import Settings
from colo_bridge.daemon import interpreter, journal
from colo_bridge.daemon.back_pressure import BackPressure
from colo_bridge.daemon.clock import Clock
from colo_bridge.daemon.ending import STOP_SIGNALS, end_by_callback, first_end
from colo_bridge.daemon.endpoint import Endpoint, Listener
from colo_bridge.daemon.frame_socket import FrameSocket
from colo_bridge.wire import notification
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.framing import Frame, encode
from colo_bridge.wire.packet import MalformedPacket

log = logging.getLogger(__name__)

_REPORT_SIGNAL = signal.SIGUSR1
_SIGNALS = (*STOP_SIGNALS, _REPORT_SIGNAL)
_TICK = 0.05
"""Seconds between two looks for timeouts."""
_AGE = 1.0
"""Seconds between two looks for idle connections and reached limits."""
_ANSWERS = 4_096
"""Bytes of unread answers on `notify` from which on its client has to wait."""
_DRAINING_READS = 128
"""Reads of one socket before a checkpoint: more than the kernel keeps for it, but not for ever."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """Where to listen."""

    primary_in: Endpoint
    secondary_in: Endpoint
    out: Endpoint
    notify: Endpoint | None = None
    vnet_header: bool = False
    """Every frame is preceded by the length of its virtio-net header."""
    insecure: bool = False
    """TCP may listen where other hosts can connect."""


def run(sockets: Sockets, settings: Settings) -> int:
    """Compare until SIGTERM or SIGINT; raises ColoBridgeError if that cannot begin."""
    # A signal that comes before the loop can handle it waits until it can.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    with contextlib.ExitStack() as listening:
        service = QemuCompare(sockets, settings, listening)
        interpreter.prepare()
        uvloop.run(service.run())
    return 0


class QemuCompare:
    """Listens as soon as it is made."""

    def __init__(self, sockets: Sockets, settings: Settings, listening: contextlib.ExitStack) -> None:
        """`listening` takes the sockets away again; raises OperatorError if one cannot be had."""
        self._comparator = Comparator(settings)
        self._clock = Clock()
        self._limits = journal.Limits((*journal.LIMIT_COUNTERS, "out_lost_packets"))
        self._asked = False
        self._unknown_notifications = 0

        def listen(name: str, endpoint: Endpoint, *, keeps_unsent: bool = False) -> FrameSocket:
            listener = Listener(endpoint, sockets.insecure)
            listening.callback(listener.close)
            return FrameSocket(name, listener, sockets.vnet_header, keeps_unsent=keeps_unsent)

        self._primary = listen("primary-in", sockets.primary_in)
        self._secondary = listen("secondary-in", sockets.secondary_in)
        self._out = listen("out", sockets.out, keeps_unsent=True)
        self._notify = listen("notify", sockets.notify) if sockets.notify is not None else None
        self._sockets = [self._primary, self._secondary, self._out]
        if self._notify is not None:
            self._sockets.append(self._notify)
        self._pressure = BackPressure(self._out, (self._primary, self._secondary), self._clock)
        self._connect_parts()

    def _connect_parts(self) -> None:
        self._primary.take_frames = self._from_primary
        self._secondary.take_frames = self._from_secondary
        if self._notify is not None:
            self._notify.take_frames = self._from_manager
            self._notify.on_connect = self._ask
            self._notify.on_sent = self._answers_were_read

    # Life.

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(_REPORT_SIGNAL, self._report)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        failed: asyncio.Future[None] = loop.create_future()
        loop.set_exception_handler(functools.partial(end_by_callback, failed))
        for each in self._sockets:
            each.start()
        helpers = [asyncio.create_task(work) for work in (self._tick(), self._age())]
        try:
            await first_end(stopped, [*helpers, failed])
        finally:
            for helper in (*helpers, failed):
                helper.cancel()
            for each in self._sockets:
                each.close()
            self._report()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._pressure.tick()
            self._comparator.tick(self._clock.now())
            self._carry_out()

    async def _age(self) -> None:
        while True:
            await asyncio.sleep(_AGE)
            self._comparator.age(self._clock.now())
            for sentence in self._limits.reached(self.counters()):
                log.warning("%s", sentence)

    # Packets.

    def _from_primary(self, buffer: bytearray, frames: Iterator[Frame]) -> None:
        comparator, now = self._comparator, self._clock.now()
        try:
            for message, start, end in frames:
                token = buffer[message:end]
                try:
                    packet = parse_frame(buffer, start, end)
                except MalformedPacket:
                    comparator.primary_malformed(token, end - start)
                    continue
                comparator.primary(packet, token, now)
        finally:
            self._carry_out()

    def _from_secondary(self, buffer: bytearray, frames: Iterator[Frame]) -> None:
        comparator, now = self._comparator, self._clock.now()
        try:
            for _, start, end in frames:
                try:
                    packet = parse_frame(buffer, start, end)
                except MalformedPacket:
                    comparator.secondary_malformed(end - start)
                    continue
                comparator.secondary(packet, now)
        finally:
            self._carry_out()

    def _carry_out(self) -> None:
        """Send what may leave, then tell what differed."""
        comparator = self._comparator
        if comparator.released:
            self._pressure.release(comparator.released)
            comparator.released.clear()
        comparator.dropped.clear()
        if comparator.divergences:
            for divergence in comparator.divergences:
                log.warning("%s", journal.sentence(divergence))
            comparator.divergences.clear()
        if comparator.latched and not self._asked:
            self._asked = True
            self._ask()

    # Checkpoints.

    def _ask(self) -> None:
        """Ask for a checkpoint, if one is wanted and somebody is there to be asked: else once somebody comes."""
        if not self._comparator.latched:
            return
        if self._notify is None:
            log.error("there is no --notify: what diverged is never released")
        elif not self._notify.connected:
            log.error("nobody is connected to notify: what diverged stays held")
        else:
            self._notify.send([encode(notification.DO_CHECKPOINT)])

    def _from_manager(self, buffer: bytearray, frames: Iterator[Frame]) -> None:
        assert self._notify is not None
        for _, start, end in frames:
            message = buffer[start:end]
            if message == notification.PROXY_INIT:
                self._notify.send([encode(notification.PROXY_READY)])
            elif message == notification.CHECKPOINT_DONE:
                self._checkpoint_done()
            else:
                self._unknown_message(message)
        if self._notify.queued_bytes > _ANSWERS:
            self._notify.pause()

    def _unknown_message(self, message: bytearray) -> None:
        if not self._unknown_notifications:
            log.warning("notify: unknown message %r; more of them are only counted", bytes(message[:32]))
        self._unknown_notifications += 1

    def _answers_were_read(self) -> None:
        assert self._notify is not None
        if self._notify.queued_bytes <= _ANSWERS:
            self._notify.resume()

    def _checkpoint_done(self) -> None:
        # A divergence in what was sent before it needs no other checkpoint.
        self._asked = True
        for feed in (self._primary, self._secondary):
            for _ in range(_DRAINING_READS):
                if not feed.read():
                    break
        self._comparator.checkpoint_done(synchronised=True)
        self._asked = False
        log.info("checkpoint done")
        self._carry_out()

    # What is said about it.

    def counters(self) -> dict[str, int]:
        counters = self._comparator.counters()
        counters["out_bytes_now"] = self._out.queued_bytes
        counters["back_pressure"] = self._pressure.stops
        counters["out_lost_packets"] = self._pressure.lost_packets
        counters["unknown_notifications"] = self._unknown_notifications
        for name in ("connections", "half_frames", "protocol_errors"):
            counters[f"socket_{name}"] = sum(getattr(each.counters, name) for each in self._sockets)
        return counters

    def _report(self) -> None:
        counted = ", ".join(f"{name} {count}" for name, count in self.counters().items() if count)
        log.info("counters: %s", counted or "none")
