"""The offsets of a guest that is live, for its daemon when that is started again.

A file in the run directory: a reboot, which ends the guest as well, forgets it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from colo_bridge.kernel.private_file import write_anew
from colo_bridge.rewrite.inheritance import Offsets

log = logging.getLogger(__name__)


class KeptOffsets:
    def __init__(self, run_dir: str, guest: str) -> None:
        self._path = Path(run_dir) / f"{guest}.offsets"
        self._kept: Mapping[str, Sequence[Offsets]] = {}
        self._is_broken = False

    def keep(self, offsets: Mapping[str, Sequence[Offsets]]) -> None:
        """By NIC; written only if they have changed. What cannot be written is logged once."""
        if offsets == self._kept:
            return
        self._kept = offsets
        document = {
            nic: [(each.connection.hex(), each.sequence, each.timestamp) for each in found]
            for nic, found in offsets.items()
        }
        try:
            write_anew(self._path, json.dumps(document))
            self._is_broken = False
        except OSError as error:
            if not self._is_broken:
                log.error("cannot write %s: %s; a restart will break old connections", self._path, error.strerror)
            self._is_broken = True

    def read(self) -> dict[str, list[Offsets]]:
        """What cannot be read is logged: the connections are lost, and nothing else is."""
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                str(nic): [Offsets(bytes.fromhex(name), int(sequence), int(stamp)) for name, sequence, stamp in found]
                for nic, found in document.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.error("cannot use %s: %s; connections from before the failover are lost", self._path, error)
            return {}

    def forget(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.error("cannot remove %s: %s", self._path, error.strerror)
