"""TLS on real sockets: who may speak to whom, and what both sides say if they may not."""

import asyncio
import errno
import shutil
import ssl
from datetime import UTC, datetime

import pytest
import uvloop
from cryptography.hazmat.primitives import serialization

from colo_bridge.errors import OperatorError, PeerError
from colo_bridge.link import address, pki
from colo_bridge.link.certificates import names_of
from colo_bridge.link.connection import dial
from colo_bridge.link.protocol.actions import Timing
from colo_bridge.link.protocol.messages import Barrier, encode
from colo_bridge.link.session import LinkSettings
from colo_bridge.link.tls import CLIENT, SERVER, Credentials
from tests.link.ends import PausingOwner, linked, packet, running, until
from tests.link.sides import PRIMARY

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


def test_both_know_each_other_and_packets_travel(made):
    contents = [bytes([n]) * (1 + 997 * n % 65_000) for n in range(200)]

    async def main():
        async with linked(server=server(made / "ours"), client=client(made / "ours")) as ends:
            for link, nic in ((ends.client, "net0"), (ends.server, "net1")):
                for each in contents:
                    assert link.put(nic, packet(each))
                link.flush(nic)
                link.barrier(1)
            await until(lambda: len(ends.primary.told) == 203 and len(ends.secondary.told) == 203)
            for owner, nic in ((ends.primary, "net0"), (ends.secondary, "net1")):
                assert [each for each in owner.told if isinstance(each, tuple) and each[0] == nic] == [
                    *((nic, each) for each in contents),
                    (nic, 1),
                ]
            stream = ends.client._session.streams["control"]._socket
            assert stream.version() == "TLSv1.3"

    uvloop.run(asyncio.wait_for(main(), 60))


def test_a_pause_holds_though_tls_has_read_more_already(made):
    """Barriers come in the midst of records, and what OpenSSL has in its hands wakes nobody."""
    settings, barriers = LinkSettings(("net0",)), range(1, 20)

    async def main():
        async with running(settings=settings, server=server(made / "ours"), client=client(made / "ours")) as ends:
            owner = ends.server._owner = PausingOwner(PRIMARY)
            owner.link = ends.server
            await until(ends.up)
            stream, wanted = ends.client._session.streams["net0"], []
            for number in barriers:
                contents = [bytes([number]) * (1 + 997 * n % 3_000) for n in range(30)]
                assert all(ends.client.put("net0", packet(each)) for each in contents)
                stream.outgoing.add(encode(Barrier(number)))
                wanted += [*(("net0", each) for each in contents), ("net0", number)]
            stream.flush()
            for number in barriers:
                await until(lambda number=number: owner.told[-1:] == [("net0", number)])
                ends.server.resume("net0")
            assert owner.told == wanted

    uvloop.run(asyncio.wait_for(main(), 60))


class Breaking:
    """A TLS socket whose connection breaks behind what has come; its kernel tells so once."""

    def __init__(self, whole: ssl.SSLSocket) -> None:
        self._whole = whole
        self._has_come = self._has_told = False

    def recv_into(self, room: memoryview) -> int:
        try:
            count = self._whole.recv_into(room)
        except ssl.SSLWantReadError:
            if not self._has_come:
                raise
            if self._has_told:
                return 0
            self._has_told = True
            raise ConnectionResetError(errno.ECONNRESET, "") from None
        self._has_come = True
        return count

    def __getattr__(self, name: str) -> object:
        return getattr(self._whole, name)


def test_what_came_before_a_connection_broke_is_handed_over_and_then_the_error(made):
    async def main():
        async with linked(server=server(made / "ours"), client=client(made / "ours")) as ends:
            stream = ends.server._session.streams["net0"]
            stream._tls = Breaking(stream._tls)
            ends.client.put("net0", packet(bytes(40_000)))
            ends.client.flush("net0")
            await until(lambda: ends.primary.downs)
            assert ends.primary.told == [("net0", bytes(40_000))]
            assert "connection reset by peer" in str(ends.primary.downs[0].error)

    uvloop.run(asyncio.wait_for(main(), 60))


def test_a_name_is_accepted_in_any_form(made):
    async def main():
        async with linked(server=server(made / "ours", "x", "HOST-B"), client=client(made / "ours", "0:0::1")):
            pass

    uvloop.run(asyncio.wait_for(main(), 60))


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
            ends.server.prepare_reload(["host-b"])()
            assert ends.up()
            ends.server.disconnect("to dial again")
            await until(lambda: ends.server.counters.refused > 1)
            assert not ends.up()
            ends.client.credentials = client(made / "theirs")
            await until(ends.up)

    uvloop.run(asyncio.wait_for(main(), 60))


def test_whom_to_accept_may_change_for_new_connections(made, caplog):
    async def main():
        async with linked(server=server(made / "ours"), client=client(made / "ours")) as ends:
            ends.server.prepare_reload(["host-c"])()
            assert ends.up()
            ends.server.disconnect("to dial again")
            await until(lambda: "a certificate names host-b, and accepted is host-c" in caplog.text)
            ends.server.prepare_reload(["host-c", "host-b"])()
            await until(ends.up)

    uvloop.run(asyncio.wait_for(main(), 60))


def test_files_that_are_wrong_change_nothing(made, host_a):
    async def main():
        async with linked(server=Credentials(host_a, SERVER, ["host-b"]), client=client(made / "ours")) as ends:
            (host_a / "server-cert.pem").write_text("nonsense")
            with pytest.raises(OperatorError, match="cannot be used"):
                ends.server.prepare_reload(["host-b"])
            (host_a / "ca-cert.pem").unlink()
            with pytest.raises(OperatorError, match="cannot read"):
                ends.server.prepare_reload(["host-b"])
            ends.server.disconnect("to dial again")
            await until(lambda: ends.server.counters.connections == 2 and ends.up())

    uvloop.run(asyncio.wait_for(main(), 60))


def test_without_tls_there_is_nothing_to_be_read_anew():
    async def main():
        async with linked() as ends:
            ends.server.prepare_reload(["host-b"])()
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
