"""No test of the lab touches a lab of somebody else's."""

from __future__ import annotations

import pytest

from tests.lab.helpers import nothing_is_left


@pytest.fixture(scope="module", autouse=True)
def _only_lab() -> None:
    assert nothing_is_left(), "a lab is up already: colo-bridge lab down"
