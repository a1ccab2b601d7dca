"""Virtual machines are tried out here only; where there can be none, the tests say why and are skipped."""

from __future__ import annotations

import pytest

from colo_bridge.errors import OperatorError
from colo_bridge.lab.guests import accelerator, parts


@pytest.fixture(scope="session", autouse=True)
def _virtual_machines() -> None:
    try:
        found = accelerator.choose(parts.get())
    except OperatorError as error:
        pytest.skip(str(error))
    print(f"\nthe guests run on {found.value}")
