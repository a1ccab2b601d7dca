"""What a daemon has to know of itself after a restart: that its guest went live, or that the other side did.

A file in the run directory, one word long: a reboot, which ends the guest as well, forgets it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.kernel.private_file import write_anew

log = logging.getLogger(__name__)

YIELDED = "yielded"
"""Of a primary: the other side has gone live."""
LIVE, SURVIVOR, OVERTAKEN = "live", "survivor", "overtaken"
"""Of a secondary: it has gone live; and has a secondary of its own, which may go live; which has done so."""


class Record:
    def __init__(self, run_dir: str, guest: str) -> None:
        self._path = Path(run_dir) / f"{guest}.role"
        self._word: str | None = None
        self._complaint = ""

    def keep(self, word: str) -> None:
        """Write the word, or forget the last one if it is empty; to be called again and again.

        What cannot be written is logged once, and tried with each call.
        """
        if word == self._word:
            return
        try:
            self.write(word) if word else self.forget()
        except ColoBridgeError as error:
            self._complain(str(error))
            return
        self._word, self._complaint = word, ""

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            log.error("%s: a restarted daemon will not know which side may be live", complaint)

    def read(self) -> str:
        """The word; empty if there is none."""
        try:
            return self._path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise OperatorError(f"cannot read {self._path}: {error}") from error

    def write(self, word: str) -> None:
        """Raises OperatorError: whoever cannot remember must not do it."""
        try:
            write_anew(self._path, f"{word}\n")
        except OSError as error:
            raise OperatorError(f"cannot write {self._path}: {error.strerror}", "check run_dir") from error

    def forget(self) -> None:
        """Raises OperatorError if it cannot."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise OperatorError(f"cannot remove {self._path}: {error.strerror}", "check run_dir") from error
