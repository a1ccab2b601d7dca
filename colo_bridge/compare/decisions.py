"""What the comparator decides: divergences, and the numbers it keeps about its work."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

from colo_bridge.wire.serial import Serial


class Reason(enum.Enum):
    """Why two replicas count as different."""

    CONTENT = "content"
    """Two payload bytes at the same place of a stream differ."""
    CONTROL = "control"
    """SYN, FIN or RST stand at different places."""
    OPTIONS = "options"
    """Two SYNs offer the client different things for the whole connection."""
    DATAGRAM = "datagram"
    """Both sides sent a datagram that the other one did not."""
    TIMEOUT = "timeout"
    """One side stayed silent for longer than the compare timeout."""
    CUT_SHORT = "cut short"
    """A packet was too large to be read whole, so it cannot be compared."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two replicas differ.

    `sequence` is the TCP number of the first differing octet, `stream_offset` its index behind the
    SYN (None where the opening was not seen); lengths are payload bytes; bytes are None where
    the difference is not between two bytes.  The packets are IP packets as far as they are kept: the primary's
    as it left the guest, the secondary's in the primary's numbers.
    """

    reason: Reason
    flow: bytes
    detail: str
    sequence: Serial | None = None
    stream_offset: int | None = None
    primary_length: int | None = None
    secondary_length: int | None = None
    primary_byte: int | None = None
    secondary_byte: int | None = None
    primary_packet: bytes | None = None
    secondary_packet: bytes | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """A packet of our own to the client: octets that both sent, of a packet of the primary that may not leave whole."""

    ethernet: bytes
    """The Ethernet header, tags included."""
    packet: bytes
    """The IP packet; its TCP checksum is partial (the sum of the pseudo-header)."""
    tcp: int
    """Where in it the TCP header begins."""
    payload: int
    """Where its payload begins."""
    segment_size: int
    """Payload bytes of each segment that it has to be cut into; 0: it is small enough."""


@dataclass(slots=True)
class Counters:
    """Running totals; packets unless the name says bytes or something else."""

    primary_packets: int = 0
    primary_bytes: int = 0
    secondary_packets: int = 0
    secondary_bytes: int = 0
    held_packets_most: int = 0
    held_bytes_most: int = 0
    released_packets: int = 0
    released_bytes: int = 0
    released_by_checkpoint_packets: int = 0
    released_uncompared_packets: int = 0
    revised_acknowledgments: int = 0
    forwarded_packets: int = 0
    forwarded_bytes: int = 0
    replaced_packets: int = 0
    asked_acknowledgments: int = 0
    dropped_packets: int = 0
    thrown_away_packets: int = 0
    thrown_away_bytes: int = 0
    retransmissions: int = 0
    malformed_primary: int = 0
    malformed_secondary: int = 0
    uncompared_packets: int = 0
    not_ip_passed: int = 0
    not_ip_thrown_away: int = 0
    neighbour_passed: int = 0
    neighbour_thrown_away: int = 0
    reassembled_primary: int = 0
    reassembled_secondary: int = 0
    overlapping_fragments: int = 0
    fragment_limit_drops: int = 0
    incomplete_fragments: int = 0
    passthrough_packets: int = 0
    passthrough_bytes: int = 0
    passthrough_thrown_away: int = 0
    observed_packets: int = 0
    observed_bytes: int = 0
    observed_equal_packets: int = 0
    observed_equal_bytes: int = 0
    observed_unequal_packets: int = 0
    observed_unequal_bytes: int = 0
    observed_uncompared_packets: int = 0
    unsynchronised_packets: int = 0
    unverified_packets: int = 0
    held_limit_drops: int = 0
    secondary_limit_drops: int = 0
    connection_limit_drops: int = 0
    half_open_drops: int = 0
    connections_evicted: int = 0
    connections_expired: int = 0
    checkpoint_requests: int = 0
    checkpoints_done: int = 0
    divergences: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
