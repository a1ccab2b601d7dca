"""`colo-bridge pki init`, as an operator meets it; that TLS takes what it makes is shown in test_tls.py."""

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

HOST = {f"{name}.pem" for name in ("ca-cert", "server-cert", "server-key", "client-cert", "client-key")}


def init(directory, primary="host-a,192.0.2.1,2001:db8::1", secondary="host-b", *arguments):
    command = [sys.executable, "-m", "colo_bridge", "pki", "init", str(directory)]
    command += [f"--primary={primary}", f"--secondary={secondary}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def sentence(finished) -> str:
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.startswith("colo-bridge: error: ")
    assert len(finished.stderr.splitlines()) == 1
    return finished.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki") / "made"
    finished = init(directory)
    assert (finished.returncode, finished.stderr) == (0, "")
    return directory, finished.stdout


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_each_host_gets_both_kinds_of_certificates_and_is_named(made):
    directory, said = made
    assert {path.name for path in directory.iterdir()} == {"ca-cert.pem", "ca-key.pem", "host-a", "host-b"}
    for host in ("host-a", "host-b"):
        assert {path.name for path in (directory / host).iterdir()} == HOST
        assert f"to {host}: copy {directory / host}/" in said
    assert f"keep {directory / 'ca-key.pem'} to yourself" in said


def test_keys_and_directories_are_their_owners_alone(made):
    directory, _ = made
    for path in [directory, *directory.rglob("*")]:
        if path.is_dir() or "key" in path.name:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@pytest.mark.parametrize(
    ("kind", "usage"), [("server", ExtendedKeyUsageOID.SERVER_AUTH), ("client", ExtendedKeyUsageOID.CLIENT_AUTH)]
)
def test_a_certificate_names_its_host_and_serves_one_purpose(made, kind, usage):
    directory, _ = made
    extensions = certificate(directory / "host-a" / f"{kind}-cert.pem").extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["host-a", "192.0.2.1", "2001:db8::1"]
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_the_authority_may_certify_hosts_and_no_further_authorities(made):
    directory, _ = made
    authority = certificate(directory / "ca-cert.pem")
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    for host in ("host-a", "host-b"):
        certificate(directory / host / "server-cert.pem").verify_directly_issued_by(authority)


def test_certificates_are_valid_for_as_long_as_was_said_and_for_a_clock_that_is_behind(tmp_path):
    assert init(tmp_path / "pki", "a", "b", "--days", "30").returncode == 0
    found, now = certificate(tmp_path / "pki/a/client-cert.pem"), datetime.now(UTC)
    assert timedelta(days=29) < found.not_valid_after_utc - now <= timedelta(days=30)
    assert found.not_valid_before_utc < now - timedelta(hours=23)


def test_what_exists_is_not_overwritten(tmp_path):
    (tmp_path / "ca-key.pem").write_text("precious")
    assert "Directory not empty" in sentence(init(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["ca-key.pem"]
    assert (tmp_path / "ca-key.pem").read_text() == "precious"


def test_an_empty_directory_is_filled_and_becomes_its_owners_alone(tmp_path):
    (tmp_path / "empty").mkdir(mode=0o755)
    assert init(tmp_path / "empty").returncode == 0
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    assert "No such file" in sentence(init(tmp_path / "none" / "pki"))
    (tmp_path / "file").write_text("")
    assert "cannot make" in sentence(init(tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["", "a,", "a b", "-a", "a..b", "../a", "x" * 65, "*.example", "a\n"])
def test_what_is_no_name_is_refused(name, tmp_path):
    assert "is neither a host's name nor an address" in sentence(init(tmp_path / "pki", name))


def test_two_hosts_have_two_names(tmp_path):
    assert "same name" in sentence(init(tmp_path / "pki", "a,192.0.2.1", "a,192.0.2.2"))


@pytest.mark.parametrize("days", ["0", "-1", "36501"])
def test_the_validity_has_limits(days, tmp_path):
    assert "--days must be from 1" in sentence(init(tmp_path / "pki", "a", "b", f"--days={days}"))
