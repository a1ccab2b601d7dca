"""The messages beside the packets: JSON objects in frames that have no virtio-net header.

    length          4 bytes, big-endian: of the JSON text
    header length   4 bytes, big-endian: 0; a packet's is that of its virtio-net header, so the two are told apart
    text            {"type": …, and the fields of the message}

1. JSON, because there are few messages a second: they can be read in a capture, and a newer version can add to them.
2. What a newer minor version adds does no harm: unknown fields are ignored, an unknown type is an `Unknown`.
3. Whatever else does not fit is a PeerError. Texts are printable and bounded: they end up in logs.

Of a greeting with another major version nothing but its version is looked at. So these must stay for ever: the frame,
`type` and `version` of a hello, `type` and `reason` of a goodbye.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from colo_bridge.errors import InternalError, OperatorError, PeerError

LARGEST_MESSAGE = 16_384
"""Bytes of one message."""
LONGEST_NAME = 128
LONGEST_REASON = 500
MOST_STATISTICS = 256
MOST_MOVED = 128
"""Connections in one message."""

_SHORTEST_CONNECTION, _LONGEST_CONNECTION = 12, 44
"""Bytes of a connection's name: two addresses and ports, at most two tags; see `wire.flow`."""
_LENGTHS = struct.Struct("!II")


class Role(enum.StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"


@dataclass(frozen=True, slots=True)
class Version:
    """Another minor version is spoken with, another major version is not."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


VERSION = Version(2, 0)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message in each direction of a stream."""

    version: Version
    role: Role
    identity: str
    """Name of the sender's host: who comes back is told from who is new."""
    instance: str
    """Chosen at random when the sender's daemon started: whose connection broke is told from who forgot everything."""
    guest: str
    configuration: str
    """Digest of what both sides must have configured alike."""
    stream: str
    """`control`, or the name of a NIC."""
    session: str
    """Chosen by the side that listens when the control stream begins; the other streams name it."""
    epoch: int
    """Of the packets that the sender sends next."""
    secondary_timeout: float
    """Seconds for which the primary holds packets once the secondary is lost; 0 from the secondary."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender closes the stream, or refuses it, and says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The sender is alive."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """What comes behind this on the same stream belongs to `epoch`.

    The one of the same epoch that comes back from the other side is the acknowledgment.
    """

    epoch: int


@dataclass(frozen=True, slots=True)
class CheckpointRequest:
    """The secondary needs a checkpoint: it cannot tell any more of which epoch its packets are."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failover:
    """The sender goes on alone."""

    reason: str


@dataclass(frozen=True, slots=True)
class Presence:
    """The secondary is there, and is not the service: the first word that it says, and then several times a second."""

    moment: int
    """By the secondary's clock, in milliseconds."""
    alone_heard: int
    """What it has heard last of `Standing.alone`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the primary stands, several times a second: by that the secondary judges whether it may take its place."""

    synchronised: bool
    """Whether the secondary has all that has left."""
    alone: int
    """A number while everything leaves uncompared, or is about to; 0 while it does not."""
    has_guest: bool
    heard: int
    """The newest `Presence.moment` that came while both were compared, or there was no guest; 0: none."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The secondary's counters, for people."""

    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Moved:
    """Connections of a live guest whose clients know other numbers than it has; see `rewrite.inheritance`."""

    nic: str
    anew: bool
    """What was said of this NIC before does not hold any more."""
    connections: tuple[tuple[str, int, int], ...]
    """Name in hexadecimal digits, offset of the sequence numbers, offset of the timestamps."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type that this version does not have."""

    kind: str


Message = (
    Hello | Goodbye | Heartbeat | Barrier | CheckpointRequest | Failover | Presence | Standing | Statistics | Moved
)

Check = Callable[[object], Any]
"""The value of a field as it is kept; raises ValueError."""


def _text(longest: int) -> Check:
    def check(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable() or len(value) > longest:
            raise ValueError
        return value

    return check


def _name(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > LONGEST_NAME:
        raise ValueError
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise ValueError
    return float(value)


def _role(value: object) -> Role:
    return Role(_name(value))


def _version(value: object) -> Version:
    if not isinstance(value, dict):
        raise ValueError
    return Version(_count(value.get("major")), _count(value.get("minor")))


def _counters(value: object) -> Mapping[str, int]:
    if not isinstance(value, dict) or len(value) > MOST_STATISTICS:
        raise ValueError
    return {_name(name): _count(count) for name, count in value.items()}


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _offset(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 32) < value < 1 << 32:
        raise ValueError
    return value


def _moved(value: object) -> tuple[tuple[str, int, int], ...]:
    if not isinstance(value, list) or len(value) > MOST_MOVED:
        raise ValueError
    return tuple(_moved_connection(each) for each in value)


def _moved_connection(value: object) -> tuple[str, int, int]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError
    name, sequence, timestamp = value
    # The library takes spaces between the digits.
    length = len(bytes.fromhex(_name(name)))
    if not _SHORTEST_CONNECTION <= length <= _LONGEST_CONNECTION or length % 4 or len(name) != 2 * length:
        raise ValueError
    return name, _offset(sequence), _offset(timestamp)


_FORMS: dict[str, tuple[Callable[..., Message], dict[str, Check]]] = {
    "hello": (
        Hello,
        {
            "version": _version,
            "role": _role,
            "identity": _name,
            "instance": _name,
            "guest": _name,
            "configuration": _name,
            "stream": _name,
            "session": _text(LONGEST_NAME),
            "epoch": _count,
            "secondary_timeout": _seconds,
        },
    ),
    "goodbye": (Goodbye, {"reason": _text(LONGEST_REASON)}),
    "heartbeat": (Heartbeat, {}),
    "barrier": (Barrier, {"epoch": _count}),
    "checkpoint request": (CheckpointRequest, {"reason": _text(LONGEST_REASON)}),
    "failover": (Failover, {"reason": _text(LONGEST_REASON)}),
    "presence": (Presence, {"moment": _count, "alone_heard": _count}),
    "standing": (Standing, {"synchronised": _flag, "alone": _count, "has_guest": _flag, "heard": _count}),
    "statistics": (Statistics, {"counters": _counters}),
    "moved": (Moved, {"nic": _name, "anew": _flag, "connections": _moved}),
}
_TYPES: dict[object, str] = {form: name for name, (form, _) in _FORMS.items()}


def encode(message: Message) -> bytes:
    """With its frame, a reason as it may be sent; raises InternalError if it is too long."""
    fields = {"type": _TYPES[type(message)], **asdict(message)}
    if "reason" in fields:
        fields["reason"] = printable(fields["reason"])
    text = json.dumps(fields).encode()
    if len(text) > LARGEST_MESSAGE:
        raise InternalError(f"a message of {len(text)} bytes is too long for the link")
    return _LENGTHS.pack(len(text), 0) + text


def printable(reason: str) -> str:
    """As a reason may be sent."""
    return "".join(letter if letter.isprintable() else " " for letter in reason)[:LONGEST_REASON]


def decode(text: bytes | bytearray | memoryview) -> Message | Unknown:
    """A message without its frame; raises PeerError, and OperatorError for a hello of another major version."""
    if len(text) > LARGEST_MESSAGE:
        raise PeerError(f"a message of {len(text)} bytes came, and {LARGEST_MESSAGE} are allowed")
    try:
        fields = json.loads(str(text, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise PeerError("a message came that is no JSON") from error
    if not isinstance(fields, dict):
        raise PeerError("a message came that is no JSON object")
    return _message(fields)


def _message(fields: Mapping[str, object]) -> Message | Unknown:
    try:
        kind = _name(fields.get("type"))
    except ValueError:
        raise PeerError("a message came without a type") from None
    if kind not in _FORMS:
        return Unknown(kind)
    form, checks = _FORMS[kind]
    values: dict[str, Any] = {}
    for name, check in checks.items():
        try:
            values[name] = check(fields.get(name))
        except ValueError:
            raise PeerError(f"a message of type {kind} came with a wrong {name}") from None
        if isinstance(values[name], Version) and values[name].major != VERSION.major:
            raise OperatorError(
                f"a greeting in version {values[name]} of the link's protocol came to a side that speaks {VERSION}",
                "install the same version of colo-bridge on both hosts",
            )
    return form(**values)
