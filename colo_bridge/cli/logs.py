"""Log lines on standard error: with times on a terminal, with priorities under systemd."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

# Priorities of sd-daemon(3), which the journal takes from the beginning of a line.
PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


class JournalFormatter(logging.Formatter):
    """Every line of a message, tracebacks included, with its priority in front."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def set_up(verbose: bool, environment: Mapping[str, str] = os.environ) -> None:
    """Send the program's log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter("JOURNAL_STREAM" in environment))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)


def _formatter(journal: bool) -> logging.Formatter:
    if journal:
        return JournalFormatter("%(name)s: %(message)s")
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
