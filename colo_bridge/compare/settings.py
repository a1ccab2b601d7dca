"""What the comparator is told: policies and limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Times are seconds, sizes are bytes of IP packets."""

    timeout: float = 3.0
    pass_unsynchronised: bool = False
    """Release (and count) what belongs to a TCP connection whose opening was not seen."""
    pass_uncompared: bool = False
    """Release frames of the primary that are not compared (more than two VLAN tags) instead of dropping them."""
    cure_after: float | None = None
    """Seconds after which what two healthy stacks might wait for is cured; None: no packet is ever changed."""
    forward: bool = False
    """There is a way out for packets of our own: the cures may send some."""
    held_packets: int = 8_192
    held_bytes: int = 256 << 20
    secondary_packets: int = 16_384
    secondary_bytes: int = 256 << 20
    incomplete_packets: int = 256
    """Packets of either side of which some fragments have come; further ones are refused."""
    fragments: int = 256
    """Fragments of one packet, repeats among them; a packet in more pieces is refused."""
    reassembly: float = 30.0
    """Time after which fragments of the secondary are thrown away, unless the timeout is shorter."""
    connections: int = 65_536
    established_idle: float = 432_000.0
    closing_idle: float = 120.0
