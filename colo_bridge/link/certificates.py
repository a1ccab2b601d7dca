"""Where the files of TLS are, in QEMU's layout, and who a certificate names.

    ca-cert.pem                        who may certify the other side
    server-cert.pem, server-key.pem    of the side that listens
    client-cert.pem, client-key.pem    of the side that dials

A key is its owner's alone: one that others may read is refused.
"""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from colo_bridge.errors import OperatorError

AUTHORITY = "ca-cert.pem"
SERVER = "server"
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Files:
    """What one side needs."""

    authority: Path
    certificate: Path
    key: Path


def files(directory: Path, kind: str) -> Files:
    """Those of `kind`, SERVER or CLIENT; OperatorError if one is missing or a key is open to others."""
    found = Files(directory / AUTHORITY, directory / f"{kind}-cert.pem", directory / f"{kind}-key.pem")
    for path in (found.authority, found.certificate, found.key):
        _check_readable(path)
    mode = stat.S_IMODE(found.key.stat().st_mode)
    if mode & 0o077:
        raise OperatorError(f"{found.key} can be read by others (its mode is {mode:04o})", f"chmod 600 {found.key}")
    return found


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise OperatorError(
            f"cannot read {path}: {error.strerror or error}", "colo-bridge pki init makes what TLS needs"
        ) from error


def names_of(certificate: Mapping[str, object]) -> list[str]:
    """DNS names and addresses of a certificate, as `ssl.SSLSocket.getpeercert` tells them."""
    alternatives = certificate.get("subjectAltName", ())
    assert isinstance(alternatives, Iterable)
    return [normal(name) for kind, name in alternatives if kind in ("DNS", "IP Address")]


def normal(name: str) -> str:
    """The form in which two names are compared: whole, there are no wildcards."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()
