"""TLS on real sockets: who may speak to whom, and what both sides say if they may not."""

import asyncio
import logging
import shutil
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import uvloop
from cryptography.hazmat.primitives import serialization

from colo_bridge.errors import OperatorError, PeerError
from colo_bridge.link import address, pki
from colo_bridge.link.certificates import names_of
from colo_bridge.link.connection import dial
from colo_bridge.link.protocol.actions import Timing
from colo_bridge.link.session import LinkSettings
from colo_bridge.link.tls import CLIENT, SERVER, Credentials
from tests.link.ends import linked, packet, running, until

HOSTS = [["host-a", "127.0.0.1", "::1"], ["host-b"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two authorities that do not know each other."""
    directory = tmp_path_factory.mktemp("tls")
    now = datetime.now(UTC)
    pki.init(directory / "ours", HOSTS, now, 30)
    pki.init(directory / "theirs", HOSTS, now, 30)
    return directory


@pytest.fixture
def host_a(made, tmp_path):
    """A copy that may be spoilt."""
    shutil.copytree(made / "ours/host-a", tmp_path / "host-a")
    return tmp_path / "host-a"


def server(directory, *accepted):
    return Credentials(directory / "host-a", SERVER, accepted or ["host-b"])


def client(directory, *accepted):
    return Credentials(directory / "host-b", CLIENT, accepted or ["host-a"])


def refusals(caplog) -> tuple[list[str], list[str]]:
    """Lines of the side that listens, and of the one that dials."""
    lines = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    return [line for line in lines if " at 127" in line], [line for line in lines if " to 127" in line]


def refused(caplog, listens, dials) -> tuple[str, str]:
    """What both sides say, one line each, after several tries."""

    async def main():
        async with running(server=listens, client=dials) as ends:
            await until(lambda: ends.client.counters.refused > 2 and ends.server.counters.refused > 2)
            assert (ends.primary.peer, ends.secondary.peer) == (None, None)
            return refusals(caplog)

    here, there = uvloop.run(asyncio.wait_for(main(), 60))
    assert (len(here), len(there)) == (1, 1), (here, there)
    return here[0], there[0]


def test_both_know_each_other_and_packets_travel(made):
    contents = [bytes([n]) * (1 + 997 * n % 65_000) for n in range(200)]

    async def main():
        async with linked(server=server(made / "ours"), client=client(made / "ours")) as ends:
            for link, nic in ((ends.client, "net0"), (ends.server, "net1")):
                for each in contents:
                    assert link.put(nic, packet(each))
                link.flush(nic)
                link.barrier(1)
            await until(lambda: len(ends.primary.told) == 204 and len(ends.secondary.told) == 204)
            for owner, nic in ((ends.primary, "net0"), (ends.secondary, "net1")):
                assert [each for each in owner.told if isinstance(each, tuple) and each[0] == nic] == [
                    *((nic, each) for each in contents),
                    (nic, 1),
                ]
            stream = ends.client._session.streams["control"]._socket
            assert stream.version() == "TLSv1.3"

    uvloop.run(asyncio.wait_for(main(), 60))


def test_a_name_is_accepted_in_any_form(made):
    async def main():
        async with linked(server=server(made / "ours", "x", "HOST-B"), client=client(made / "ours", "0:0::1")):
            pass

    uvloop.run(asyncio.wait_for(main(), 60))


def test_another_authority_is_not_accepted_by_the_side_that_dials(made, caplog):
    here, there = refused(caplog, server(made / "theirs"), client(made / "ours"))
    assert "does not know the authority of our certificate" in here
    assert "the other side's certificate is not accepted" in there


def test_nor_by_the_side_that_listens(made, tmp_path, caplog):
    shutil.copytree(made / "theirs/host-b", tmp_path / "host-b")
    shutil.copy(made / "ours/ca-cert.pem", tmp_path / "host-b/ca-cert.pem")
    here, there = refused(caplog, server(made / "ours"), client(tmp_path))
    assert "the other side's certificate is not accepted" in here
    assert "does not know the authority of our certificate" in there


def test_the_wrong_name_of_the_side_that_listens(made, caplog):
    here, there = refused(caplog, server(made / "ours"), client(made / "ours", "host-c"))
    for line in (here, there):
        assert "a certificate names host-a, 127.0.0.1, ::1, and accepted is host-c" in line


def test_the_wrong_name_of_the_side_that_dials(made, caplog):
    here, there = refused(caplog, server(made / "ours", "host-c", "host-d"), client(made / "ours"))
    for line in (here, there):
        assert "a certificate names host-b, and accepted is host-c or host-d" in line


def test_an_expired_certificate(made, tmp_path, caplog):
    now = datetime.now(UTC)
    pki.init(tmp_path / "old", HOSTS, now - timedelta(days=40), 30)
    here, there = refused(caplog, server(tmp_path / "old"), client(tmp_path / "old"))
    assert "expired" in here
    assert "certificate has expired" in there


def test_a_certificate_for_the_other_purpose(made, tmp_path, caplog):
    shutil.copytree(made / "ours/host-b", tmp_path / "host-b")
    for kind in ("cert", "key"):
        shutil.copy(tmp_path / f"host-b/server-{kind}.pem", tmp_path / f"host-b/client-{kind}.pem")
    here, there = refused(caplog, server(made / "ours"), client(tmp_path))
    assert "purpose" in here
    assert "certificate" in there


def test_tls_on_one_side_only_is_said_on_both(made, caplog):
    here, there = refused(caplog, None, client(made / "ours"))
    assert "the other side speaks TLS and this one does not" in here
    assert "does not speak TLS" in there


def test_the_other_way_round_too(made, caplog):
    here, there = refused(caplog, server(made / "ours"), None)
    assert "does not speak TLS" in here
    assert there


def test_nobody_speaks_without_a_certificate(made, caplog):
    async def main():
        async with running(server=server(made / "ours")) as ends:
            await ends.client.close()
            bare = client(made / "ours")
            bare.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            bare.context.check_hostname = False
            bare.context.load_verify_locations(made / "ours/ca-cert.pem")
            caplog.clear()
            ends.client = ends.dialling(bare)
            ends.client.start()
            await until(lambda: ends.client.counters.refused > 1 and ends.server.counters.refused > 2)
            return refusals(caplog)

    here, there = uvloop.run(asyncio.wait_for(main(), 60))
    assert "the other side shows no certificate" in here[0]
    assert "the other side wants a certificate and got none" in there[0]


def test_an_older_tls_is_refused(made, caplog):
    async def main():
        async with running(server=server(made / "ours")) as ends:
            await ends.client.close()
            old = client(made / "ours")
            old.context.minimum_version = old.context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(ssl.SSLError):
                await dial(address.resolve(ends.server.address), old)

    uvloop.run(asyncio.wait_for(main(), 60))


def test_what_is_read_anew_is_for_new_connections(made, host_a):
    async def main():
        credentials = Credentials(host_a, SERVER, ["host-b"])
        async with linked(server=credentials, client=client(made / "ours")) as ends:
            for path in (made / "theirs/host-a").iterdir():
                shutil.copy(path, host_a)
            ends.server.reload()
            assert ends.up()
            ends.server.disconnect("to dial again")
            await until(lambda: ends.server.counters.refused > 1)
            assert not ends.up()
            ends.client.credentials = client(made / "theirs")
            await until(ends.up)

    uvloop.run(asyncio.wait_for(main(), 60))


def test_files_that_are_wrong_change_nothing(made, host_a):
    async def main():
        async with linked(server=Credentials(host_a, SERVER, ["host-b"]), client=client(made / "ours")) as ends:
            (host_a / "server-cert.pem").write_text("nonsense")
            with pytest.raises(OperatorError, match="cannot be used"):
                ends.server.reload()
            (host_a / "ca-cert.pem").unlink()
            with pytest.raises(OperatorError, match="cannot read"):
                ends.server.reload()
            ends.server.disconnect("to dial again")
            await until(lambda: ends.server.counters.connections == 2 and ends.up())

    uvloop.run(asyncio.wait_for(main(), 60))


def test_without_tls_there_is_nothing_to_be_read_anew():
    async def main():
        async with linked() as ends:
            ends.server.reload()
            assert ends.up()

    uvloop.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("name", ["ca-cert.pem", "server-cert.pem", "server-key.pem"])
def test_a_missing_file_is_one_sentence_with_the_next_step(host_a, name):
    (host_a / name).unlink()
    with pytest.raises(OperatorError, match=f"cannot read .*{name}: No such file.*pki init"):
        Credentials(host_a, SERVER, ["host-b"])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(host_a, mode):
    (host_a / "server-key.pem").chmod(mode)
    with pytest.raises(OperatorError, match=f"can be read by others .its mode is {mode:04o}. .chmod 600"):
        Credentials(host_a, SERVER, ["host-b"])


def test_a_key_that_belongs_to_another_certificate_is_refused(host_a):
    shutil.copy(host_a / "client-key.pem", host_a / "server-key.pem")
    with pytest.raises(OperatorError, match=r"key values mismatch.*belong together"):
        Credentials(host_a, SERVER, ["host-b"])


def test_a_key_with_a_passphrase_is_refused(host_a):
    key = serialization.load_pem_private_key((host_a / "server-key.pem").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    encoding = serialization.Encoding.PEM
    (host_a / "server-key.pem").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(OperatorError, match="has a passphrase"):
        Credentials(host_a, SERVER, ["host-b"])


def test_a_link_that_is_full_ends_in_order(made):
    """With TLS a record may have left in part while nothing of it is known to have."""
    settings = LinkSettings(("net0",), Timing(interval=0.1, timeout=10.0, greeting=2.0), queue_bytes=1 << 20)

    async def main():
        listens, dials = server(made / "ours"), client(made / "ours")
        async with linked(settings=settings, server=listens, client=dials) as ends:
            slow = ends.client._session.streams["net0"]
            control = ends.client._session.streams["control"]
            slow.pause()
            for _ in range(1_000):
                ends.server.put("net0", packet(bytes(60_000)))
                ends.server.flush("net0")
            control.pause()
            ends.server.disconnect("that was enough")
            slow.resume()
            await until(lambda: ends.secondary.downs)
            assert "that was enough" in str(ends.secondary.downs[0].error)

    uvloop.run(asyncio.wait_for(main(), 60))


def test_whom_to_accept_has_to_be_said(host_a):
    with pytest.raises(OperatorError, match="needs a name"):
        Credentials(host_a, SERVER, [])


@pytest.mark.parametrize("certificate", [None, {}, {"subjectAltName": ()}, {"subject": ((("commonName", "host-b"),),)}])
def test_who_is_named_by_nothing_but_a_common_name_is_nobody(host_a, certificate):
    assert names_of(certificate or {}) == []
    with pytest.raises(PeerError, match="names nobody"):
        Credentials(host_a, SERVER, ["host-b"]).check(certificate)
