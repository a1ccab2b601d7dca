"""A TCP stack, as much of it as decides who waits for whom.

RFC 9293 (acceptance, windows, probes, FIN), RFC 5681 with RFC 6582 (congestion, fast retransmit), RFC 6298 (RTO),
RFC 7323 (timestamps, PAWS, window scale), RFC 8985 §7 (tail loss probe), RFC 896 (Nagle), RFC 1122 (delayed ACK).
Positions are octets of a stream that never wrap: the SYN is 0, the first byte is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

from tests.simulation.clock import Clock, Timer, Work
from tests.simulation.packets import ACK, FIN, PSH, SYN, Segment

_MASK = 0xFFFFFFFF
_LEAST_RTO, _FIRST_RTO, _LONGEST_RTO = 0.2, 1.0, 60.0
_LEAST_PROBE = 0.01


@dataclass(frozen=True, slots=True)
class Stack:
    """What one host chose for itself."""

    isn: int
    maximum: int = 1448
    """Payload bytes of one segment, whatever more the peer takes."""
    announced: int = 1448
    """Payload bytes that the peer is told to put into one segment at most."""
    offload: int = 1
    """Segments that leave as one packet, at most."""
    window_segments: int = 10
    """The initial congestion window."""
    largest_window: int = 1 << 20
    nagle: bool = True
    delayed_ack: float = 0.04
    buffer: int = 65_536
    """Of the receiver."""
    scale: int = 7
    read_size: int | None = None
    """Bytes that the application reads at a time; None: all, at once."""
    read_interval: float = 0.002
    stamps: bool = True
    stamp: int = 0
    tail_probe: bool = True
    probe_bytes: int = 0


def position(number: int, isn: int, near: int) -> int:
    """The position that a number on the wire stands for, next to a known one."""
    return near + (((number - isn - near + 0x80000000) & _MASK) - 0x80000000)


class Endpoint:
    """One end of one connection."""

    def __init__(self, clock: Clock, stack: Stack, send: Callable[[Segment], None]) -> None:
        self.clock = clock
        self.stack = stack
        self.send = send
        self.on_read: Callable[[int], None] = lambda count: None
        self.out = bytearray()
        self.closing = False
        self.read = bytearray()
        self.unread = bytearray()
        self.ended = False
        self.established = False
        self.active = False
        # Sending.
        self.una = self.nxt = self.most = 0
        self.edge = 0
        self.wl = (-1, -1)
        self.peer_scale = 0
        self.peer_maximum = 536
        self.cwnd = stack.window_segments * stack.maximum
        self.threshold = 1 << 30
        self.repeats = 0
        self.recover = -1
        self.srtt: float | None = None
        self.variation = 0.0
        self.rto = _FIRST_RTO
        self.timed: tuple[int, float] | None = None
        self.probed = False
        # Receiving.
        self.peer_isn: int | None = None
        self.received = 0
        self.offered = 0
        self.later: dict[int, bytes] = {}
        self.fin_at: int | None = None
        self.recent = 0
        self.last_ack = -1
        self.unacknowledged = 0
        # Time.
        self.retransmission: Timer | None = None
        self.persist: Timer | None = None
        self.delayed: Timer | None = None
        self.reading: Timer | None = None
        self.timeouts = 0
        self.timer_seconds = 0.0

    def copy(self, send: Callable[[Segment], None]) -> Endpoint:
        """The same stack in the same state, as a checkpoint that copies the machine makes it."""
        other = copy(self)
        other.send = send
        other.out, other.read, other.unread = self.out[:], self.read[:], self.unread[:]
        other.later = dict(self.later)
        for name in ("retransmission", "persist", "delayed", "reading"):
            timer = getattr(self, name)
            if timer is not None and timer.work is not None:
                work = getattr(other, timer.work.__name__)
                setattr(other, name, self.clock.after(max(0.0, timer.at - self.clock.now), work))
        return other

    def silence(self) -> None:
        """This stack is no more."""
        self.send, self.on_read = (lambda segment: None), (lambda count: None)

    # The application.

    def connect(self) -> None:
        self.active = True
        self._send_syn()

    def write(self, octets: bytes) -> None:
        self.out += octets
        self._output()

    def close(self) -> None:
        self.closing = True
        self._output()

    @property
    def data_end(self) -> int:
        return 1 + len(self.out)

    @property
    def sent_all(self) -> bool:
        return self.closing and self.una == self.data_end + 1

    def _deliver(self, octets: bytes) -> None:
        self.unread += octets
        if self.stack.read_size is None:
            self._read(len(self.unread))
        elif self.reading is None:
            self._read_later()

    def _read_later(self) -> None:
        self.reading = self.clock.after(self.stack.read_interval, self._read_some)

    def _read_some(self) -> None:
        self.reading = None
        self._read(self.stack.read_size or 0)
        if self.unread:
            self._read_later()
        if self._widen(for_update=True):
            self._acknowledge()

    def _read(self, size: int) -> None:
        self.read += self.unread[:size]
        del self.unread[:size]
        self._notice_end()
        self.on_read(len(self.read))

    def _notice_end(self) -> None:
        if self.fin_at is not None and self.received > self.fin_at and not self.unread and not self.ended:
            self.ended = True
            self.on_read(len(self.read))

    # Sending.

    def _send_syn(self) -> None:
        self.most = self.nxt = max(self.nxt, 1)
        self._emit(0, b"", SYN)
        self._arm_retransmission()

    def _output(self) -> None:
        while self.established and self._output_one():
            pass

    def _output_one(self) -> bool:
        """Send the next segment if it may leave; whether there may be another."""
        pending = self.data_end - self.nxt
        if pending < 0:
            return False
        size = self._size(pending)
        last = self.closing and size == pending
        if not size and not (last and (pending == 0)):
            return False
        start, end = self.nxt, self.nxt + size
        self.nxt = end + last
        fresh = self.nxt > self.most
        if fresh and self.timed is None:
            self.timed = (self.nxt, self.clock.now)
        if not fresh and self.timed is not None:
            self.timed = None
        self.most = max(self.most, self.nxt)
        self._emit(start, bytes(self.out[start - 1 : end - 1]), (FIN if last else 0) | (PSH if size == pending else 0))
        if self.retransmission is None or fresh:
            self._arm_retransmission()
        return not last

    def _size(self, pending: int) -> int:
        """Payload of the next segment: windows, offload, Nagle and silly window avoidance."""
        if pending == 0:
            return 0
        stack, flight = self.stack, self.nxt - self.una
        segment = min(stack.maximum, self.peer_maximum)
        window = min(self.edge, self.una + min(self.cwnd, stack.largest_window)) - self.nxt
        size = min(pending, window, segment * stack.offload, 60_000)
        if size <= 0:
            if not flight:
                self._arm_persist()
            return 0
        whole = size - size % segment
        tail_waits = self.stack.nagle and flight + whole > 0 and not self.closing
        if size == pending and not (size % segment and tail_waits):
            return size
        if whole:
            return whole
        if size < pending and not flight:
            if size < min(segment, stack.maximum):
                self._arm_persist()
                return 0
            return size
        return 0

    def _emit(self, start: int, payload: bytes, flags: int) -> None:
        if self.peer_isn is not None:
            flags |= ACK
            self._widen()
            self.last_ack = self.received
            self.unacknowledged = 0
            if self.delayed is not None:
                self.delayed.cancel()
                self.delayed = None
        stack = self.stack
        segment = Segment(
            (stack.isn + start) & _MASK,
            ((self.peer_isn or 0) + self.received) & _MASK if flags & ACK else 0,
            flags,
            0,
            payload,
        )
        if flags & SYN:
            segment.maximum, segment.scale = stack.announced + 12 * stack.stamps, stack.scale
            segment.window = min(0xFFFF, stack.buffer)
        else:
            segment.window = min(0xFFFF, -(-max(0, self.offered - self.received) >> stack.scale))
        if stack.stamps:
            segment.stamp, segment.echo = self._stamp(), self.recent
        self.send(segment)

    def _acknowledge(self) -> None:
        self._emit(min(self.most, max(self.edge, self.una)), b"", 0)

    def _stamp(self) -> int:
        return (int(self.clock.now * 1000) + self.stack.stamp) & _MASK

    # Timers.

    def _arm(self, old: Timer | None, delay: float, work: Work) -> Timer:
        if old is not None:
            old.cancel()
        return self.clock.after(delay, work)

    def _arm_retransmission(self) -> None:
        delay, work = self.rto, self._time_out
        if self.stack.tail_probe and self.established and not self.probed and self.srtt is not None:
            probe = max(2 * self.srtt, _LEAST_PROBE) + (0.2 if self.most - self.una <= self.stack.maximum else 0.0)
            if probe < delay:
                delay, work = probe, self._probe_tail
        self.retransmission = self._arm(self.retransmission, delay, work)

    def _note_timeout(self) -> None:
        self.timeouts += 1
        self.timer_seconds += self.rto

    def _probe_tail(self) -> None:
        self.probed = True
        end = min(self.most, self.data_end)
        start = max(self.una, end - self.stack.maximum)
        fin = FIN if self.most > self.data_end else 0
        self._emit(start, bytes(self.out[start - 1 : end - 1]), fin | PSH)
        self.retransmission = self._arm(self.retransmission, self.rto, self._time_out)

    def _time_out(self) -> None:
        self._note_timeout()
        self.retransmission = None
        self.rto = min(_LONGEST_RTO, self.rto * 2)
        self.timed = None
        if self.una == 0:
            self._emit(0, b"", SYN)
            self._arm_retransmission()
            return
        segment = self.stack.maximum
        self.threshold = max((self.most - self.una) // 2, 2 * segment)
        self.cwnd = segment
        self.recover = -1
        self.repeats = 0
        self.probed = True
        self.nxt = self.una
        self._retransmit_first()
        self._arm_retransmission()

    def _retransmit_first(self) -> None:
        """One segment at the oldest octet that is not acknowledged, whatever the window says."""
        start = self.una
        size = min(self.stack.maximum, self.peer_maximum, self.data_end - start, max(self.most - start, 0))
        end = start + size
        fin = self.most > self.data_end and end == self.data_end
        self.nxt = max(self.nxt, end + fin)
        self._emit(start, bytes(self.out[start - 1 : end - 1]), FIN if fin else 0)

    def _arm_persist(self) -> None:
        if self.persist is None:
            self.persist = self.clock.after(self.rto, self._probe_window)

    def _probe_window(self) -> None:
        self.persist = None
        if self.edge > self.nxt + self.stack.maximum or self.data_end <= self.nxt:
            self._output()
            return
        self._note_timeout()
        self.rto = min(_LONGEST_RTO, self.rto * 2)
        if self.edge > self.nxt:
            end = min(self.edge, self.data_end)
            payload, start = bytes(self.out[self.nxt - 1 : end - 1]), self.nxt
            self.nxt = end
            self.most = max(self.most, end)
            self._emit(start, payload, 0)
            self._arm_retransmission()
            return
        if self.stack.probe_bytes:
            self._emit(self.nxt, bytes(self.out[self.nxt - 1 : self.nxt]), 0)
            self.most = max(self.most, self.nxt + 1)
        else:
            self._emit(self.una - 1, b"", 0)
        self._arm_persist()

    # Receiving.

    def receive(self, segment: Segment) -> None:
        if segment.flags & SYN:
            self._receive_syn(segment)
            return
        if self.peer_isn is None:
            return
        start = position(segment.sequence, self.peer_isn, self.received)
        end = start + len(segment.payload) + bool(segment.flags & FIN)
        if not self._is_acceptable(segment, start, end):
            self._acknowledge()
            return
        if segment.stamp is not None and start <= self.last_ack:
            self.recent = segment.stamp
        ack = position(segment.acknowledgment, self.stack.isn, self.una)
        if ack > self.most:
            self._acknowledge()
            return
        if ack >= self.una:
            self._receive_ack(segment, start, ack, pure=start == end)
        if end > start:
            self._receive_octets(segment, start)
        self._output()

    def _is_acceptable(self, segment: Segment, start: int, end: int) -> bool:
        if segment.stamp is not None and self.stack.stamps and ((segment.stamp - self.recent) & _MASK) >= 0x80000000:
            return False  # PAWS
        return (
            end >= self.last_ack
            and start <= max(self.offered, self.received)
            and (end > start or start >= self.last_ack)
        )

    def _receive_syn(self, segment: Segment) -> None:
        if self.peer_isn is not None:
            if self.una == 0:
                self._emit(0, b"", SYN)
            else:
                self._acknowledge()
            return
        self.peer_isn = segment.sequence
        self.received = 1
        self.peer_scale = segment.scale
        self.peer_maximum = min(self.stack.maximum, (segment.maximum or 536) - 12 * self.stack.stamps)
        self.recent = segment.stamp or 0
        self.offered = 1 + min(0xFFFF, self.stack.buffer)
        if not segment.flags & ACK:
            self.edge = segment.window + 1
            self._send_syn()
        elif position(segment.acknowledgment, self.stack.isn, 0) == 1:
            self.una, self.edge = 1, 1 + segment.window
            self._establish()
            self._acknowledge()
            self._output()

    def _establish(self) -> None:
        self.established = True
        if self.retransmission is not None:
            self.retransmission.cancel()
            self.retransmission = None
        self.rto = _FIRST_RTO
        self.on_read(0)

    def _receive_ack(self, segment: Segment, start: int, ack: int, pure: bool) -> None:
        if not self.established:
            if ack < 1:
                return
            self.una = 1
            self.edge = 1 + (segment.window << self.peer_scale)
            self._establish()
        window = segment.window << self.peer_scale
        repeated = pure and ack == self.una and self.most > self.una and ack + window == self.edge
        if self.wl <= (start, ack) or ack > self.una or ack + window > self.edge:
            self.wl = (start, ack)
            self.edge = ack + window
            if self.persist is not None and self.edge > self.nxt:
                self.persist.cancel()
                self.persist = None
        if ack > self.una:
            self._advance(segment, ack)
        elif repeated:
            self.repeats += 1
            if self.repeats == 3 and self.una > self.recover:
                maximum = self.stack.maximum
                self.threshold = max((self.most - self.una) // 2, 2 * maximum)
                self.recover = self.most
                self.cwnd = self.threshold + 3 * maximum
                self.timed = None
                self._retransmit_first()
            elif self.repeats > 3:
                self.cwnd += self.stack.maximum

    def _advance(self, segment: Segment, ack: int) -> None:
        acknowledged, maximum = ack - self.una, self.stack.maximum
        self.una = ack
        self.nxt = max(self.nxt, ack)
        self.repeats = 0
        self.probed = False
        self._measure(segment, ack)
        if self.recover >= 0:
            if ack < self.recover:
                self.cwnd = max(maximum, self.cwnd - acknowledged + maximum)
                self._retransmit_first()
            else:
                self.cwnd, self.recover = self.threshold, -1
        elif self.cwnd < self.threshold:
            self.cwnd += min(acknowledged, 2 * maximum)
        else:
            self.cwnd += max(1, maximum * maximum // self.cwnd)
        if self.retransmission is not None:
            self.retransmission.cancel()
            self.retransmission = None
        if self.most > self.una:
            self._arm_retransmission()

    def _measure(self, segment: Segment, ack: int) -> None:
        sample = None
        if segment.stamp is not None and self.stack.stamps:
            sample = ((self._stamp() - segment.echo) & _MASK) / 1000
        elif self.timed is not None and ack >= self.timed[0]:
            sample = self.clock.now - self.timed[1]
        if self.timed is not None and ack >= self.timed[0]:
            self.timed = None
        if sample is None or sample > 1000:
            if self.srtt is not None:
                self.rto = max(_LEAST_RTO, self.srtt + 4 * self.variation)
            return
        if self.srtt is None:
            self.srtt, self.variation = sample, sample / 2
        else:
            self.variation += (abs(sample - self.srtt) - self.variation) / 4
            self.srtt += (sample - self.srtt) / 8
        self.rto = max(_LEAST_RTO, self.srtt + 4 * self.variation)

    def _receive_octets(self, segment: Segment, start: int) -> None:
        payload = segment.payload
        end = start + len(payload)
        if segment.flags & FIN and end <= max(self.offered, self.received):
            self.fin_at = end
        room = max(self.offered, self.received) - start
        payload = payload[:room]
        end = start + len(payload)
        urgent = start > self.received or start < self.received or bool(self.later)
        if start > self.received:
            if len(self.later.get(start, b"")) < len(payload):
                self.later[start] = payload
        elif end >= self.received:
            self._take(payload[self.received - start :])
        self._take_later()
        if self.fin_at is not None and self.received == self.fin_at:
            self.received += 1
            urgent = True
            self._notice_end()
        segments = -(-len(payload) // self.stack.maximum)
        self.unacknowledged += segments
        if urgent or self.unacknowledged >= 2 or not self.stack.delayed_ack:
            self._acknowledge()
        elif self.delayed is None and self.unacknowledged:
            self.delayed = self.clock.after(self.stack.delayed_ack, self._acknowledge)

    def _take(self, octets: bytes) -> None:
        if octets:
            self.received += len(octets)
            self._deliver(octets)

    def _take_later(self) -> None:
        for start in sorted(self.later):
            if start > self.received:
                break
            octets = self.later.pop(start)
            self._take(octets[self.received - start :])

    def _widen(self, for_update: bool = False) -> bool:
        """Move the window's edge; whether by so much that the peer should be told."""
        room = max(0, self.stack.buffer - len(self.unread))
        edge = self.received + room
        gain = edge - self.offered
        if gain < min(self.stack.maximum * (2 if for_update else 1), self.stack.buffer // 2):
            return False
        units = -(-(edge - self.received) >> self.stack.scale)
        self.offered = max(self.offered, self.received + (min(0xFFFF, units) << self.stack.scale))
        return True
