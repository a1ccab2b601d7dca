"""Two captures through the comparator, by their own clock: no sockets, no files, no time of day.

1. Packets of both come in the order of their times, the secondary's clock brought to the primary's.
2. Only what the guest sent is compared; what was sent to it is what the rewriter learns from.
3. After a divergence the comparison goes on as if a checkpoint had been done that copied no state.
4. What is still waiting at the end has met no partner: time goes on until that is a timeout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Divergence
from colo_bridge.compare.settings import Settings
from colo_bridge.daemon.captures import Record
from colo_bridge.daemon.replay_learning import Direction, Guest, answers_to, flow_of
from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.frame import cut_short, parse_frame
from colo_bridge.wire.linktype import ip_offset
from colo_bridge.wire.packet import SYN, CutShort, MalformedPacket, TcpPacket

_TICKS = 8
"""Looks for timeouts within one compare timeout."""
_SECOND = 1e9


class Packet(NamedTuple):
    """A primary packet by which a verdict names it: its number in the capture."""

    number: int
    flow: bytes | None


class Verdict(NamedTuple):
    """`time` in seconds since the first packet."""

    time: float
    action: str
    packet: Packet


class Difference(NamedTuple):
    time: float
    divergence: Divergence


Event = Verdict | Difference


@dataclass(slots=True)
class Seen:
    """Packets of one capture."""

    from_guest: int = 0
    to_guest: int = 0
    of_others: int = 0
    cut_short: int = 0
    """Of the guest, and not captured whole: equal to nothing."""


class Player:
    """Plays two captures once; `checkpoints`: go on after a divergence."""

    def __init__(
        self, settings: Settings, guest: Guest, guest_of_secondary: Guest, raw_secondary: bool, checkpoints: bool
    ) -> None:
        self.comparator = Comparator(settings)
        self.rewriter = Rewriter(RewriteLimits(), header=0) if raw_secondary else None
        self.primary_seen, self.secondary_seen = Seen(), Seen()
        self.waiting_at_the_end = 0
        """Packets of the primary."""
        self._guest, self._guest_of_secondary = guest, guest_of_secondary
        self._checkpoints = checkpoints
        self._timeout = settings.timeout
        self._tick = settings.timeout / _TICKS
        self._ticked = 0.0

    def play(self, primary: Iterable[Record], secondary: Iterable[Record], offset: int) -> Iterator[Event]:
        """What is decided, as it is decided; `offset`: nanoseconds by which the secondary's clock is ahead."""
        comparator = self.comparator
        now, began = 0.0, None
        for is_primary, record, time in _merged(primary, secondary, offset):
            if began is None:
                began = time
            # Captures are not always in order; time here is.
            now = max(now, (time - began) / _SECOND)
            if now - self._ticked >= self._tick:
                yield from self._pass_time(now)
            if is_primary:
                self._feed_primary(record, now)
            else:
                self._feed_secondary(record, now)
            if comparator.released or comparator.dropped or comparator.divergences:
                yield from self._decided(now)
        self.waiting_at_the_end = self.comparator.held_packets
        yield from self._pass_time(now + self._timeout + 2 * self._tick)

    # Time.

    def _pass_time(self, now: float) -> Iterator[Event]:
        """Look for timeouts several times; behind a silence that every timeout has ended in, no more."""
        at = self._ticked
        end = min(now, at + 2 * self._timeout)
        while at < end:
            at = min(end, at + self._tick)
            self.comparator.tick(at)
            yield from self._decided(at)
        self._ticked = now
        self.comparator.age(now)
        if self.rewriter is not None:
            self.rewriter.tick(now)

    # Packets.

    def _feed_primary(self, record: Record, now: float) -> None:
        seen = self.primary_seen
        direction = self._guest.direction(record.frame)
        if direction is Direction.FROM_GUEST:
            seen.from_guest += 1
            self._primary(record, now)
        elif direction is Direction.TO_GUEST:
            seen.to_guest += 1
            self._ingress(record.frame, now)
        else:
            seen.of_others += 1

    def _feed_secondary(self, record: Record, now: float) -> None:
        seen = self.secondary_seen
        direction = self._guest_of_secondary.direction(record.frame)
        if direction is Direction.FROM_GUEST:
            seen.from_guest += 1
            self._secondary(record, now)
        elif direction is Direction.TO_GUEST:
            seen.to_guest += 1
        else:
            seen.of_others += 1

    def _ingress(self, frame: bytearray, now: float) -> None:
        """What a client sent: the rewriter learns from it, and there is nobody to deliver it to."""
        if self.rewriter is not None:
            self.rewriter.ingress(frame, 0, len(frame), True, now)
            self.rewriter.ready.clear()

    def _primary(self, record: Record, now: float) -> None:
        frame = record.frame
        try:
            packet = parse_frame(frame, 0, len(frame))
        except MalformedPacket:
            self._primary_in_part(record, now)
            return
        if isinstance(packet, TcpPacket) and packet.flags & SYN and self.rewriter is not None:
            self._opened(frame, packet, now)
        self.comparator.primary(packet, Packet(record.number, flow_of(packet)), now)

    def _opened(self, frame: bytearray, syn: TcpPacket, now: float) -> None:
        """Without the clients' packets the primary's SYN tells how they must have answered."""
        if not self._guest.addresses:
            for answer in answers_to(frame, syn):
                self._ingress(answer, now)

    def _primary_in_part(self, record: Record, now: float) -> None:
        """What is too short for what it claims: cut by the capture, or broken by the guest."""
        packet, token = _beginning(record), Packet(record.number, None)
        if packet is None:
            self.comparator.primary_malformed(token, len(record.frame))
        else:
            self.primary_seen.cut_short += 1
            self.comparator.primary(packet, token, now)

    def _secondary(self, record: Record, now: float) -> None:
        frame, rewriter = record.frame, self.rewriter
        try:
            if rewriter is None:
                packet = parse_frame(frame, 0, len(frame))
            else:
                packet = rewriter.egress(frame, 0, len(frame), False, now)
                rewriter.ready.clear()
        except MalformedPacket:
            if _beginning(record) is None:
                self.comparator.secondary_malformed(len(frame))
            else:
                self.secondary_seen.cut_short += 1
            return
        self.comparator.secondary(packet, now)

    # Decisions.

    def _decided(self, now: float) -> Iterator[Event]:
        comparator = self.comparator
        while comparator.released or comparator.dropped or comparator.divergences:
            yield from (Verdict(now, "release", packet) for packet in comparator.released)
            yield from (Verdict(now, "drop", packet) for packet in comparator.dropped)
            yield from (Difference(now, divergence) for divergence in comparator.divergences)
            comparator.released.clear()
            comparator.dropped.clear()
            comparator.divergences.clear()
            if comparator.latched and self._checkpoints:
                comparator.checkpoint_done(synchronised=False)


def _beginning(record: Record) -> CutShort | None:
    """A packet that the capture does not hold whole; None: it is whole, but not what its headers say."""
    ip = ip_offset(record.frame)
    if not record.is_cut or ip is None:
        return None
    try:
        return cut_short(record.frame, ip, len(record.frame))
    except MalformedPacket:
        return None


def _merged(primary: Iterable[Record], secondary: Iterable[Record], offset: int) -> Iterator[tuple[bool, Record, int]]:
    """Both in order of time, by the primary's clock; of two at the same time the primary's first."""
    one, other = iter(primary), iter(secondary)
    ours, theirs = next(one, None), next(other, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and ours.time <= theirs.time - offset):
            assert ours is not None
            yield True, ours, ours.time
            ours = next(one, None)
        else:
            yield False, theirs, theirs.time - offset
            theirs = next(other, None)
