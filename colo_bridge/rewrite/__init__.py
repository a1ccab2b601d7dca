"""The secondary's TCP numbers, moved into the primary's and back: pure code, time is an argument."""

from colo_bridge.rewrite.limits import RewriteCounters, RewriteLimits
from colo_bridge.rewrite.rewriter import Rewriter

__all__ = ["RewriteCounters", "RewriteLimits", "Rewriter"]
