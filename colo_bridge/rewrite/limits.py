"""What bounds the rewriter, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RewriteLimits:
    """Everything that could grow without an end."""

    connections: int = 65_536
    """Connections remembered; one more evicts the longest idle half-open or closed one, then the longest idle."""
    established_idle: float = 432_000.0
    """Seconds of silence after which an open connection is forgotten (at most a quarter later)."""
    closing_idle: float = 120.0
    """The same for a half-open or closed connection."""
    early_packets: int = 1_024
    """Client segments kept until the secondary's SYN was seen; one more is dropped."""
    early_packets_per_connection: int = 64
    neighbours: int = 4_096
    """Neighbours remembered that told their address, and as many more that were only seen to use it; one more
    evicts the one that was silent for the longest."""
    addresses: int = 64
    """Addresses of the guest itself, remembered in the same way."""
    neighbour_idle: float = 14_400.0
    """Seconds after which a neighbour, or an address of the guest, that is not heard is forgotten."""


@dataclass(slots=True)
class RewriteCounters:
    """All count packets, except where they say connections, neighbours or addresses."""

    learned: int = 0
    """Connections whose offsets were learned."""
    unlearnable: int = 0
    """Connections whose offset can't be known for certain: the guest sent octets before it was acknowledged."""
    timestamp_unlearned: int = 0
    """Connections whose first acknowledgement echoed no timestamp although the guest's SYN had one."""
    unknown: int = 0
    """Connections that were not seen opening: unchanged, offset zero."""
    stale: int = 0
    """Client segments that acknowledge something else than the opening in progress: unchanged."""
    early_kept: int = 0
    early_overflow: int = 0
    """Early segments not kept, because a limit was reached: lost to the secondary."""
    early_dropped: int = 0
    """Kept segments lost with their connection: refused by the guest, evicted or expired."""
    evicted: int = 0
    """Connections forgotten because the table was full."""
    expired: int = 0
    """Connections forgotten because they were silent."""
    malformed: int = 0
    """Packets that are not what their headers say."""
    malformed_options: int = 0
    """Segments whose option list breaks off: translated up to there."""
    split_headers: int = 0
    """First fragments in which the TCP header is not whole: dropped (RFC 3128)."""
    clamped_acknowledgments: int = 0
    """Client segments whose acknowledgement was lowered to what the secondary has sent."""
    repeated_acknowledgments: int = 0
    """Acknowledgements given to the secondary in the client's name, because it had missed them."""
    translated_sack: int = 0
    """Segments with SACK blocks that were moved."""
    neighbours_answered: int = 0
    """Questions of the guest for a neighbour's hardware address, answered in its name."""
    neighbours_unknown: int = 0
    """The same for a neighbour that was not heard: not answered."""
    neighbours_evicted: int = 0
    """Neighbours forgotten because the table was full."""
    neighbours_expired: int = 0
    """Neighbours forgotten because they were silent."""
    addresses_evicted: int = 0
    """Addresses of the guest forgotten because the table was full."""
    addresses_expired: int = 0
    """Addresses of the guest forgotten because it sent nothing from them."""
    inherited: int = 0
    """Connections whose offsets were taken over from the side that had been live before."""
    inheritance_overflow: int = 0
    """The same, not taken over because there were too many: lost to their clients at a failover."""
    synchronisations: int = 0
    """Checkpoints that set all offsets to zero."""
