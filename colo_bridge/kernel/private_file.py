"""Small files that only root reads, always whole: replaced at once, never written in place."""

from __future__ import annotations

import os
from pathlib import Path


def write_anew(path: Path, text: str, directory_mode: int = 0o700) -> None:
    """Make the file what `text` says, its directory too if need be; raises OSError and changes nothing."""
    path.parent.mkdir(mode=directory_mode, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
