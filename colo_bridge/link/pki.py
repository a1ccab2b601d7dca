"""A certificate authority and the certificates of two hosts, for a lab or a first installation.

1. Nothing that exists is overwritten, and nothing is left half made: the directory appears complete or not at all.
2. Each host gets both kinds of certificates, because after a failover the roles may be the other way round.
3. The key of the authority is needed for further certificates only: it stays where it was made, or goes offline.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from colo_bridge.errors import OperatorError
from colo_bridge.link.certificates import AUTHORITY, CLIENT, SERVER

AUTHORITY_KEY = "ca-key.pem"
_KINDS = {SERVER: ExtendedKeyUsageOID.SERVER_AUTH, CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}
_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_LONGEST_NAME = 64
"""Of a common name (RFC 5280, ub-common-name)."""
_CLOCKS_DIFFER = timedelta(days=1)
"""Certificates are valid from so long ago: the other host's clock may be behind."""


@dataclass(frozen=True, slots=True)
class Issuer:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def parse_names(text: str) -> list[str]:
    """Names and addresses of one host, separated by commas; the first one names its directory."""
    names = text.split(",")
    for name in names:
        _general_name(name)
    return names


def init(directory: Path, hosts: Sequence[Sequence[str]], now: datetime, days: int) -> None:
    """Make `directory` with an authority and a directory for each of `hosts`; raises OperatorError."""
    if len({names[0] for names in hosts}) != len(hosts):
        raise OperatorError("both hosts have the same name", "each needs its own")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            _fill(partial, hosts, now, days)
            # Replaces a directory that is empty, and nothing else.
            partial.rename(directory)
        except BaseException:
            shutil.rmtree(partial)
            raise
    except OSError as error:
        raise OperatorError(
            f"cannot make {directory}: {error.strerror or error}", "it must not exist yet, or be an empty directory"
        ) from error


def _fill(directory: Path, hosts: Sequence[Sequence[str]], now: datetime, days: int) -> None:
    validity = (now - _CLOCKS_DIFFER, now + timedelta(days=days))
    issuer = _authority(validity)
    _write_key(directory / AUTHORITY_KEY, issuer.key)
    _write_certificate(directory / AUTHORITY, issuer.certificate)
    for names in hosts:
        host = directory / names[0]
        host.mkdir(mode=0o700)
        _write_certificate(host / AUTHORITY, issuer.certificate)
        for kind in _KINDS:
            key = ec.generate_private_key(ec.SECP256R1())
            _write_key(host / f"{kind}-key.pem", key)
            _write_certificate(host / f"{kind}-cert.pem", _certificate(issuer, key, kind, names, validity))


def _authority(validity: tuple[datetime, datetime]) -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("colo-bridge CA")
    certificate = (
        _builder(name, name, key.public_key(), validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Issuer(key, certificate)


def _certificate(
    issuer: Issuer,
    key: ec.EllipticCurvePrivateKey,
    kind: str,
    names: Sequence[str],
    validity: tuple[datetime, datetime],
) -> x509.Certificate:
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return (
        _builder(_subject(names[0]), issuer.certificate.subject, key.public_key(), validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_KINDS[kind]]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(authority_key, critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, validity: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if len(name) > _LONGEST_NAME or not _DNS_NAME.fullmatch(name):
        raise OperatorError(f"{name!r} is neither a host's name nor an address", "as in host-a.example,192.0.2.1")
    return x509.DNSName(name)


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    _write(path, key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain), 0o600)


def _write(path: Path, contents: bytes, mode: int) -> None:
    """With its mode from the first moment on, whatever the umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(contents)
