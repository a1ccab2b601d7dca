"""A secondary that must not join is refused, and both daemons say so in one line each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.link import pki
from colo_bridge.link.protocol.messages import Role, Version
from tests.daemon import hosts as rig
from tests.daemon.hosts import Hosts, joined, named, play, two_hosts

pytestmark = pytest.mark.usefixtures("quickly")
quickly = rig.quickly

NAMES = [["host-a", "127.0.0.1"], ["host-b"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities that do not know each other."""
    directory = tmp_path_factory.mktemp("tls")
    for authority in ("ours", "theirs"):
        pki.init(directory / authority, NAMES, datetime.now(UTC), 30)
    return directory


def tls(directory: Path, *accept: str) -> str:
    names = ", ".join(f'"{name}"' for name in accept)
    return f'tls_directory = "{directory}"\naccept = [{names}]'


def test_with_certificates_of_one_authority_they_are_protected(tmp_path: Path, made: Path) -> None:
    keys = {"link_a": tls(made / "ours/host-a", "host-b"), "link_b": tls(made / "ours/host-b", "host-a")}

    async def scenario() -> None:
        async with joined(tmp_path, **keys) as hosts:
            await hosts.both_send(named("answer"))

    play(scenario)


def lines(caplog: pytest.LogCaptureFixture, place: str) -> list[str]:
    """What a link that listens `at` a place, or leads `to` one, complains of."""
    said = (each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR)
    return [line for line in said if line.startswith(f"the link {place} ")]


async def refused(hosts: Hosts, caplog: pytest.LogCaptureFixture, spoil: Callable[[Any], None]) -> tuple[str, str]:
    """What both say of several tries."""
    await hosts.a.start()
    await hosts.b.start(spoil)
    for host in (hosts.a, hosts.b):
        await host.until(lambda host=host: host.counter("link_refused") > 2)
    assert not hosts.a.status["link"]["up"]
    (at,), (to,) = lines(caplog, "at"), lines(caplog, "to")
    return at, to


def nothing(_: Any) -> None:
    return


def is_a_primary(daemon: Any) -> None:
    daemon._far.greeting = replace(daemon._far.greeting, role=Role.PRIMARY)


def is_of_another_version(daemon: Any) -> None:
    hello = daemon._far.hello
    daemon._far.hello = lambda: replace(hello(), version=Version(3, 0))


def has_our_identity(daemon: Any) -> None:
    hello = daemon._far.hello
    daemon._far.hello = lambda: replace(hello(), identity="host-a")


OTHER = "[compare]\ntimeout = 9.0"


@pytest.mark.parametrize(
    ("options", "spoil", "why"),
    [
        ({"b": OTHER}, nothing, "the configurations differ"),
        ({}, is_a_primary, "both sides of the link are the primary"),
        ({}, is_of_another_version, "version 3.0"),
        ({}, has_our_identity, "both sides of the link have the identity host-a"),
    ],
    ids=["digest", "role", "version", "identity"],
)
def test_who_does_not_fit_is_refused_with_one_line_on_both_sides(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, str],
    spoil: Callable[[Any], None],
    why: str,
) -> None:
    async def scenario() -> None:
        async with two_hosts(tmp_path, **options) as hosts:
            said = await refused(hosts, caplog, spoil)
            assert all(why in line for line in said), said

    play(scenario)


@pytest.mark.parametrize(
    ("authority", "accepted", "why_a", "why_b"),
    [
        ("", "", "TLS", ""),
        ("theirs", "host-a", "certificate", "certificate"),
        ("ours", "host-c", "", "host-c"),
    ],
    ids=["no certificate", "another authority", "another name"],
)
def test_a_wrong_certificate_is_refused_with_one_line_on_both_sides(
    tmp_path: Path,
    made: Path,
    caplog: pytest.LogCaptureFixture,
    authority: str,
    accepted: str,
    why_a: str,
    why_b: str,
) -> None:
    link_a = tls(made / "ours/host-a", "host-b")
    link_b = tls(made / authority / "host-b", accepted) if authority else ""

    async def scenario() -> None:
        async with two_hosts(tmp_path, link_a=link_a, link_b=link_b) as hosts:
            at, to = await refused(hosts, caplog, nothing)
            assert why_a in at
            assert why_b in to

    play(scenario)
