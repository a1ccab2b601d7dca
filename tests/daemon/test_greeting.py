"""What a daemon says of itself when the link begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from colo_bridge.daemon import link_of
from colo_bridge.daemon.greeting import NEVER, Greeting
from colo_bridge.link.protocol.messages import Role
from tests.daemon.hosts import configurations


@pytest.mark.parametrize(
    ("sections", "link", "patience"),
    [
        ("", "", 7.0),
        ("", 'on_secondary_lost = "closed"', NEVER),
        ('[compare]\nmode = "observe"', "", 0.0),
        ("[queue]\nbypass_when_dead = true", 'on_secondary_lost = "closed"', 0.0),
    ],
    ids=["solo", "closed", "observes", "passes all when it is dead"],
)
def test_a_primary_says_how_long_nothing_leaves_without_its_secondary(
    tmp_path: Path, sections: str, link: str, patience: float
) -> None:
    primary, _, cable = configurations(tmp_path, a=sections, link=f"secondary_timeout = 7.0\n{link}")
    cable.forget()
    hello = Greeting(Role.PRIMARY, primary, link_of.section(primary)).hello()
    assert hello.secondary_timeout == patience
