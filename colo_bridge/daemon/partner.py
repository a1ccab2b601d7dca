"""The host between which and this one the arbiter decides, and what becomes of that where a third one joins.

What a side has won is given back once the two are compared again: then neither lacks what clients have got.  A third
host in the place of the other changes nothing for that one: it may run on, cut off and with a guest that lags behind,
and would win what is given back.  So it is kept until an operator says that the former partner is off for good.

A file in the run directory: a reboot, which ends the guest as well, forgets it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from colo_bridge.kernel.private_file import write_anew

log = logging.getLogger(__name__)


class Partner:
    def __init__(self, run_dir: str, guest: str) -> None:
        self._path = Path(run_dir) / f"{guest}.partner"
        self._name: str | None = None

    @property
    def name(self) -> str:
        """Its identity; empty if there has been none."""
        if self._name is None:
            self._name = self._read()
        return self._name

    def is_the_same(self, identity: str) -> bool:
        """Whether the other side is the partner; the first one becomes it."""
        if not self.name:
            self.exchange(identity)
        return self.name == identity

    def exchange(self, identity: str) -> None:
        if identity == self.name:
            return
        self._name = identity
        try:
            write_anew(self._path, f"{identity}\n")
        except OSError as error:
            log.error("cannot write %s: %s; a restart forgets with whom the arbiter is shared", self._path, error)

    def _read(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            log.error("cannot read %s: %s; the next host that comes is taken for the partner", self._path, error)
            return ""
