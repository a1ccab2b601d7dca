"""Numbers that wrap, and positions that do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.wire.serial import (
    MODULUS,
    Position,
    Serial,
    first_position,
    position_near,
    serial_at,
    serial_difference,
    serial_is_after,
    serial_plus,
    serials_plus,
)

HALF = 1 << 31
serials = st.integers(0, MODULUS - 1).map(Serial)
positions = st.integers(0, 1 << 64).map(Position)


@pytest.mark.parametrize(
    ("number", "near", "position"),
    [
        (5, 3, 5),
        (3, 5, 3),
        (0, MODULUS - 1, MODULUS),
        (MODULUS - 1, MODULUS, MODULUS - 1),
        (5, MODULUS * 7 - 2, MODULUS * 7 + 5),
        (MODULUS - 2, MODULUS * 7 + 5, MODULUS * 7 - 2),
        (HALF - 1, MODULUS, MODULUS + HALF - 1),
        (HALF, MODULUS, MODULUS - HALF),
        (HALF + 1, MODULUS, MODULUS - HALF + 1),
    ],
)
def test_the_nearest_position(number: int, near: int, position: int) -> None:
    assert position_near(Serial(number), Position(near)) == position


@given(serials, positions)
def test_a_position_near_another_has_the_serial_and_lies_within_half_a_turn(number: Serial, near: Position) -> None:
    position = position_near(number, near)
    assert serial_at(position) == number
    assert -HALF <= position - near < HALF


@given(positions, st.integers(-HALF, HALF - 1))
def test_every_octet_within_half_a_turn_is_found_again(near: Position, distance: int) -> None:
    assert position_near(serial_at(Position(near + distance)), near) == near + distance


@given(serials)
def test_a_first_position_has_room_to_look_back(number: Serial) -> None:
    assert serial_at(first_position(number)) == number
    assert first_position(number) >= MODULUS


@given(serials, serials)
def test_a_difference_leads_from_one_serial_to_the_other(number: Serial, other: Serial) -> None:
    assert serial_plus(other, serial_difference(number, other)) == number
    assert serial_plus(number, -serial_difference(number, other)) == other


@given(serials, st.integers(-MODULUS, MODULUS))
def test_a_sum_stays_a_serial(number: Serial, distance: int) -> None:
    assert 0 <= serial_plus(number, distance) < MODULUS


@given(st.lists(serials), st.integers(-MODULUS, MODULUS))
def test_many_sums_are_each_what_one_is(numbers: list[Serial], distance: int) -> None:
    assert serials_plus(numbers, distance) == [serial_plus(number, distance) for number in numbers]


@given(serials, st.integers(1, HALF - 1))
def test_what_follows_within_half_a_turn_is_after(number: Serial, distance: int) -> None:
    following = serial_plus(number, distance)
    assert serial_is_after(following, number)
    assert not serial_is_after(number, following)
    assert not serial_is_after(number, number)
