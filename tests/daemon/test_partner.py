"""With whom the arbiter is shared, and that what was won is kept where a third host joins."""

from __future__ import annotations

from pathlib import Path

import pytest

from colo_bridge.daemon.partner import Partner
from tests.daemon import hosts as rig
from tests.daemon.hosts import play, settle
from tests.daemon.test_failback import failed_over

quickly = rig.quickly


def test_the_first_one_is_the_partner_and_stays_it(tmp_path: Path) -> None:
    partner = Partner(str(tmp_path / "run"), "web")
    assert partner.name == ""
    assert partner.is_the_same("host-b")
    assert not partner.is_the_same("host-c")
    again = Partner(str(tmp_path / "run"), "web")
    assert (again.name, again.is_the_same("host-c")) == ("host-b", False)
    again.exchange("host-c")
    assert Partner(str(tmp_path / "run"), "web").is_the_same("host-c")


def test_what_cannot_be_kept_is_told_and_holds_for_this_life(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").write_text("no directory")
    partner = Partner(str(tmp_path / "run"), "web")
    assert partner.is_the_same("host-b")
    assert not partner.is_the_same("host-c")
    assert "cannot write" in caplog.text


@pytest.mark.usefixtures("quickly")
def test_what_a_survivor_has_won_is_kept_from_the_host_that_another_one_replaces(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That one may run on, cut off, and would win it."""
    said = tmp_path / "said"
    words = f'command = ["/bin/sh", "-c", "echo $COLO_IDENTITY $COLO_ACTION >> {said}"]'
    arbiter = f"[arbiter]\n{words}\n{words.replace('command', 'give_back')}"

    def of_b() -> list[str]:
        lines = said.read_text(encoding="ascii").splitlines() if said.exists() else []
        return [line.removeprefix("host-b ") for line in lines if line.startswith("host-b ")]

    async def scenario() -> None:
        async with failed_over(tmp_path, sections=arbiter) as hosts:
            await hosts.b.until(lambda: "failover" in of_b())
            before = len(of_b())
            await hosts.protect()
            await settle()
            assert of_b()[before:] == []
            assert "host-a may still want it, and host-c cannot go live without --fenced" in caplog.text
            await hosts.b.ask("protect", fenced=True)
            await hosts.b.until(lambda: of_b()[before:] == ["give-back"])

    play(scenario)
