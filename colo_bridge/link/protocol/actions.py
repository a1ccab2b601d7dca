"""What a conversation asks its owner to do, how it ends, and how long it waits."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from colo_bridge.errors import ColoBridgeError
from colo_bridge.link.protocol.messages import Hello, Message
from colo_bridge.wire.framing import Frame


class Ending(enum.Enum):
    REFUSED = "refused"
    """By either side, because of what was said in greeting: the next try will not end otherwise."""
    LOST = "lost"
    """Nothing was heard for too long."""
    VIOLATION = "violation"
    """What came is not the protocol."""
    ENDED = "ended"
    """By either side, in order or not."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: between heartbeats, without hearing anything, for the greeting, and for a stream that stands still.

    It stands still while this side has paused it, and while the other side takes nothing of what waits for it.
    """

    interval: float = 0.25
    timeout: float = 2.0
    greeting: float = 5.0
    patience: float = 40.0


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class Packets:
    """Indexes into the conversation's buffer, good until its next `room`; the virtio-net header is in front."""

    frames: list[Frame]


@dataclass(frozen=True, slots=True)
class Greeted:
    """Now `accept` or `refuse`."""

    peer: Hello


@dataclass(frozen=True, slots=True)
class Established:
    peer: Hello


@dataclass(frozen=True, slots=True)
class Arrived:
    message: Message


@dataclass(frozen=True, slots=True)
class Closed:
    """The last action of all."""

    ending: Ending
    error: ColoBridgeError


Action = Send | Packets | Greeted | Established | Arrived | Closed
