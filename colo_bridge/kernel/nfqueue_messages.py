"""Layout of the netlink messages of NFQUEUE.

Numbers and layouts: linux/netlink.h, linux/netfilter/nfnetlink.h,
linux/netfilter/nfnetlink_queue.h.  Integers are in the host's byte order but for
what netfilter defines as big-endian.
"""

from __future__ import annotations

import socket
import struct
import sys

MESSAGE_ERROR = 2
MESSAGE_PACKET = 3 << 8
_MESSAGE_VERDICT = 3 << 8 | 1
_MESSAGE_CONFIG = 3 << 8 | 2
_FLAG_REQUEST, _FLAG_ACKNOWLEDGE = 1, 4

_CONFIG_COMMAND, _CONFIG_PARAMETERS, _CONFIG_LENGTH, _CONFIG_MASK, _CONFIG_FLAGS = 1, 2, 3, 4, 5
_FAIL_OPEN, _GSO = 1, 4
_COPY_PACKET = 2
COPY_RANGE = 0xFFFF
"""Asked for; the kernel delivers at most 65,531 bytes, an attribute's length has 16 bits."""

_ATTRIBUTE_VERDICT, _ATTRIBUTE_PAYLOAD, _ATTRIBUTE_ORIGINAL_LENGTH = 2, 10, 13

_HEADER = struct.Struct("=IHHII4s")
_ATTRIBUTE = struct.Struct("=HH")
_PACKET_HEADER_END = 32
"""Netlink header 16, netfilter header 4, attribute header 4, packet header 7, padding 1."""
packet_header = struct.Struct("=24xIH").unpack_from
"""Packet id and hardware protocol (big-endian) of a packet message."""
VERDICT_BYTES = 32
VERDICT_ID_WORD = 7
"""Position of the packet id in a verdict message, in words of four bytes."""


class Shape:
    """The attributes that stand before the payload, and where each begins.

    A guest controls every byte of the payload: a remembered offset alone could be
    led into the packet's middle by bytes that look like an attribute header.  So
    every header on the way is compared, in one unpacking.
    """

    __slots__ = ("constants", "expected", "start", "truncated")

    def __init__(self, message: memoryview) -> None:
        """Walk the attributes of one packet message; struct.error if it has no payload."""
        position, skeleton, self.truncated = _PACKET_HEADER_END, "", False
        while (attribute := _ATTRIBUTE.unpack_from(message, position))[1] != _ATTRIBUTE_PAYLOAD:
            size = (max(attribute[0], 4) + 3) & ~3
            self.truncated |= attribute[1] == _ATTRIBUTE_ORIGINAL_LENGTH
            skeleton += f"I{size - 4}x"
            position += size
        self.constants = struct.Struct(f"=4xH14xI8x{skeleton}2xH").unpack_from
        self.expected = self.constants(message)
        self.start = position + _ATTRIBUTE.size


def verdict(queue: int, accept: bool, packet_id: int, payload: bytes = b"") -> bytes:
    """NF_ACCEPT or NF_DROP for one packet; its id is the kernel's 32 bits in host order."""
    attributes = _attribute(_ATTRIBUTE_VERDICT, struct.pack(">I", accept) + struct.pack("=I", packet_id))
    if payload:
        attributes += _attribute(_ATTRIBUTE_PAYLOAD, payload)
    return _message(_MESSAGE_VERDICT, queue, attributes, _FLAG_REQUEST)


def command(queue: int, *, bind: bool, acknowledged: bool = False) -> bytes:
    """Bind or unbind a queue."""
    value = struct.pack(">BBH", 1 if bind else 2, 0, socket.AF_UNSPEC)
    return _config(queue, _attribute(_CONFIG_COMMAND, value), acknowledged)


def copy_whole_packets(queue: int, *, acknowledged: bool = False) -> bytes:
    return _config(queue, _attribute(_CONFIG_PARAMETERS, struct.pack(">IB", COPY_RANGE, _COPY_PACKET)), acknowledged)


def queue_length(queue: int, packets: int, *, acknowledged: bool = False) -> bytes:
    return _config(queue, _attribute(_CONFIG_LENGTH, struct.pack(">I", packets)), acknowledged)


def queue_flags(queue: int, *, accept_when_full: bool, acknowledged: bool = False) -> bytes:
    """GSO always: up to 64 KB in one packet.  FAIL_OPEN as asked."""
    flags = _GSO | (_FAIL_OPEN if accept_when_full else 0)
    mask = _attribute(_CONFIG_MASK, struct.pack(">I", _GSO | _FAIL_OPEN))
    return _config(queue, mask + _attribute(_CONFIG_FLAGS, struct.pack(">I", flags)), acknowledged)


def message_type(message: memoryview) -> int:
    return int.from_bytes(message[4:6], sys.byteorder)


def packet_id(message: memoryview) -> int:
    return int.from_bytes(message[24:28], sys.byteorder)


def error_number(message: memoryview) -> int:
    """Positive errno of an NLMSG_ERROR; 0 acknowledges."""
    return -int.from_bytes(message[16:20], sys.byteorder, signed=True)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _config(queue: int, attributes: bytes, acknowledged: bool) -> bytes:
    return _message(_MESSAGE_CONFIG, queue, attributes, _FLAG_REQUEST | (_FLAG_ACKNOWLEDGE if acknowledged else 0))


def _message(kind: int, queue: int, attributes: bytes, flags: int) -> bytes:
    family = struct.pack(">BBH", socket.AF_UNSPEC, 0, queue)
    return _HEADER.pack(_HEADER.size + len(attributes), kind, flags, 0, 0, family) + attributes
