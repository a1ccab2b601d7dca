"""Packet views: where things stand in a buffer, without copying the buffer.

A view holds offsets into the buffer that it was parsed from and is valid only as
long as nobody writes there.  Nothing here verifies a checksum: offloads leave
them unfinished.  What is too short for what it claims to be is `MalformedPacket`;
lengths come from the IP header, so Ethernet padding never counts as payload.

Formats: RFC 791 §3.1 (IPv4), RFC 9293 §3.1 (TCP), RFC 768 (UDP), RFC 792 (ICMP).
"""

from __future__ import annotations

import enum
import struct

from colo_bridge.errors import GuestError
from colo_bridge.wire.serial import Serial

Buffer = bytes | bytearray

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

ETHERNET_HEADER = 14
_ETHERTYPE_IPV4 = b"\x08\x00"
_ETHERTYPES_UNCOMPARED = (b"\x86\xdd", b"\x81\x00", b"\x88\xa8")
_PROTOCOL_ICMP, _PROTOCOL_TCP, _PROTOCOL_UDP = 1, 6, 17
_CUT_SHORT = b"cut"
_FRAGMENT_OFFSET = 0x1FFF
_FRAGMENT = 0x3FFF  # more-fragments bit and offset

# IPv4 without options, then TCP: version and length, total length, fragment, protocol,
# both addresses with both ports (the connection), sequence, acknowledgment, offset with flags, window.
_IPV4_TCP = struct.Struct("!BxHxxHxBxx12sIIHH")
_IPV4 = struct.Struct("!BxHxxHxBxx8s")
_TCP = struct.Struct("!4sIIHH")


class MalformedPacket(GuestError):
    """A packet that is not what its own headers say."""


class NotCompared(enum.Enum):
    """Well-formed traffic that the comparator has no rule for."""

    NOT_IP = "not IP"
    UNCOMPARED = "IPv6 or tagged"


class TcpPacket:
    """One TCP segment in a buffer.

    `connection` is addresses and ports as they stand on the wire (sender first): 12 bytes.
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


class Datagram:
    """One packet that is compared by content: UDP, ICMP, another protocol, or a fragment.

    `flow` is the address pair with whatever else separates flows of that protocol;
    `content` is what must be equal on both sides (no checksum of the transport).
    """

    __slots__ = ("content", "flow", "length")

    def __init__(self, flow: bytes, content: bytes, length: int) -> None:
        self.flow = flow
        self.content = content
        self.length = length

    @property
    def is_cut_short(self) -> bool:
        """Only the beginning is known: equal to nothing."""
        return self.flow[8:] == _CUT_SHORT


Parsed = TcpPacket | Datagram | NotCompared


def parse_frame(buffer: Buffer, start: int, end: int) -> Parsed:
    """Parse an Ethernet frame in `buffer[start:end]`; raises MalformedPacket."""
    # Fast path: untagged IPv4.
    ip = start + ETHERNET_HEADER
    if buffer[start + 12 : ip] == _ETHERTYPE_IPV4 and end >= ip:
        return parse_ipv4(buffer, ip, end)
    if end < ip:
        raise MalformedPacket("frame shorter than an Ethernet header")
    if buffer[start + 12 : ip] in _ETHERTYPES_UNCOMPARED:
        return NotCompared.UNCOMPARED
    # Below 0x0600 the field is the length of an IEEE 802.3 frame (clause 3.2.6).
    if end - ip < int.from_bytes(buffer[start + 12 : ip], "big") < 0x0600:
        raise MalformedPacket("frame shorter than its IEEE 802.3 length")
    return NotCompared.NOT_IP


def parse_ipv4(buffer: Buffer, ip: int, end: int) -> TcpPacket | Datagram:
    """Parse an IPv4 packet in `buffer[ip:end]`; raises MalformedPacket."""
    # Fast path: TCP behind a header without options, not a fragment.
    if end - ip >= 40:
        version, total, fragment, protocol, connection, sequence, acknowledgment, bits, window = _IPV4_TCP.unpack_from(
            buffer, ip
        )
        payload = ip + 20 + (bits >> 12 << 2)
        if (
            version == 0x45
            and protocol == _PROTOCOL_TCP
            and not fragment & _FRAGMENT
            and ip + 40 <= payload <= ip + total <= end
        ):
            return TcpPacket(
                connection, buffer, ip, ip + 20, payload, ip + total, sequence, acknowledgment, bits & 0x1FF, window
            )
    return _parse_ipv4_slowly(buffer, ip, end)


def _parse_ipv4_slowly(buffer: Buffer, ip: int, end: int) -> TcpPacket | Datagram:
    if end - ip < 20:
        raise MalformedPacket("packet shorter than an IPv4 header")
    version, total, fragment, protocol, addresses = _IPV4.unpack_from(buffer, ip)
    body = ip + ((version & 0x0F) << 2)
    if version >> 4 != 4:
        raise MalformedPacket("IP version is not 4")
    if not ip + 20 <= body <= ip + total <= end:
        raise MalformedPacket("IPv4 lengths do not fit the packet")
    end = ip + total
    if fragment & _FRAGMENT:
        return _fragment(buffer, body, end, addresses, protocol, fragment & _FRAGMENT)
    if protocol == _PROTOCOL_TCP:
        return _tcp(buffer, ip, body, end, addresses)
    return _datagram(buffer, body, end, addresses, protocol)


def _tcp(buffer: Buffer, ip: int, tcp: int, end: int, addresses: bytes) -> TcpPacket:
    if end - tcp < 20:
        raise MalformedPacket("TCP header is cut off")
    ports, sequence, acknowledgment, bits, window = _TCP.unpack_from(buffer, tcp)
    payload = tcp + (bits >> 12 << 2)
    if not tcp + 20 <= payload <= end:
        raise MalformedPacket("TCP data offset does not fit the packet")
    return TcpPacket(addresses + ports, buffer, ip, tcp, payload, end, sequence, acknowledgment, bits & 0x1FF, window)


def _datagram(buffer: Buffer, body: int, end: int, addresses: bytes, protocol: int) -> Datagram:
    if protocol == _PROTOCOL_UDP:
        return _udp(buffer, body, end, addresses)
    if protocol == _PROTOCOL_ICMP:
        if end - body < 4:
            raise MalformedPacket("ICMP header is cut off")
        # Type and code, then everything behind the checksum.
        content = bytes(buffer[body : body + 2]) + bytes(buffer[body + 4 : end])
    else:
        content = bytes(buffer[body:end])
    return Datagram(addresses + bytes((protocol,)), content, end - body)


def _udp(buffer: Buffer, body: int, end: int, addresses: bytes) -> Datagram:
    if end - body < 8:
        raise MalformedPacket("UDP header is cut off")
    length = int.from_bytes(buffer[body + 4 : body + 6], "big")
    if not 8 <= length <= end - body:
        raise MalformedPacket("UDP length does not fit the packet")
    flow = addresses + bytes((_PROTOCOL_UDP,)) + bytes(buffer[body : body + 4])
    return Datagram(flow, bytes(buffer[body + 8 : body + length]), length)


def _fragment(buffer: Buffer, body: int, end: int, addresses: bytes, protocol: int, fragment: int) -> Datagram:
    """A fragment is compared by itself: its place in the datagram is part of its content."""
    content = fragment.to_bytes(2, "big") + bytes(buffer[body:end])
    if protocol == _PROTOCOL_UDP and not fragment & _FRAGMENT_OFFSET:
        content = content[:8] + content[10:]  # without the checksum
    return Datagram(addresses + bytes((protocol,)) + b"fragment", content, end - body)


def cut_short(buffer: Buffer, ip: int, end: int) -> Datagram:
    """A packet of which the queue delivered only the beginning: it has no content to compare."""
    if end - ip < 20:
        raise MalformedPacket("packet shorter than an IPv4 header")
    return Datagram(bytes(buffer[ip + 12 : ip + 20]) + _CUT_SHORT, b"", end - ip)


def describe_flow(flow: bytes) -> str:
    """`10.0.0.2:80 > 10.0.0.9:5000` of a connection, addresses and protocol of another flow."""
    source, destination = (".".join(str(byte) for byte in flow[at : at + 4]) for at in (0, 4))
    if len(flow) == 12:
        return f"{source}:{_port(flow, 8)} > {destination}:{_port(flow, 10)}"
    if len(flow) == 13 and flow[8] == _PROTOCOL_UDP:
        return f"{source}:{_port(flow, 9)} > {destination}:{_port(flow, 11)} udp"
    if flow[8:] == _CUT_SHORT:
        return f"{source} > {destination} cut short"
    return f"{source} > {destination} protocol {flow[8]}{' fragment' if len(flow) > 9 else ''}"


def _port(flow: bytes, at: int) -> int:
    return int.from_bytes(flow[at : at + 2], "big")
