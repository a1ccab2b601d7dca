"""TCP options: where the numbers stand that belong to one replica alone.

Formats: RFC 9293 §3.1 (the list itself), §3.7.1 (MSS), RFC 7323 §2 (window scale), §3.2 (timestamps),
RFC 2018 §2 and §3 (SACK).
A list that breaks off (an option without a length, with a length below two, or longer
than the header) is read up to there, as receivers do, and `malformed` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from colo_bridge.wire.packet import Buffer

_END, _NOP, _SEGMENT_SIZE, _WINDOW_SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8
_LARGEST_SCALE = 14
_TCP_HEADER = 20
_TIMESTAMPS_LENGTH = 10

# The lists that established connections have: two NOPs with timestamps, two NOPs with SACK blocks that fill the rest.
_STAMPED = b"\x01\x01\x08\x0a"
_STAMPED_LENGTH = 12
_SACK_LEADS = {4 + 8 * blocks: bytes((_NOP, _NOP, _SACK, 2 + 8 * blocks)) for blocks in range(1, 5)}


@dataclass(frozen=True, slots=True)
class TimestampsAt:
    """Where the two 32-bit values of a timestamps option begin."""

    value: int
    echo: int


@dataclass(frozen=True, slots=True)
class Options:
    """Indexes into the buffer that was read."""

    timestamps: tuple[TimestampsAt, ...] = ()
    """Every timestamps option of the right length; receivers heed the last."""
    sack_edges: tuple[int, ...] = ()
    """Where each 32-bit edge of each SACK block begins."""
    malformed: bool = False


_NONE = Options()


def read_options(buffer: Buffer, at: int, end: int) -> Options:
    """Read the options in `buffer[at:end]`; never raises."""
    # Fast path: a list that its first bytes and its length tell whole.
    if at == end:
        return _NONE
    sack_at = at + _STAMPED_LENGTH if buffer[at : at + 4] == _STAMPED else at
    if sack_at == end or buffer[sack_at : sack_at + 4] == _SACK_LEADS.get(end - sack_at):
        return _common_layout(at, sack_at, end)
    return _read_slowly(buffer, at, end)


@lru_cache(maxsize=256)
def _common_layout(at: int, sack_at: int, end: int) -> Options:
    timestamps = (TimestampsAt(at + 4, at + 8),) if sack_at > at else ()
    return Options(timestamps, tuple(range(sack_at + 4, end, 4)))


def _read_slowly(buffer: Buffer, at: int, end: int) -> Options:
    timestamps: list[TimestampsAt] = []
    sack_edges: list[int] = []
    while at < end and buffer[at] != _END:
        length = _length(buffer, at, end)
        if not length:
            return Options(tuple(timestamps), tuple(sack_edges), malformed=True)
        if buffer[at] == _TIMESTAMPS and length == _TIMESTAMPS_LENGTH:
            timestamps.append(TimestampsAt(at + 2, at + 6))
        elif buffer[at] == _SACK and length % 8 == 2:
            sack_edges.extend(range(at + 2, at + length, 4))
        at += length
    return Options(tuple(timestamps), tuple(sack_edges))


@dataclass(frozen=True, slots=True)
class SynOptions:
    """What a SYN offers for the whole connection; None or False: nothing."""

    segment_size: int | None = None
    window_scale: int | None = None
    selective_acknowledgments: bool = False
    timestamps: bool = False

    def __str__(self) -> str:
        offers = (
            "" if self.segment_size is None else f"MSS {self.segment_size}",
            "" if self.window_scale is None else f"window scale {self.window_scale}",
            "SACK" if self.selective_acknowledgments else "",
            "timestamps" if self.timestamps else "",
        )
        return ", ".join(offer for offer in offers if offer) or "nothing"


def read_syn_options(buffer: Buffer, at: int, end: int) -> SynOptions:
    """Read the options of a SYN in `buffer[at:end]`, of each kind the last; never raises."""
    segment_size = scale = None
    sack = timestamps = False
    while at < end and buffer[at] != _END and (length := _length(buffer, at, end)):
        kind = buffer[at]
        if kind == _SEGMENT_SIZE and length == 4:
            segment_size = buffer[at + 2] << 8 | buffer[at + 3]
        elif kind == _WINDOW_SCALE and length == 3:
            scale = min(buffer[at + 2], _LARGEST_SCALE)
        sack = sack or (kind == _SACK_PERMITTED and length == 2)
        timestamps = timestamps or (kind == _TIMESTAMPS and length == _TIMESTAMPS_LENGTH)
        at += length
    return SynOptions(segment_size, scale, sack, timestamps)


def window_scale(buffer: Buffer, at: int, end: int) -> int:
    """The shift count among the options of a SYN in `buffer[at:end]`; 0 without one."""
    return read_syn_options(buffer, at, end).window_scale or 0


def may_have_blocks(buffer: Buffer, tcp: int, end: int) -> bool:
    """Whether there may be SACK blocks in the TCP header in `buffer[tcp:end]`."""
    length = end - tcp - _TCP_HEADER
    return length > _STAMPED_LENGTH or (length == _STAMPED_LENGTH and buffer[tcp + _TCP_HEADER + 2] == _SACK)


def _length(buffer: Buffer, at: int, end: int) -> int:
    """Bytes of the option at `at`; 0 where it is not a whole option."""
    if buffer[at] == _NOP:
        return 1
    if at + 1 >= end:
        return 0
    length = buffer[at + 1]
    return length if 2 <= length <= end - at else 0
