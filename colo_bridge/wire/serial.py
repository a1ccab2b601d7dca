"""TCP's 32-bit numbers, and the positions they stand for.

Two types that never mix:

- `Serial`: a number as it stands in a header.  It wraps at 2^32 and has no order.
- `Position`: the same octet in an endless stream.  It never wraps, so ordinary
  comparison and subtraction are right by construction.

A serial becomes a position next to a known one (RFC 9293 §3.4: valid numbers lie
within half the number space of each other); a position becomes a serial by losing
its upper bits; two serials have an order only where they are known to be near each
other.  No other arithmetic on serials exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NewType

Serial = NewType("Serial", int)
Position = NewType("Position", int)

MODULUS = 1 << 32
_MASK = MODULUS - 1
_HALF = 1 << 31


def position_near(number: Serial, near: Position) -> Position:
    """The position with this serial that lies within 2^31 of `near`."""
    return Position(near + (((number - near + _HALF) & _MASK) - _HALF))


def first_position(number: Serial) -> Position:
    """A position for the first serial of a stream, with room to look back.

    One turn above the serial itself, so that what lies before it is positive too.
    """
    return Position(number + MODULUS)


def serial_at(position: Position) -> Serial:
    return Serial(position & _MASK)


def later(one: Serial, other: Serial) -> Serial:
    return other if serial_is_after(other, one) else one


def serial_plus(number: Serial, distance: int) -> Serial:
    """The serial `distance` octets further (or back, when negative)."""
    # Serial(…) would be a call for every number of every packet.
    moved: Any = (number + distance) & _MASK
    serial: Serial = moved
    return serial


def serials_plus(numbers: Iterable[Serial], distance: int) -> list[Serial]:
    """`serial_plus` of each."""
    moved: list[Any] = [(number + distance) & _MASK for number in numbers]
    return moved


def serial_difference(number: Serial, other: Serial) -> int:
    """`number` minus `other`, modulo 2^32: an offset to add with `serial_plus`."""
    return (number - other) & _MASK


def serial_is_after(number: Serial, other: Serial) -> bool:
    """Whether `number` comes after `other`, which lies within 2^31 of it."""
    return 0 < (number - other) & _MASK < _HALF
