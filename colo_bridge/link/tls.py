"""TLS 1.3 between the two hosts: both show a certificate of the same authority, with a name that the other accepts.

1. A name is checked on both sides and compared whole: an authority may certify hosts that have no business here.
2. Nothing here changes: what the files hold later, and who is accepted then, is what `renewed` has.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection
from pathlib import Path

from colo_bridge.errors import OperatorError, PeerError
from colo_bridge.link import certificates
from colo_bridge.link.certificates import CLIENT, SERVER
from colo_bridge.link.failure import reason_of


class Credentials:
    """Who this side is, and whom it accepts; raises OperatorError if something is missing or wrong."""

    def __init__(self, directory: Path, kind: str, accepted: Collection[str]) -> None:
        """`kind`: SERVER listens, CLIENT dials; `accepted`: names of which the other's certificate has one."""
        if not accepted:
            raise OperatorError("TLS needs a name that the other side's certificate may have", "the other host's name")
        self._directory = directory
        self._kind = kind
        self._accepted = {certificates.normal(name) for name in accepted}
        self.context = self._load()

    def renewed(self, accepted: Collection[str]) -> Credentials:
        """With what the files hold now, for these names; raises OperatorError if that cannot be used."""
        return Credentials(self._directory, self._kind, accepted)

    def check(self, certificate: object) -> None:
        """What `getpeercert` told: does it name someone who is accepted? Raises PeerError."""
        names = certificates.names_of(certificate) if isinstance(certificate, dict) else []
        if not self._accepted & set(names):
            accepted = " or ".join(sorted(self._accepted))
            raise PeerError(
                f"a certificate names {', '.join(names) or 'nobody'}, and accepted is {accepted}",
                "is this the right host? then its name belongs into `accept`",
            )

    def _load(self) -> ssl.SSLContext:
        files = certificates.files(self._directory, self._kind)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self._kind == SERVER else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # `check` does it, alike on both sides
        context.verify_mode = ssl.CERT_REQUIRED
        if self._kind == SERVER:
            context.num_tickets = 0  # nobody resumes anything
        try:
            context.load_verify_locations(files.authority)
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise OperatorError(
                f"the certificates in {self._directory} cannot be used: {reason_of(error)}",
                f"{files.certificate.name} and {files.key.name} have to belong together",
            ) from error
        return context


def _no_password() -> str:
    raise OperatorError("a key of the link has a passphrase", "nobody is there to type it: leave it out")


__all__ = ["CLIENT", "SERVER", "Credentials"]
