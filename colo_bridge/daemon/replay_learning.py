"""What captures tell about themselves: whose packets they hold, whether clocks differ, what a client answered."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from colo_bridge.daemon.captures import Record
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.linktype import addresses
from colo_bridge.wire.options import read_options
from colo_bridge.wire.packet import ACK, SYN, Datagram, MalformedPacket, Parsed, TcpPacket
from colo_bridge.wire.serial import Serial, serial_plus

_SAME_CLOCK = 1_000_000_000
"""Nanoseconds below which two captures are taken to have one clock."""
_FLAGS_AT = 13


class Direction(enum.Enum):
    FROM_GUEST = "from the guest"
    TO_GUEST = "to the guest"
    OTHER = "of others"


@dataclass(frozen=True, slots=True)
class Guest:
    """Which frames are the guest's: those with one of its addresses, IP or Ethernet; all of them if none is known."""

    addresses: frozenset[bytes] = frozenset()

    def direction(self, frame: bytearray) -> Direction:
        # Fast path: a capture of the guest's own packets alone.
        if not self.addresses:
            return Direction.FROM_GUEST
        source, destination = addresses(frame) or (b"", b"")
        if source in self.addresses or bytes(frame[6:12]) in self.addresses:
            return Direction.FROM_GUEST
        if destination in self.addresses or bytes(frame[:6]) in self.addresses:
            return Direction.TO_GUEST
        return Direction.OTHER


def learn_guest(records: Sequence[Record]) -> Guest | None:
    """Whose packets these are: nobody's in particular if none is answered; None: it cannot be told.

    Otherwise the guest's address is the one that every packet has, as its source or its destination; if
    there are two, the one to which the first connection is opened.
    """
    pairs = {pair for record in records if (pair := addresses(record.frame)) is not None and _is_unicast(pair[1])}
    sources, destinations = {source for source, _ in pairs}, {destination for _, destination in pairs}
    if not sources & destinations:
        return Guest()
    found: set[bytes] = set()
    for size in (4, 16):
        of_family = [set(pair) for pair in pairs if len(pair[0]) == size]
        common = set.intersection(*of_family) if of_family else set()
        if len(common) > 1:
            common &= _called_first(records, common)
        if of_family and not common:
            return None
        found |= common
    return Guest(frozenset(found))


def clock_difference(primary: Iterable[Record], secondary: Iterable[Record], guests: tuple[Guest, Guest]) -> int:
    """Nanoseconds by which the secondary's clock is ahead; less than a second is taken for none.

    The first packets of a flow that both replicas sent are taken to be of the same time, or else their first packets.
    """
    ours, theirs = _first_times(primary, guests[0]), _first_times(secondary, guests[1])
    common = next((flow for flow in ours if flow in theirs), None)
    if common is not None:
        difference = theirs[common] - ours[common]
    elif ours and theirs:
        difference = min(theirs.values()) - min(ours.values())
    else:
        return 0
    return difference if abs(difference) >= _SAME_CLOCK else 0


def _first_times(records: Iterable[Record], guest: Guest) -> dict[bytes, int]:
    times: dict[bytes, int] = {}
    for record in records:
        if guest.direction(record.frame) is Direction.FROM_GUEST:
            flow = flow_of(_parsed(record))
            if flow is not None:
                times.setdefault(flow, record.time)
    return times


def _called_first(records: Iterable[Record], among: set[bytes]) -> set[bytes]:
    """Whom the first SYN without ACK was sent to, or who answered the first SYN-ACK's sender."""
    for record in records:
        packet, pair = _parsed(record), addresses(record.frame)
        if isinstance(packet, TcpPacket) and packet.flags & SYN and pair is not None and among >= set(pair):
            return {pair[0] if packet.flags & ACK else pair[1]}
    return set()


def _parsed(record: Record) -> Parsed | None:
    try:
        return parse_frame(record.frame, 0, len(record.frame))
    except MalformedPacket:
        return None


def flow_of(packet: Parsed | None) -> bytes | None:
    if isinstance(packet, TcpPacket):
        return packet.connection
    return packet.flow if isinstance(packet, Datagram) else None


def _is_unicast(address: bytes) -> bool:
    """Neither multicast nor the limited broadcast address; link-local addresses of IPv6 are of no flow of a service."""
    if len(address) == 4:
        return address[0] < 224
    return address[0] != 0xFF and address[:2] != b"\xfe\x80"


def answers_to(frame: bytearray, syn: TcpPacket) -> list[bytearray]:
    """What the client of a connection must have sent for the primary's SYN, as far as offsets are learned from it."""
    theirs, after = Serial(0), serial_plus(syn.sequence, 1)
    if not syn.flags & ACK:
        return [_from_client(frame, syn, SYN | ACK, theirs, after)]
    theirs = syn.acknowledgment
    return [
        _from_client(frame, syn, SYN, serial_plus(theirs, -1), Serial(0)),
        _from_client(frame, syn, ACK, theirs, after),
    ]


def _from_client(frame: bytearray, syn: TcpPacket, flags: int, sequence: Serial, acknowledgment: Serial) -> bytearray:
    """The frame with its addresses, ports and timestamps turned round; its checksum is nobody's concern."""
    copy, ip, tcp = frame[:], syn.ip, syn.tcp
    size, at = (4, ip + 12) if frame[ip] >> 4 == 4 else (16, ip + 8)
    copy[at : at + 2 * size] = frame[at + size : at + 2 * size] + frame[at : at + size]
    struct.pack_into("!2s2sII", copy, tcp, frame[tcp + 2 : tcp + 4], frame[tcp : tcp + 2], sequence, acknowledgment)
    copy[tcp + _FLAGS_AT] = flags
    for stamp in read_options(frame, tcp + 20, syn.payload).timestamps:
        copy[stamp.echo : stamp.echo + 4] = frame[stamp.value : stamp.value + 4]
    return copy
