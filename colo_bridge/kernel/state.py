"""What was put into the kernel and must be restored, kept where `cleanup` finds it.

One file for each guest: `{"nics": {NIC: {"hooks": {BRIDGE: {FAMILY: was_on}}, "qdiscs": [DEVICE],
"quieted": [DEVICE]}}}`.  Rules and filters are not in it: their tag and pref tell.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from colo_bridge.errors import OperatorError
from colo_bridge.kernel.bridge import Hook
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.private_file import write_anew

_WRITING = threading.Lock()


@dataclass(frozen=True, slots=True)
class NicState:
    """What one NIC's protection changed."""

    hooks: dict[Hook, bool] = field(default_factory=dict)
    """Those that it uses, and whether they were on before any guest used them."""
    qdiscs: tuple[str, ...] = ()
    """Devices that were given a clsact qdisc."""
    quieted: tuple[str, ...] = ()
    """Devices whose IPv6 was switched off."""


class StateFile:
    """The recorded changes of one NIC, in the file of its guest."""

    def __init__(self, path: Path, nic: str) -> None:
        self._path = path
        self._nic = nic

    def read(self) -> NicState | None:
        """None if nothing is recorded: no daemon ran, or it ended cleanly."""
        return _read(self._path).get(self._nic)

    def record_hook(self, hook: Hook, was_on: bool) -> None:
        """Only the first record of a hook counts, it is on afterwards."""
        state = self.read() or NicState()
        self._write(replace(state, hooks=state.hooks | {hook: state.hooks.get(hook, was_on)}))

    def record_qdisc(self, device: str) -> None:
        state = self.read() or NicState()
        self._write(replace(state, qdiscs=tuple(dict.fromkeys((*state.qdiscs, device)))))

    def record_quieted(self, device: str) -> None:
        state = self.read() or NicState()
        self._write(replace(state, quieted=tuple(dict.fromkeys((*state.quieted, device)))))

    def users_before(self, hook: Hook) -> list[bool]:
        """For every other NIC, of whatever guest, that uses this hook: was it on before."""
        return [state.hooks[hook] for state in self._others() if hook in state.hooks]

    def forget(self) -> None:
        """Nothing of this NIC is left in the kernel."""
        self._write(None)

    def _others(self) -> Iterator[NicState]:
        for path in self._path.parent.glob("*.json"):
            for nic, state in _read(path).items():
                if (path, nic) != (self._path, self._nic):
                    yield state

    def _write(self, state: NicState | None) -> None:
        with _WRITING:
            states = _read(self._path)
            states.pop(self._nic, None)
            if state is not None:
                states[self._nic] = state
            try:
                _replace(self._path, states)
            except OSError as error:
                raise OperatorError(f"cannot write {self._path}: {error.strerror}", "check run_dir") from error


def _replace(path: Path, states: dict[str, NicState]) -> None:
    if not states:
        path.unlink(missing_ok=True)
        return
    document = {"nics": {nic: _document(state) for nic, state in states.items()}}
    write_anew(path, json.dumps(document), directory_mode=0o755)


def _document(state: NicState) -> dict[str, Any]:
    hooks: dict[str, dict[str, bool]] = {}
    for hook, was_on in state.hooks.items():
        hooks.setdefault(hook.bridge, {})[hook.family] = was_on
    return {"hooks": hooks, "qdiscs": state.qdiscs, "quieted": state.quieted}


def _read(path: Path) -> dict[str, NicState]:
    """An unreadable file records nothing: what it said cannot be restored, what is tagged can be removed."""
    try:
        nics = json.loads(path.read_text(encoding="utf-8"))["nics"]
        return {str(nic): _state(document) for nic, document in nics.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _state(document: dict[str, Any]) -> NicState:
    hooks = {
        Hook(str(bridge), Family(family)): bool(was_on)
        for bridge, families in document["hooks"].items()
        for family, was_on in families.items()
    }
    return NicState(hooks, tuple(map(str, document["qdiscs"])), tuple(map(str, document["quieted"])))
