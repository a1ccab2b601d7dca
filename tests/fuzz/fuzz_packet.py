"""Anything that both guests and their clients may send, through the rewriter and the comparator.

The input is a list of steps: one byte says what happens, one how long the frame is, then comes the frame.  Every
packet of the primary must be decided, once; every one of the secondary must be counted, once; limits hold.
"""

from __future__ import annotations

from collections.abc import Iterator

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.settings import Settings
from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.frame import cut_short, parse_frame, parse_ip
from colo_bridge.wire.packet import ETHERNET_HEADER, MalformedPacket, Parsed

SETTINGS = Settings(
    timeout=0.1,
    cure_after=0.01,
    forward=True,
    held_packets=8,
    held_bytes=2_000,
    secondary_packets=8,
    secondary_bytes=2_000,
    incomplete_packets=3,
    fragments=4,
    connections=4,
    closing_idle=1.0,
)
LIMITS = RewriteLimits(connections=4, early_packets=4, early_packets_per_connection=2, closing_idle=1.0)

PRIMARY, SECONDARY, CLIENT, PRIMARY_IP, PRIMARY_CUT_SHORT, WAIT, AGE, CHECKPOINT = range(8)
SYNCHRONISED, PARTIAL_CHECKSUM = 8, 16


def one_input(data: bytes) -> None:
    Session().play(data)


def steps(data: bytes) -> Iterator[tuple[int, bytearray]]:
    at = 0
    while at + 2 <= len(data):
        action, length = data[at], data[at + 1]
        yield action, bytearray(data[at + 2 : at + 2 + length])
        at += 2 + length


def step(action: int, frame: bytes = b"") -> bytes:
    """The bytes of one step, to make inputs from."""
    return bytes((action, len(frame))) + frame


class Session:
    def __init__(self) -> None:
        self.comparator = Comparator(SETTINGS)
        self.rewriter = Rewriter(LIMITS, header=0)
        self.now = 0.0
        self.given = 0
        self.decided: set[int] = set()

    def play(self, data: bytes) -> None:
        for action, frame in steps(data):
            self.now += 0.001
            self._act(action, frame)
            frame[:] = bytes(len(frame))
            self._take()
        self._check_limits()
        self.comparator.checkpoint_done(synchronised=True)
        self._take()
        assert self.decided == set(range(self.given)), "a packet was forgotten"
        counters = self.comparator.counters()
        assert counters["held_packets_now"] == counters["held_bytes_now"] == 0
        assert counters["secondary_packets_now"] == counters["secondary_bytes_now"] == 0
        assert counters["primary_packets"] == self.given
        decided = (counters[f"{decision}_packets"] for decision in ("released", "replaced", "dropped"))
        assert sum(decided) == self.given
        assert counters["secondary_packets"] == counters["thrown_away_packets"] + counters["malformed_secondary"]

    def _act(self, action: int, frame: bytearray) -> None:
        match action % 8:
            case 0 | 3 | 4:
                self._primary(action, frame)
            case 1:
                self._secondary(frame, bool(action & PARTIAL_CHECKSUM))
            case 2:
                self.rewriter.ingress(frame, 0, len(frame), bool(action & PARTIAL_CHECKSUM), self.now)
            case 5:
                self.now += len(frame) / 100
                self.comparator.tick(self.now)
                self.comparator.cure(self.now)
            case 6:
                self.now += len(frame)
                self.comparator.age(self.now)
                self.rewriter.tick(self.now)
            case 7:
                self.comparator.checkpoint_done(synchronised=bool(action & SYNCHRONISED))
                if action & SYNCHRONISED:
                    self.rewriter.synchronised()
        self.rewriter.ready.clear()

    def _primary(self, action: int, frame: bytearray) -> None:
        token, self.given = self.given, self.given + 1
        try:
            packet = self._read(action, frame)
        except MalformedPacket:
            self.comparator.primary_malformed(token, len(frame))
        else:
            self.comparator.primary(packet, token, self.now)

    def _read(self, action: int, frame: bytearray) -> Parsed:
        ip = min(ETHERNET_HEADER, len(frame))
        if action % 8 == PRIMARY_IP:
            return parse_ip(frame, ip, len(frame))
        if action % 8 == PRIMARY_CUT_SHORT:
            return cut_short(frame, ip, len(frame))
        return parse_frame(frame, 0, len(frame))

    def _secondary(self, frame: bytearray, partial_checksum: bool) -> None:
        try:
            packet = self.rewriter.egress(frame, 0, len(frame), partial_checksum, self.now)
        except MalformedPacket:
            self.comparator.secondary_malformed(len(frame))
        else:
            self.comparator.secondary(packet, self.now)

    def _take(self) -> None:
        """Take what was decided; nothing may be decided twice."""
        comparator = self.comparator
        revised = (token for token, _ in comparator.revised)
        for token in [*comparator.released, *comparator.replaced, *comparator.dropped, *revised]:
            assert token not in self.decided, "decided twice"
            self.decided.add(token)
        for left in (comparator.released, comparator.replaced, comparator.dropped, comparator.revised):
            left.clear()
        comparator.divergences.clear()
        comparator.forwarded.clear()

    def _check_limits(self) -> None:
        counters = self.comparator.counters()
        assert counters["held_packets_most"] <= SETTINGS.held_packets
        assert counters["held_bytes_most"] <= SETTINGS.held_bytes
        assert counters["secondary_packets_now"] <= SETTINGS.secondary_packets
        assert counters["secondary_bytes_now"] <= SETTINGS.secondary_bytes
        assert counters["connections_now"] <= SETTINGS.connections
        assert self.rewriter.connections <= LIMITS.connections
