"""What went wrong on a connection: one sentence, and the next step where one can be named.

OpenSSL's reasons are matched by the words at their end, which are the same in all its versions.
"""

from __future__ import annotations

import errno
import os
import ssl

from colo_bridge.errors import ColoBridgeError, OperatorError, PeerError

_AUTHORITY = "ca-cert.pem has to be the same on both hosts"
_LOG = "its log says why"
_PLAIN = "the other side does not speak TLS"
_ON_BOTH = "configure TLS on both hosts or on neither"
_PURPOSE = "server-cert.pem is for the side that listens, client-cert.pem for the one that dials"
_NEW = "`colo-bridge pki init` makes new certificates"
_VALIDITY = f"{_NEW}; or is a clock wrong?"
_VERSION = "is it colo-bridge, and of this version?"

_SENTENCES = {
    "CERTIFICATE_REQUIRED": ("the other side wants a certificate and got none", _NEW),
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": ("the other side shows no certificate", "is it colo-bridge?"),
    "UNKNOWN_CA": ("the other side does not know the authority of our certificate", _AUTHORITY),
    "BAD_CERTIFICATE": ("the other side does not accept our certificate", _LOG),
    "UNSUPPORTED_CERTIFICATE": ("the other side says that our certificate is for another purpose", _PURPOSE),
    "CERTIFICATE_EXPIRED": ("the other side says that our certificate has expired", _VALIDITY),
    "CERTIFICATE_UNKNOWN": ("the other side does not accept our certificate", _LOG),
    "WRONG_VERSION_NUMBER": (_PLAIN, _ON_BOTH),
    "HTTP_REQUEST": (_PLAIN, _ON_BOTH),
    "PACKET_LENGTH_TOO_LONG": (_PLAIN, _ON_BOTH),
    "RECORD_LAYER_FAILURE": (_PLAIN, _ON_BOTH),
    "UNSUPPORTED_PROTOCOL": (f"{_PLAIN} 1.3", _VERSION),
    "PROTOCOL_VERSION": (f"{_PLAIN} 1.3", _VERSION),
    "UNEXPECTED_EOF_WHILE_READING": ("the other side closed the connection in the midst of TLS's greeting", _LOG),
}
_VERIFICATION = {
    9: _VALIDITY,
    10: _VALIDITY,
    26: _PURPOSE,
}
"""Next steps by OpenSSL's numbers: not yet valid, expired, purpose (openssl/x509_vfy.h)."""


def explained(error: OSError | ColoBridgeError) -> ColoBridgeError:
    if isinstance(error, ColoBridgeError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = f"the other side's certificate is not accepted: {error.verify_message}"
        return OperatorError(problem, _VERIFICATION.get(error.verify_code, _AUTHORITY))
    if isinstance(error, ssl.SSLError):
        return _explained_by_tls(error)
    if isinstance(error, TimeoutError):
        return PeerError("the other side does not answer", "is its host there, and no firewall between?")
    if error.errno == errno.ECONNREFUSED:
        return PeerError("connection refused", "is the other daemon running, and does it listen there?")
    return PeerError((os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower())


def is_plain(error: BaseException) -> bool:
    """Did the other side send something that is not TLS?"""
    return isinstance(error, ssl.SSLError) and explained(error).problem == _PLAIN


def reason_of(error: Exception) -> str:
    """OpenSSL's, without its ornaments."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or error.strerror or str(error)).lower().replace("_", " ")
    return str(error)


def _explained_by_tls(error: ssl.SSLError) -> ColoBridgeError:
    reason = reason_of(error)
    for words, (sentence, hint) in _SENTENCES.items():
        if reason.upper().replace(" ", "_").endswith(words):
            return OperatorError(sentence, hint)
    return PeerError(f"TLS failed: {reason}")
