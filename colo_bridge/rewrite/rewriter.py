"""The rewriter: one secondary guest's frames in both directions.

Almost every packet belongs to a known, established connection and has one of four header
forms (`forms.py`, `sack.py`); those take a fast path of one `unpack_from` and one `pack_into`.  Everything
else, and everything that changes what is known, goes through `SlowPath`.

A fast path takes only what goes on in order: segments of the secondary that begin where the one
before ended, and acknowledgements from the client's newest up to what the secondary has sent.  The latter are
compared as bare numbers: where these wrap in between, nothing fits, and the slow path decides.

Segments protected by TCP-MD5 or TCP-AO (RFC 2385, RFC 5925) can't be rewritten: the
secondary discards them, and such connections diverge.
"""

from __future__ import annotations

from collections.abc import Iterable

from colo_bridge.rewrite.forms import (
    EGRESS_PLAIN,
    EGRESS_STAMPED,
    ETHERTYPE_AT,
    FLAGS_MASK,
    FLAGS_SHIFT,
    FORM_MASK,
    INGRESS_PLAIN,
    INGRESS_STAMPED,
    IPV4_WITHOUT_OPTIONS,
    IPV6,
    IPV6_SHIFT,
    IPV6_TYPE,
    MODULUS,
    NEXT_TCP,
    OFFSET_AT,
    OFFSET_MASK,
    PLAIN,
    PLAIN_FORM,
    PLAIN_FRAME,
    PLAIN_OFFSET,
    PLAIN_PACKET,
    STAMPED,
    STAMPED_FORM,
    STAMPED_FRAME,
    STAMPED_FRAME_IPV6,
    STAMPED_HEADER,
    STAMPED_IPV6,
    STAMPED_PACKET,
    TCP_AT,
    TCP_AT_IPV6,
    TIMESTAMPS_ALONE,
    WHOLE_MASK,
    WHOLE_TCP,
    WINDOW_MASK,
)
from colo_bridge.rewrite.inheritance import Offsets
from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.prompting import Prompt
from colo_bridge.rewrite.sack import moved_with_blocks
from colo_bridge.rewrite.slow import SlowPath
from colo_bridge.wire.packet import ETHERNET_HEADER, Parsed, TcpPacket
from colo_bridge.wire.serial import serial_plus


class Rewriter:
    """Rewrites frames in place; does no I/O and reads no clock.

    `header`: bytes in front of every frame that belong to it (a virtio-net header has 12).  They
    are kept with a frame that can't be delivered yet.  `ready` holds frames for the secondary, header
    in front and finished: those kept, once they may be delivered, and answers in the names of the
    client and of neighbours.  The caller takes them out after each `egress` and after `synchronised`.
    `cures`: whether what the secondary missed is acknowledged again, and nothing that it has not sent.
    """

    def __init__(self, limits: RewriteLimits, header: int = 12, *, cures: bool = True) -> None:
        self._slow = SlowPath(limits, header, cures)
        self.ready = self._slow.ready
        self.counters = self._slow.counters
        self._by_egress = self._slow.table.by_egress
        self._by_ingress = self._slow.table.by_ingress

    @property
    def connections(self) -> int:
        """Connections known now."""
        return len(self._slow.table)

    def addresses(self) -> list[tuple[bytes, bytes]]:
        """The guest's own, each behind its hardware address, as it told or used them; see `GuestAddresses.known`."""
        return self._slow.addresses.known()

    def egress(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> Parsed:
        """Rewrite the secondary's frame in `frame[start:end]`; raises MalformedPacket.

        `now` is in seconds of a clock that never goes back.  The packet returned has the new sequence number.
        """
        # Fast path: untagged IPv4 and TCP without options but NOP, NOP, timestamps; established.
        if end - start >= STAMPED_FRAME:
            # fmt: off
            (prefix, total, whole, key, sequence, acknowledgment, bits, checksum,
             options, value, _) = STAMPED.unpack_from(frame, start + ETHERTYPE_AT)
            # fmt: on
            connection = self._by_egress.get(key)
            if (
                connection is not None
                and connection.flowing
                and options == TIMESTAMPS_ALONE
                and bits & FORM_MASK == STAMPED_FORM
                and prefix == IPV4_WITHOUT_OPTIONS
                and whole & WHOLE_MASK == WHOLE_TCP
                and STAMPED_PACKET <= total <= end - start - ETHERNET_HEADER
            ):
                moved = serial_plus(sequence, -connection.sequence_offset)
                if moved == connection.sent:
                    connection.sent = serial_plus(moved, total - STAMPED_PACKET)
                    connection.delivered = acknowledgment
                    connection.last_seen = now
                    tcp = start + TCP_AT
                    moved_value = serial_plus(value, -connection.timestamp_offset)
                    if not partial_checksum:
                        checksum = (checksum + sequence - moved + value - moved_value) % MODULUS
                    EGRESS_STAMPED.pack_into(
                        frame, tcp + 4, moved, acknowledgment, bits, checksum, options, moved_value
                    )
                    ip = start + ETHERNET_HEADER
                    flags, window = bits >> FLAGS_SHIFT & FLAGS_MASK, bits & WINDOW_MASK
                    return TcpPacket(key, frame, ip, tcp, tcp + 32, ip + total, moved, acknowledgment, flags, window)
        return self._egress_otherwise(frame, start, end, partial_checksum, now)

    def ingress(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> bool:
        """Rewrite the client's frame in `frame[start:end]` for the secondary; False: don't deliver it (now).

        `frame[start - header:start]` is its header, kept with it where that is needed.
        """
        # Fast path: as on egress.
        if end - start >= STAMPED_FRAME:
            # fmt: off
            (prefix, total, whole, key, _, acknowledgment, bits, checksum,
             options, value, echo) = STAMPED.unpack_from(frame, start + ETHERTYPE_AT)
            # fmt: on
            connection = self._by_ingress.get(key)
            if (
                connection is not None
                and connection.flowing
                and connection.acknowledged <= acknowledgment <= connection.sent
                and options == TIMESTAMPS_ALONE
                and bits & FORM_MASK == STAMPED_FORM
                and prefix == IPV4_WITHOUT_OPTIONS
                and whole & WHOLE_MASK == WHOLE_TCP
                and STAMPED_PACKET <= total <= end - start - ETHERNET_HEADER
            ):
                connection.acknowledged, connection.window = acknowledgment, bits & WINDOW_MASK
                connection.last_seen = now
                moved = serial_plus(acknowledgment, connection.sequence_offset)
                moved_echo = serial_plus(echo, connection.timestamp_offset)
                if not partial_checksum:
                    checksum = (checksum + acknowledgment - moved + echo - moved_echo) % MODULUS
                INGRESS_STAMPED.pack_into(frame, start + TCP_AT + 8, moved, bits, checksum, options, value, moved_echo)
                return True
        return self._ingress_otherwise(frame, start, end, partial_checksum, now)

    def synchronised(self) -> None:
        """The secondary is a copy of the primary now: all offsets are zero, no opening is remembered."""
        self._slow.synchronised()

    def offsets(self) -> list[Offsets]:
        """Of all connections whose clients know other numbers than the guest has."""
        return self._slow.offsets()

    def inherit(self, offsets: Iterable[Offsets], *, anew: bool) -> None:
        """Remember what the rewriter of a live primary moves, until `take_over`; `anew`: forget what it said before."""
        if anew:
            self._slow.inheritance.clear()
        self._slow.inheritance.add(offsets)

    def is_inherited(self, frame: bytearray, start: int, end: int) -> bool:
        """Whether the secondary's frame, as `egress` has left it, has other numbers than its client knows."""
        return self._slow.is_inherited(frame, start, end)

    def take_over(self, now: float) -> None:
        """The secondary is the service from now on: what was inherited is moved, as it was before."""
        self._slow.take_over(now)

    def prompts(self, most: int) -> list[Prompt]:
        """Of the connections that were heard last, for the moment at which the secondary becomes the service."""
        return self._slow.prompts(most)

    def tick(self, now: float) -> None:
        """Forget what was silent for too long; bounded work, to be called about once a second."""
        self._slow.tick(now)

    # The other forms of established connections.

    def _egress_otherwise(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> Parsed:
        if end - start >= STAMPED_FRAME_IPV6 and frame[start + ETHERTYPE_AT] == IPV6_TYPE:
            return self._egress_ipv6(frame, start, end, partial_checksum, now)
        # Fast path: the same without any option, for clients that don't use timestamps.
        if end - start >= PLAIN_FRAME and frame[start + OFFSET_AT] & OFFSET_MASK == PLAIN_OFFSET:
            prefix, total, whole, key, sequence, acknowledgment, bits, checksum = PLAIN.unpack_from(
                frame, start + ETHERTYPE_AT
            )
            connection = self._by_egress.get(key)
            if (
                connection is not None
                and connection.flowing
                and bits & FORM_MASK == PLAIN_FORM
                and prefix == IPV4_WITHOUT_OPTIONS
                and whole & WHOLE_MASK == WHOLE_TCP
                and PLAIN_PACKET <= total <= end - start - ETHERNET_HEADER
            ):
                moved = serial_plus(sequence, -connection.sequence_offset)
                if moved == connection.sent:
                    connection.sent = serial_plus(moved, total - PLAIN_PACKET)
                    connection.delivered = acknowledgment
                    connection.last_seen = now
                    tcp = start + TCP_AT
                    if not partial_checksum:
                        checksum = (checksum + sequence - moved) % MODULUS
                    EGRESS_PLAIN.pack_into(frame, tcp + 4, moved, acknowledgment, bits, checksum)
                    ip = start + ETHERNET_HEADER
                    flags, window = bits >> FLAGS_SHIFT & FLAGS_MASK, bits & WINDOW_MASK
                    return TcpPacket(key, frame, ip, tcp, tcp + 20, ip + total, moved, acknowledgment, flags, window)
        return self._slow.egress(frame, start, end, partial_checksum, now)

    def _ingress_otherwise(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> bool:
        if end - start >= STAMPED_FRAME_IPV6 and frame[start + ETHERTYPE_AT] == IPV6_TYPE:
            return self._ingress_ipv6(frame, start, end, partial_checksum, now)
        # Fast path: as on egress.
        if end - start >= PLAIN_FRAME and frame[start + OFFSET_AT] & OFFSET_MASK == PLAIN_OFFSET:
            prefix, total, whole, key, _, acknowledgment, bits, checksum = PLAIN.unpack_from(
                frame, start + ETHERTYPE_AT
            )
            connection = self._by_ingress.get(key)
            if (
                connection is not None
                and connection.flowing
                and connection.acknowledged <= acknowledgment <= connection.sent
                and bits & FORM_MASK == PLAIN_FORM
                and prefix == IPV4_WITHOUT_OPTIONS
                and whole & WHOLE_MASK == WHOLE_TCP
                and PLAIN_PACKET <= total <= end - start - ETHERNET_HEADER
            ):
                connection.acknowledged, connection.window = acknowledgment, bits & WINDOW_MASK
                connection.last_seen = now
                moved = serial_plus(acknowledgment, connection.sequence_offset)
                if not partial_checksum:
                    checksum = (checksum + acknowledgment - moved) % MODULUS
                INGRESS_PLAIN.pack_into(frame, start + TCP_AT + 8, moved, bits, checksum)
                return True
        if moved_with_blocks(self._by_ingress, frame, start, end, partial_checksum, now):
            self.counters.translated_sack += 1
            return True
        return self._slow.ingress(frame, start, end, partial_checksum, now)

    def _egress_ipv6(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> Parsed:
        # Fast path: untagged IPv6 without extension headers, TCP as in IPv4's.
        # fmt: off
        (prefix, length, following_header, key, sequence, acknowledgment, bits, checksum,
         options, value, _) = STAMPED_IPV6.unpack_from(frame, start + ETHERTYPE_AT)
        # fmt: on
        connection = self._by_egress.get(key)
        tcp = start + TCP_AT_IPV6
        if (
            connection is not None
            and connection.flowing
            and options == TIMESTAMPS_ALONE
            and bits & FORM_MASK == STAMPED_FORM
            and prefix >> IPV6_SHIFT == IPV6
            and following_header == NEXT_TCP
            and STAMPED_HEADER <= length <= end - tcp
        ):
            moved = serial_plus(sequence, -connection.sequence_offset)
            if moved == connection.sent:
                connection.sent = serial_plus(moved, length - STAMPED_HEADER)
                connection.delivered = acknowledgment
                connection.last_seen = now
                moved_value = serial_plus(value, -connection.timestamp_offset)
                if not partial_checksum:
                    checksum = (checksum + sequence - moved + value - moved_value) % MODULUS
                EGRESS_STAMPED.pack_into(frame, tcp + 4, moved, acknowledgment, bits, checksum, options, moved_value)
                ip = start + ETHERNET_HEADER
                flags, window = bits >> FLAGS_SHIFT & FLAGS_MASK, bits & WINDOW_MASK
                return TcpPacket(key, frame, ip, tcp, tcp + 32, tcp + length, moved, acknowledgment, flags, window)
        return self._slow.egress(frame, start, end, partial_checksum, now)

    def _ingress_ipv6(self, frame: bytearray, start: int, end: int, partial_checksum: bool, now: float) -> bool:
        # Fast path: as on egress.
        # fmt: off
        (prefix, length, following_header, key, _, acknowledgment, bits, checksum,
         options, value, echo) = STAMPED_IPV6.unpack_from(frame, start + ETHERTYPE_AT)
        # fmt: on
        connection = self._by_ingress.get(key)
        tcp = start + TCP_AT_IPV6
        if (
            connection is not None
            and connection.flowing
            and connection.acknowledged <= acknowledgment <= connection.sent
            and options == TIMESTAMPS_ALONE
            and bits & FORM_MASK == STAMPED_FORM
            and prefix >> IPV6_SHIFT == IPV6
            and following_header == NEXT_TCP
            and STAMPED_HEADER <= length <= end - tcp
        ):
            connection.acknowledged, connection.window = acknowledgment, bits & WINDOW_MASK
            connection.last_seen = now
            moved = serial_plus(acknowledgment, connection.sequence_offset)
            moved_echo = serial_plus(echo, connection.timestamp_offset)
            if not partial_checksum:
                checksum = (checksum + acknowledgment - moved + echo - moved_echo) % MODULUS
            INGRESS_STAMPED.pack_into(frame, tcp + 8, moved, bits, checksum, options, value, moved_echo)
            return True
        return self._slow.ingress(frame, start, end, partial_checksum, now)
