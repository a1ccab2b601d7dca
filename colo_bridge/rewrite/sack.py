"""The form that a client's acknowledgements have while octets are missing: timestamps, then SACK blocks (RFC 2018)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from colo_bridge.rewrite.connection import Connection
from colo_bridge.rewrite.forms import (
    ETHERTYPE_AT,
    FORM_MASK,
    INGRESS_STAMPED,
    IPV4_WITHOUT_OPTIONS,
    MODULUS,
    OFFSET_AT,
    STAMPED,
    STAMPED_FRAME,
    STAMPED_PACKET,
    TCP_AT,
    TIMESTAMPS_ALONE,
    WHOLE_MASK,
    WHOLE_TCP,
    WINDOW_MASK,
)
from colo_bridge.wire.packet import ACK, ETHERNET_HEADER
from colo_bridge.wire.serial import serial_plus, serials_plus


@dataclass(frozen=True, slots=True)
class _Form:
    """With so many blocks; `read` and `written` go on behind the timestamps with two NOPs and the option."""

    bits: int
    """Data offset with SYN, RST, FIN and ACK."""
    lead: bytes
    read: struct.Struct
    written: struct.Struct
    packet: int
    """Bytes of an IPv4 packet without payload."""


def _form(blocks: int) -> _Form:
    size = 4 + 8 * blocks
    behind = f"4s{2 * blocks}I"
    return _Form(
        bits=(32 + size) << 26 | ACK << 16,
        lead=bytes((1, 1, 5, size - 2)),
        read=struct.Struct(STAMPED.format + behind),
        written=struct.Struct(INGRESS_STAMPED.format + behind),
        packet=STAMPED_PACKET + size,
    )


# By the byte with the data offset; three blocks are the most that there is room for.
_FORMS = {form.bits >> 24: form for form in map(_form, (1, 2, 3))}


def moved_with_blocks(
    by_ingress: Mapping[bytes, Connection],
    frame: bytearray,
    start: int,
    end: int,
    partial_checksum: bool,
    now: float,
) -> bool:
    """Move the numbers of such a segment, in untagged IPv4; False: it is not one."""
    # Fast path: whole.
    form = _FORMS.get(frame[start + OFFSET_AT]) if end - start >= STAMPED_FRAME else None
    if form is None or form.packet > end - start - ETHERNET_HEADER:
        return False
    # fmt: off
    (prefix, total, whole, key, _, acknowledgment, bits, checksum,
     options, value, echo, lead, *edges) = form.read.unpack_from(frame, start + ETHERTYPE_AT)
    # fmt: on
    connection = by_ingress.get(key)
    if (
        connection is None
        or not connection.flowing
        or not connection.acknowledged <= acknowledgment <= connection.sent
        or lead != form.lead
        or options != TIMESTAMPS_ALONE
        or bits & FORM_MASK != form.bits
        or prefix != IPV4_WITHOUT_OPTIONS
        or whole & WHOLE_MASK != WHOLE_TCP
        or not form.packet <= total <= end - start - ETHERNET_HEADER
    ):
        return False
    connection.acknowledged, connection.window = acknowledgment, bits & WINDOW_MASK
    connection.last_seen = now
    moved = serial_plus(acknowledgment, connection.sequence_offset)
    moved_echo = serial_plus(echo, connection.timestamp_offset)
    moved_edges = serials_plus(edges, connection.sequence_offset)
    if not partial_checksum:
        changes = acknowledgment - moved + echo - moved_echo + sum(edges) - sum(moved_edges)
        checksum = (checksum + changes) % MODULUS
    form.written.pack_into(
        frame, start + TCP_AT + 8, moved, bits, checksum, options, value, moved_echo, lead, *moved_edges
    )
    return True
