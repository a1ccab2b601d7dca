"""Whoever may not speak to whom: one clear line on both sides, however often it is tried, and what to do about it."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop

from colo_bridge.link import address, end, pki
from colo_bridge.link.connection import dial
from colo_bridge.link.protocol.messages import Goodbye, Role, Version, encode
from colo_bridge.link.tls import CLIENT, SERVER, Credentials
from tests.link.ends import Ends, Owner, linked, other, running, until
from tests.link.sides import PRIMARY, SECONDARY

HOSTS = [["host-a", "127.0.0.1", "::1"], ["host-b"]]
AUTHORITY = r"\(ca-cert.pem has to be the same on both hosts\)"
VALIDITY = r"\(`colo-bridge pki init` makes new certificates; or is a clock wrong\?\)"
PURPOSE = r"\(server-cert.pem is for the side that listens, client-cert.pem for the one that dials\)"
ON_BOTH = r"\(configure (TLS|it) on both hosts or on neither\)"
NAME = r"\(is this the right host\? then its name belongs into `accept`\)"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two authorities that do not know each other, and certificates of the past and of the future."""
    directory = tmp_path_factory.mktemp("tls")
    now = datetime.now(UTC)
    for name, since in (("ours", 0), ("theirs", 0), ("old", -40), ("early", 40)):
        pki.init(directory / name, HOSTS, now + timedelta(days=since), 30)
    return directory


def server(directory, *accepted):
    return Credentials(directory / "host-a", SERVER, accepted or ["host-b"])


def client(directory, *accepted):
    return Credentials(directory / "host-b", CLIENT, accepted or ["host-a"])


def lines(caplog) -> tuple[list[str], list[str]]:
    """Of the side that listens, and of the one that dials."""
    loud = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    return [line for line in loud if " at 127" in line], [line for line in loud if " to 127" in line]


def refused(caplog, here: str, there: str, **options: Any) -> None:
    """What each side says, in one line after several tries; a line ends with what to do."""

    async def main():
        async with running(**options) as ends:
            await refused_by(ends, caplog, here, there)

    uvloop.run(asyncio.wait_for(main(), 60))


async def refused_by(ends: Ends, caplog, here: str, there: str) -> None:
    await until(lambda: ends.client.counters.refused > 2 and ends.server.counters.refused > 2)
    told = lines(caplog)
    assert [len(each) for each in told] == [1, 1], told
    assert re.fullmatch(rf"the link at {ends.server.address}, asked by 127\.0\.0\.1: {here}", told[0][0]), told[0]
    assert re.fullmatch(rf"the link to {ends.server.address}: {there}", told[1][0]), told[1]
    assert (ends.primary.peer, ends.secondary.peer) == (None, None)


def said(sentence: str) -> str:
    return f"the other side says: {sentence}"


# What is said in greeting.


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param(
            {"version": Version(3, 0)},
            r"a greeting in version 3\.0 of the link's protocol came to a side that speaks 2\.0 "
            r"\(install the same version of colo-bridge on both hosts\)",
            id="version",
        ),
        pytest.param(
            {"configuration": "d2"},
            r"the configurations differ: the primary's digest is d1, the secondary's d2 "
            r"\(compare what `colo-bridge check` prints on both hosts\)",
            id="digest",
        ),
        pytest.param(
            {"guest": "db"},
            r"the primary is for guest web, the secondary for db \(does the link lead to the right port\?\)",
            id="guest",
        ),
        pytest.param(
            {"role": Role.PRIMARY},
            r"both sides of the link are the primary \(set `role` on one of the hosts\)",
            id="role",
        ),
        pytest.param(
            {"identity": "host-a"},
            r"both sides of the link have the identity host-a \(set `link\.identity` on one of the hosts\)",
            id="identity",
        ),
    ],
)
def test_who_does_not_fit(changes, sentence, with_tls, made, caplog):
    secure = {"server": server(made / "ours"), "client": client(made / "ours")} if with_tls else {}
    refused(caplog, sentence, said(sentence), secondary=other(SECONDARY, **changes), **secure)


def test_another_secondary(caplog):
    sentence = r"another secondary, host-b, is connected \(a guest has one secondary at a time\)"

    async def main():
        async with linked() as ends:
            caplog.clear()
            second = ends.dialling(owner=Owner(other(SECONDARY, identity="host-c")))
            second.start()
            await until(lambda: second.counters.refused > 2)
            told = lines(caplog)
            assert [len(each) for each in told] == [1, 1], told
            assert re.search(sentence, told[0][0])
            assert re.search(said(sentence), told[1][0])
            assert ends.up()
            await second.close()

    uvloop.run(asyncio.wait_for(main(), 60))


# Certificates.

Sides = Callable[[Any], tuple[Credentials | None, Credentials | None]]


@pytest.mark.parametrize(
    ("sides", "here", "there"),
    [
        pytest.param(
            lambda made: (server(made / "theirs"), client(made / "ours")),
            f"the other side does not know the authority of our certificate {AUTHORITY}",
            f"the other side's certificate is not accepted: .* {AUTHORITY}",
            id="authority of the side that listens",
        ),
        pytest.param(
            lambda made: (server(made / "ours"), client(made / "ours", "host-c")),
            said(f"a certificate names host-a, 127.0.0.1, ::1, and accepted is host-c {NAME}"),
            f"a certificate names host-a, 127.0.0.1, ::1, and accepted is host-c {NAME}",
            id="name of the side that listens",
        ),
        pytest.param(
            lambda made: (server(made / "ours", "host-c", "host-d"), client(made / "ours")),
            f"a certificate names host-b, and accepted is host-c or host-d {NAME}",
            said(f"a certificate names host-b, and accepted is host-c or host-d {NAME}"),
            id="name of the side that dials",
        ),
        pytest.param(
            lambda made: (server(made / "old"), client(made / "old")),
            f"the other side says that our certificate has expired {VALIDITY}",
            f"the other side's certificate is not accepted: certificate has expired {VALIDITY}",
            id="expired",
        ),
        pytest.param(
            lambda made: (server(made / "early"), client(made / "early")),
            r"the other side does not accept our certificate \(its log says why\)",
            f"the other side's certificate is not accepted: certificate is not yet valid {VALIDITY}",
            id="not yet valid",
        ),
        pytest.param(
            lambda made: (None, client(made / "ours")),
            r"the other side speaks TLS and this one does not \(configure the same on both hosts\)",
            f"the other side does not speak TLS {ON_BOTH}",
            id="TLS on the side that dials alone",
        ),
        pytest.param(
            lambda made: (server(made / "ours"), None),
            f"the other side does not speak TLS {ON_BOTH}",
            said(f"the side that listens has TLS, and the one that dials has not {ON_BOTH}"),
            id="TLS on the side that listens alone",
        ),
    ],
)
def test_who_is_not_trusted(sides: Sides, here: str, there: str, made, caplog):
    listens, dials = sides(made)
    refused(caplog, here, there, server=listens, client=dials)


def test_the_authority_of_the_side_that_dials(made, tmp_path, caplog):
    shutil.copytree(made / "theirs/host-b", tmp_path / "host-b")
    shutil.copy(made / "ours/ca-cert.pem", tmp_path / "host-b/ca-cert.pem")
    here = f"the other side's certificate is not accepted: .* {AUTHORITY}"
    there = f"the other side does not know the authority of our certificate {AUTHORITY}"
    refused(caplog, here, there, server=server(made / "ours"), client=client(tmp_path))


def test_a_certificate_for_the_other_purpose(made, tmp_path, caplog):
    shutil.copytree(made / "ours/host-b", tmp_path / "host-b")
    for kind in ("cert", "key"):
        shutil.copy(tmp_path / f"host-b/server-{kind}.pem", tmp_path / f"host-b/client-{kind}.pem")
    here = f"the other side's certificate is not accepted: unsuitable certificate purpose {PURPOSE}"
    there = f"the other side says that our certificate is for another purpose {PURPOSE}"
    refused(caplog, here, there, server=server(made / "ours"), client=client(tmp_path))


def test_no_certificate(made, caplog):
    bare = client(made / "ours")
    bare.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.context.check_hostname = False
    bare.context.load_verify_locations(made / "ours/ca-cert.pem")
    here = r"the other side shows no certificate \(is it colo-bridge\?\)"
    there = r"the other side wants a certificate and got none \(`colo-bridge pki init` makes new certificates\)"
    refused(caplog, here, there, server=server(made / "ours"), client=bare)


# How often it is said.


def test_two_reasons_in_turn_are_one_line_each_until_the_link_comes_up(caplog):
    async def main():
        async with running() as ends:
            await until(ends.up)
            for _ in range(2):
                caplog.clear()
                for guest in ("db", "mail") * 3:
                    await greet(ends, guest=guest)
                assert len(lines(caplog)[0]) == 2
                ends.server.disconnect("to dial again")
                await until(ends.up)

    uvloop.run(asyncio.wait_for(main(), 60))


def test_of_ever_new_reasons_no_more_than_32_are_told_and_all_are_counted(caplog):
    async def main():
        async with running() as ends:
            await until(ends.up)
            for number in range(end._MOST_COMPLAINTS + 10):
                await greet(ends, guest=f"guest-{number}")
            told = lines(caplog)[0]
            assert len(told) == end._MOST_COMPLAINTS + 1
            assert told[-1].endswith(
                "there are ever more reasons why it does not come up, from now on they are only counted"
            )
            assert ends.server.counters.refused == end._MOST_COMPLAINTS + 10

    uvloop.run(asyncio.wait_for(main(), 60))


async def greet(ends: Ends, **changes: Any) -> None:
    """Someone who does not fit, once."""
    before = ends.server.counters.refused
    connection = await dial(address.resolve(ends.server.address), None)
    connection.send(encode(other(SECONDARY, **changes)))
    await until(lambda: ends.server.counters.refused > before)
    connection.close()


def test_who_goes_before_it_has_greeted_is_said_to_have(caplog):
    async def main():
        async with running(primary=PRIMARY) as ends:
            await until(ends.up)
            (await dial(address.resolve(ends.server.address), None)).close()
            await until(lambda: lines(caplog)[0])
            assert (
                "the other side closed the connection before it had greeted (its log says why)" in lines(caplog)[0][0]
            )

    uvloop.run(asyncio.wait_for(main(), 60))


def test_who_hangs_up_right_behind_its_greeting_harms_nobody(caplog):
    async def main():
        async with running(primary=PRIMARY) as ends:
            await until(ends.up)
            before = ends.server.counters.refused
            connection = await dial(address.resolve(ends.server.address), None)
            connection.send(encode(other(SECONDARY)) + encode(Goodbye("never mind")))
            await until(lambda: ends.server.counters.refused > before)
            connection.close()
            assert ends.up()
            assert not [record for record in caplog.records if record.name == "asyncio"]

    uvloop.run(asyncio.wait_for(main(), 60))
