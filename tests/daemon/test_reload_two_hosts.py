"""What the daemons of two hosts take over from their files: what they greet with, and their certificates."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from colo_bridge.config import load, parse_passthrough
from colo_bridge.daemon.primary import Primary
from colo_bridge.daemon.protector import Protector
from colo_bridge.daemon.secondary import Secondary
from colo_bridge.errors import OperatorError, PeerError
from colo_bridge.link import pki

PRIMARY = """
role = "primary"
guest = "web"
run_dir = "{directory}/run"
[[nic]]
primary_port = "p0"
queue = 700
[link]
listen = "127.0.0.1:{port}"
tls_directory = "{directory}/tls"
accept = ["host-b"]
[evidence]
directory = "{directory}/evidence"
"""
SECONDARY = """
role = "secondary"
guest = "web"
run_dir = "{directory}/run"
[[nic]]
secondary_port = "s0"
bridge = "br0"
[link]
peer = "127.0.0.1:{port}"
tls_directory = "{directory}/tls"
accept = ["host-a"]
"""
RULE = '[[passthrough]]\nname = "ssh"\nguest_ports = 22\n'

Made = tuple[Primary | Secondary, Path]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki") / "made"
    pki.init(directory, [["host-a"], ["host-b"]], datetime.now(UTC), 30)
    return directory


@pytest.fixture(params=[(PRIMARY, Primary, "host-a"), (SECONDARY, Secondary, "host-b")], ids=["primary", "secondary"])
def made(request: pytest.FixtureRequest, tmp_path: Path, certificates: Path) -> Made:
    """A daemon that does not run yet, and its file."""
    return make(*request.param, tmp_path, certificates)


def make(text: str, role: type[Primary | Secondary], host: str, directory: Path, certificates: Path) -> Made:
    shutil.copytree(certificates / host, directory / "tls")
    file = directory / "web.toml"
    file.write_text(text.format(directory=directory, port=free_port()), encoding="utf-8")
    daemon = role(load(file))
    daemon.file = file
    return daemon, file


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def side(daemon: Primary | Secondary) -> Protector | Secondary:
    """Who has the link."""
    return daemon._protector if isinstance(daemon, Primary) else daemon


def add(file: Path, text: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_next_session_is_greeted_with_the_digest_of_the_file(made: Made) -> None:
    daemon, file = made
    before = side(daemon)._far.hello()
    add(file, RULE)
    assert daemon.reload() == ["passthrough"]
    after = side(daemon)._far.hello()
    assert after == replace(before, configuration=load(file).digest())
    assert after.configuration != before.configuration


def test_certificates_are_read_again_though_no_key_has_changed(made: Made) -> None:
    daemon, _ = made
    context = side(daemon)._far.link.credentials.context
    assert daemon.reload() == []
    assert side(daemon)._far.link.credentials.context is not context


def test_a_host_that_is_new_is_accepted(made: Made) -> None:
    daemon, file = made
    newcomer = {"subjectAltName": (("DNS", "host-c"),)}
    with pytest.raises(PeerError, match="names host-c"):
        side(daemon)._far.link.credentials.check(newcomer)
    file.write_text(file.read_text(encoding="utf-8").replace("accept = [", 'accept = ["host-c", '), encoding="utf-8")
    assert daemon.reload() == ["link.accept"]
    side(daemon)._far.link.credentials.check(newcomer)


def test_a_secondary_accepts_it_where_it_listens_too(tmp_path: Path, certificates: Path) -> None:
    """As a survivor that takes another host for its secondary."""
    listening = SECONDARY.replace("[link]", f'[link]\nlisten = "127.0.0.1:{free_port()}"')
    daemon, file = make(listening, Secondary, "host-b", tmp_path, certificates)
    file.write_text(file.read_text(encoding="utf-8").replace("host-a", "host-c"), encoding="utf-8")
    daemon.reload()
    daemon._protector.link.credentials.check({"subjectAltName": (("DNS", "host-c"),)})


@pytest.mark.parametrize("change", ["certificate", "another key"])
def test_it_is_all_or_nothing(made: Made, change: str) -> None:
    daemon, file = made
    before, context = side(daemon)._far.hello(), side(daemon)._far.link.credentials.context
    add(file, RULE)
    if change == "certificate":
        for path in (file.parent / "tls").glob("*-cert.pem"):
            path.write_text("nonsense", encoding="ascii")
    else:
        add(file, "[limits]\nconnections = 100\n")
    with pytest.raises(OperatorError):
        daemon.reload()
    assert side(daemon)._far.hello() == before
    assert side(daemon)._far.link.credentials.context is context


@pytest.mark.parametrize("spoilt", ["server", "client"])
def test_of_a_secondary_that_also_listens_both_ends_go_on_if_one_cannot_change(
    tmp_path: Path, certificates: Path, spoilt: str
) -> None:
    listening = SECONDARY.replace("[link]", f'[link]\nlisten = "127.0.0.1:{free_port()}"')
    daemon, file = make(listening, Secondary, "host-b", tmp_path, certificates)
    ends = (daemon._link, daemon._protector.link)
    before = [end.credentials.context for end in ends]
    (file.parent / f"tls/{spoilt}-cert.pem").write_text("nonsense", encoding="ascii")
    with pytest.raises(OperatorError, match=f"{spoilt}-cert.pem"):
        daemon.reload()
    assert [end.credentials.context for end in ends] == before


def test_no_certificate_is_read_where_the_rules_are_refused(tmp_path: Path, certificates: Path) -> None:
    daemon, file = make(PRIMARY, Primary, "host-a", tmp_path, certificates)
    daemon._protector.comparison._rules.add(parse_passthrough({"name": "late", "vlan": 7}))
    context = side(daemon)._far.link.credentials.context
    add(file, "".join(RULE.replace("ssh", f"r{number}") for number in range(64)))
    with pytest.raises(OperatorError, match="64 passthrough rules are the most"):
        daemon.reload()
    assert side(daemon)._far.link.credentials.context is context
