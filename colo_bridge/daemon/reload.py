"""What a running daemon takes over from its file when that has changed, and what needs a restart.

1. All or nothing: if one key needs a restart, no other is taken over.
2. Files that the configuration names (certificates) are read anew whether or not a key has changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from colo_bridge.config import Config
from colo_bridge.errors import OperatorError

RELOADABLE = frozenset(("passthrough", "control.uids", "link.accept"))


def changed_keys(running: Config, file: Config) -> list[str]:
    """Names of the keys that differ; raises OperatorError if one of them needs a restart."""
    old, new = running.model_dump(), file.model_dump()
    changed = [name for section in old for name in _differences(section, old[section], new[section])]
    if fixed := [name for name in changed if name not in RELOADABLE]:
        raise OperatorError(f"nothing was taken over: a change of {', '.join(fixed)} needs a restart")
    return changed


def _differences(name: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old:
            yield from _differences(f"{name}.{key}", old[key], new[key])
    elif name == "nic" and isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True), 1):
            yield from _differences(f"nic[{number}]", one, other)
    elif old != new:
        yield name
