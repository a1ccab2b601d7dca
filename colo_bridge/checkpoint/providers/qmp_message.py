"""What QEMU may say by its machine protocol, judged before anybody looks at it; and what of it may reach the log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qemu.qmp import Message

from colo_bridge.errors import PeerError

_SHOWN = 200
"""Characters of what QEMU says that reach the log."""
_INT64 = 1 << 63


class QemuError(PeerError):
    """QEMU, or the connection to it, is at fault: that connection ends, and another one is made."""


class Said(Message):
    """A message that fits.  The library makes text of each, for a log that nobody reads: here it is short."""

    def __str__(self) -> str:
        return f"a message with {', '.join(sorted(self))}"[:_SHOWN]


@dataclass(frozen=True, slots=True)
class Event:
    """What the guest or its COLO has done; `at`: when, in seconds of the host's clock."""

    name: str
    at: float
    reason: str


def parse(line: bytes) -> Said:
    """Raises QemuError if QEMU may not say that."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not _fits(message):
        raise QemuError(f"QEMU said what is no message of its protocol: {line[:_SHOWN]!r}")
    return Said(message, eager=False)


def event_of(message: Mapping[str, Any]) -> Event:
    """Of a message that fits."""
    timestamp, data = message["timestamp"], message.get("data")
    reason = data.get("reason") if isinstance(data, Mapping) else None
    at = timestamp["seconds"] + timestamp["microseconds"] / 1e6
    return Event(message["event"], at, in_one_line(reason) if isinstance(reason, str) else "")


def refusal_of(message: Mapping[str, Any]) -> str | None:
    """Of a message that fits: why QEMU will not do what it was asked for, if it says so."""
    return in_one_line(message["error"]["desc"]) if "error" in message else None


def in_one_line(text: str) -> str:
    """For the log: short, and without anything that moves a cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_SHOWN])


def _fits(message: object) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("id", ""), str):
        return False
    if "event" in message:
        return isinstance(message["event"], str) and _is_moment(message.get("timestamp"))
    if "error" in message:
        return _is_error(message["error"])
    return "return" in message or ("QMP" in message and "id" not in message)


def _is_moment(timestamp: object) -> bool:
    if not isinstance(timestamp, dict):
        return False
    parts = timestamp.get("seconds"), timestamp.get("microseconds")
    return all(isinstance(part, int) and -_INT64 <= part < _INT64 for part in parts)


def _is_error(error: object) -> bool:
    return isinstance(error, dict) and all(isinstance(error.get(name), str) for name in ("class", "desc"))
