"""Who carries a checkpoint out.  These modules do I/O; the coordinator above them does none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Provider(Protocol):
    """Something that can make the secondary equal to the primary, or at least says so."""

    @property
    def synchronises_state(self) -> bool:
        """Whether the secondary *is* the primary afterwards, sequence numbers included."""

    async def checkpoint(self, reason: str, detail: Mapping[str, str]) -> bool:
        """Carry out one checkpoint; True if it is done.  Cancelling it stops it at once."""
