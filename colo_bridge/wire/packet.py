"""Packet views: where things stand in a buffer, without copying the buffer.

A view holds offsets into the buffer that it was parsed from and is valid only as
long as nobody writes there.  `wire/frame.py` makes them.
"""

from __future__ import annotations

import enum

from colo_bridge.errors import GuestError
from colo_bridge.wire.serial import Serial

Buffer = bytes | bytearray

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
ETHERNET_HEADER = 14


class MalformedPacket(GuestError):
    """A packet that is not what its own headers say."""


class NotCompared(enum.Enum):
    """Well-formed traffic that the comparator has no rule for."""

    NOT_IP = "not IP"
    NEIGHBOUR = "neighbour discovery or multicast membership"
    """ICMPv6 by which a guest speaks to its link for itself (RFC 4861, RFC 3810): each replica at its own times."""
    TAGGED_TOO_OFTEN = "more than two VLAN tags"


class TcpPacket:
    """One TCP segment in a buffer.

    `connection` is addresses and ports as they stand on the wire (sender first), then the VLAN
    tags: 12 bytes for IPv4, 36 for IPv6, and 4 for each tag.
    """

    __slots__ = ("acknowledgment", "buffer", "connection", "end", "flags", "ip", "payload", "sequence", "tcp", "window")

    def __init__(
        self,
        connection: bytes,
        buffer: Buffer,
        ip: int,
        tcp: int,
        payload: int,
        end: int,
        sequence: Serial,
        acknowledgment: Serial,
        flags: int,
        window: int,
    ) -> None:
        self.connection = connection
        self.buffer = buffer
        self.ip = ip
        self.tcp = tcp
        self.payload = payload
        self.end = end
        self.sequence = sequence
        self.acknowledgment = acknowledgment
        self.flags = flags
        self.window = window


def has_form_of_refusal(packet: TcpPacket) -> bool:
    """Whether a segment looks like the answer to a SYN of somebody for whom nobody listens (RFC 9293 §3.10.7.1).

    Its number says nothing then; what it acknowledges is that SYN.
    """
    return packet.flags & (SYN | RST | ACK) == RST | ACK and packet.sequence == 0


class Datagram:
    """One packet that is compared by content: UDP, ICMP or another protocol.

    `flow` is the address pair with whatever else separates flows of that protocol (`wire/flow.py`);
    `content` is what must be equal on both sides (no checksum of the transport).
    """

    __slots__ = ("buffer", "content", "end", "flow", "ip")

    def __init__(self, flow: bytes, content: bytes, buffer: Buffer, ip: int, end: int) -> None:
        self.flow = flow
        self.content = content
        self.buffer = buffer
        self.ip = ip
        self.end = end

    @property
    def length(self) -> int:
        """Bytes of the IP packet."""
        return self.end - self.ip


class CutShort(Datagram):
    """A packet of which only the beginning is known: equal to nothing."""

    __slots__ = ()


class Fragment:
    """One fragment of an IP packet (RFC 791 §3.2, RFC 8200 §4.5).

    `datagram` names the packet that it belongs to: family, tags, protocol, addresses, identification.
    `header` is a copy of the IP header (with the extension headers that every fragment repeats) as the whole
    packet has it, but for its length; the part begins `offset` bytes into what follows that header.
    """

    __slots__ = ("body", "buffer", "datagram", "end", "header", "ip", "is_last", "offset")

    def __init__(
        self,
        datagram: bytes,
        header: bytes,
        buffer: Buffer,
        ip: int,
        body: int,
        end: int,
        offset: int,
        is_last: bool,
    ) -> None:
        self.datagram = datagram
        self.header = header
        self.buffer = buffer
        self.ip = ip
        self.body = body
        self.end = end
        self.offset = offset
        self.is_last = is_last

    @property
    def length(self) -> int:
        """Bytes of the IP packet."""
        return self.end - self.ip


Parsed = TcpPacket | Datagram | Fragment | NotCompared
