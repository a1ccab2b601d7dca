"""What becomes of a divergence: it is counted, kept as evidence, logged, and a checkpoint is asked for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.config import Config
from colo_bridge.daemon import journal
from colo_bridge.daemon.evidence import Evidence
from colo_bridge.daemon.rate import RateLimit

log = logging.getLogger(__name__)

_OBSERVED_LINES, _OBSERVED_SECONDS = 20, 60.0
"""Divergences that are logged in observe mode, in so many seconds."""


class Divergences:
    """Hears of those of all NICs of a guest."""

    def __init__(self, config: Config, request: Callable[[str, Mapping[str, str]], None]) -> None:
        """`request` asks for a checkpoint, with its reason and detail."""
        self._observes = config.compare.mode == "observe"
        self._observed_lines = RateLimit(_OBSERVED_LINES, _OBSERVED_SECONDS)
        self._request = request
        self._counts = dict.fromkeys((reason.value for reason in Reason), 0)
        self._last: Divergence | None = None
        self._evidence = Evidence(config.evidence, config.guest)

    def start(self) -> None:
        self._evidence.start()

    def close(self) -> None:
        self._evidence.close()

    def diverged(self, divergence: Divergence) -> None:
        """A data path has found a difference."""
        self._counts[divergence.reason.value] += 1
        self._last = divergence
        self._evidence.keep(divergence)
        if self._observes:
            self._report_observed(divergence)
            return
        log.warning("%s", journal.sentence(divergence))
        self._request(divergence.reason.value, {"connection": str(journal.fields(divergence)["connection"])})

    def status(self) -> dict[str, object]:
        return {"divergences": self._counts, "last_divergence": journal.fields(self._last) if self._last else None}

    def counters(self) -> dict[str, int]:
        return asdict(self._evidence.counters)

    def _report_observed(self, divergence: Divergence) -> None:
        """Nothing waits, so nothing is asked for; a replica that is far from equal must not fill the log."""
        if self._observed_lines.allows(time.monotonic()):
            refused = self._observed_lines.take_refused()
            more = f" ({refused} more were not logged)" if refused else ""
            log.warning("%s%s", journal.sentence(divergence), more)
