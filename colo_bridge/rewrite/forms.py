"""The header forms that established connections almost always have, and how they are read and written.

Each form is read by one `unpack_from` from the Ethernet type on, and written by one `pack_into`
from the sequence number (egress) or the acknowledgment number (ingress) on.
"""

from __future__ import annotations

import struct

# IPv4: type with IP version and header length, total length, fragment with TTL and protocol,
# connection, then the TCP header: sequence, acknowledgment, data offset with flags and window, checksum.
PLAIN = struct.Struct("!3sxHxxIxx12sIIIH")
# The same, then the urgent pointer with the beginning of the options, TSval, TSecr.
STAMPED = struct.Struct("!3sxHxxIxx12sIIIH6sII")
# IPv6: type with IP version, payload length, next header, connection, then as above.
STAMPED_IPV6 = struct.Struct("!IxxHBx36sIIIH6sII")
ETHERTYPE_AT = 12
TCP_AT, TCP_AT_IPV6 = 34, 54
PLAIN_FRAME, STAMPED_FRAME, STAMPED_FRAME_IPV6 = 54, 66, 86

PLAIN_PACKET, STAMPED_PACKET = 40, 52
"""Bytes of an IPv4 packet without payload."""
STAMPED_HEADER = 32
"""Bytes of a TCP header: all that an IPv6 packet without payload carries."""
PLAIN_HEADER = 20

IPV4_WITHOUT_OPTIONS = b"\x08\x00\x45"
# Not a fragment, any TTL, TCP.
WHOLE_MASK, WHOLE_TCP = 0x3FFF00FF, 6
# The Ethernet type with the IP version; traffic class and flow label behind them are free.
IPV6_SHIFT, IPV6 = 12, 0x86DD6
IPV6_TYPE = 0x86
"""The first byte of the Ethernet type."""
NEXT_TCP = 6
# No urgent pointer; NOP, NOP, timestamps of ten bytes.
TIMESTAMPS_ALONE = b"\x00\x00\x01\x01\x08\x0a"
# Data offset with SYN, RST, FIN and ACK.
FORM_MASK, PLAIN_FORM, STAMPED_FORM = 0xF0170000, 0x50100000, 0x80100000
OFFSET_AT, OFFSET_MASK, PLAIN_OFFSET = 46, 0xF0, 0x50
FLAGS_SHIFT, FLAGS_MASK, WINDOW_MASK = 16, 0x1FF, 0xFFFF

EGRESS_PLAIN, EGRESS_STAMPED = struct.Struct("!IIIH"), struct.Struct("!IIIH6sI")
INGRESS_PLAIN, INGRESS_STAMPED = struct.Struct("!IIH"), struct.Struct("!IIH6sII")
MODULUS = 0xFFFF
"""Of the checksum."""
