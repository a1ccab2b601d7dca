"""What becomes of the primary's packets."""

from __future__ import annotations

import enum


class Traffic(enum.Enum):
    COMPARE = "compare"
    """They are held until the secondary has sent the same."""
    PASS = "pass"
    """They leave at once, and are counted."""
    BLOCK = "block"
    """None leaves: they are dropped, and counted."""
