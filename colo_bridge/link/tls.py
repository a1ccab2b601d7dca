"""TLS 1.3 between the two hosts: both show a certificate of the same authority, with a name that the other accepts.

1. A name is checked on both sides and compared whole: an authority may certify hosts that have no business here.
2. `reload` concerns new connections; files that are wrong change nothing.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from colo_bridge.errors import OperatorError, PeerError
from colo_bridge.link import certificates
from colo_bridge.link.certificates import CLIENT, SERVER

_SENTENCES = {
    "CERTIFICATE_REQUIRED": "the other side wants a certificate and got none",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other side shows no certificate",
    "UNKNOWN_CA": "the other side does not know the authority of our certificate",
    "BAD_CERTIFICATE": "the other side does not accept our certificate",
    "UNSUPPORTED_CERTIFICATE": "the other side says that our certificate is for another purpose",
    "CERTIFICATE_EXPIRED": "the other side says that our certificate has expired",
    "CERTIFICATE_UNKNOWN": "the other side does not accept our certificate",
    "WRONG_VERSION_NUMBER": "the other side does not speak TLS",
    "HTTP_REQUEST": "the other side does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "the other side does not speak TLS",
    "RECORD_LAYER_FAILURE": "the other side does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "the other side does not speak TLS 1.3",
    "PROTOCOL_VERSION": "the other side does not speak TLS 1.3",
}
"""For the words at the end of OpenSSL's names of its reasons."""


class Credentials:
    """Who this side is, and whom it accepts; raises OperatorError if something is missing or wrong."""

    def __init__(self, directory: Path, kind: str, accepted: Sequence[str]) -> None:
        """`kind`: SERVER listens, CLIENT dials; `accepted`: names of which the other's certificate has one."""
        if not accepted:
            raise OperatorError("TLS needs a name that the other side's certificate may have", "the other host's name")
        self._directory = directory
        self._kind = kind
        self._accepted = {certificates.normal(name) for name in accepted}
        self.context = self._load()

    def reload(self) -> None:
        """Use what the files hold now; raises OperatorError and goes on with what there was."""
        self.context = self._load()

    def check(self, certificate: object) -> None:
        """What `getpeercert` told: does it name someone who is accepted? Raises PeerError."""
        names = certificates.names_of(certificate) if isinstance(certificate, dict) else []
        if not self._accepted & set(names):
            accepted = " or ".join(sorted(self._accepted))
            raise PeerError(
                f"a certificate names {', '.join(names) or 'nobody'}, and accepted is {accepted}",
                "is this the right host, and its name configured?",
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
                f"the certificates in {self._directory} cannot be used: {_reason(error)}",
                f"{files.certificate.name} and {files.key.name} have to belong together",
            ) from error
        return context


def _no_password() -> str:
    raise OperatorError("a key of the link has a passphrase", "nobody is there to type it: leave it out")


def describe(error: OSError) -> str:
    """One sentence about what went wrong on a connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the other side's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = _reason(error)
        for words, sentence in _SENTENCES.items():
            if reason.upper().replace(" ", "_").endswith(words):
                return sentence
        return f"TLS failed: {reason}"
    if isinstance(error, TimeoutError):
        return "the other side does not answer"
    return (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or error.strerror or str(error)).lower().replace("_", " ")
    return str(error)


__all__ = ["CLIENT", "SERVER", "Credentials", "describe"]
