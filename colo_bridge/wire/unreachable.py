"""ICMP's word to a TCP sender that its segment found no way: what ends its waiting once there is one again.

A sender whose segments get no answer doubles its retransmission time-out with each, to minutes in the end.  RFC 6069:
one that hears for its oldest segment that a network or host was unreachable, and not congested, takes back one
doubling, and repeats at once if that time has passed.  Nobody gives a connection up for it (RFC 1122 §4.2.3.9).
Of IPv4 *host unreachable*, of IPv6 *no route*, which is what senders heed there.
Formats: RFC 792, RFC 4443 §3.1.
"""

from __future__ import annotations

import struct

from colo_bridge.wire.checksum import ones_sum
from colo_bridge.wire.flow import ICMP, ICMPV6, TCP, address_bytes
from colo_bridge.wire.ip_header import ip_header
from colo_bridge.wire.serial import Serial

_TCP_HEADER = 20
# Ports, sequence, acknowledgment, data offset with flags, window, checksum, urgent pointer.
_QUOTED = struct.Struct("!4sIIHHHH")
# Type, code, checksum, four bytes that say nothing.
_MESSAGE = struct.Struct("!BBHI")
_HOST_UNREACHABLE, _NO_ROUTE = (3, 1), (1, 0)


def unreachable(connection: bytes, sequence: Serial) -> bytes:
    """The IP packet that answers the segment which begins with this number; `connection` as its sender names it."""
    size = address_bytes(connection)
    addresses = connection[: 2 * size]
    answered = addresses[size:] + addresses[:size]
    ports = connection[2 * size : 2 * size + 4]
    segment = _QUOTED.pack(ports, sequence, 0, _TCP_HEADER << 10, 0, 0, 0)
    quoted = ip_header(addresses, TCP, len(segment)) + segment
    if size == 4:
        protocol, message = ICMP, _message(_HOST_UNREACHABLE, quoted, 0)
    else:
        pseudo_header = ones_sum(addresses) + _MESSAGE.size + len(quoted) + ICMPV6
        protocol, message = ICMPV6, _message(_NO_ROUTE, quoted, pseudo_header)
    return ip_header(answered, protocol, len(message)) + message


def _message(kind: tuple[int, int], quoted: bytes, pseudo_header: int) -> bytes:
    total = pseudo_header + ones_sum(_MESSAGE.pack(*kind, 0, 0) + quoted)
    return _MESSAGE.pack(*kind, -total % 0xFFFF, 0) + quoted
