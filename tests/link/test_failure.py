"""What went wrong is one sentence, with the next step where there is one."""

import errno
import ssl

import pytest

from colo_bridge.errors import OperatorError
from colo_bridge.link.failure import explained, is_plain


def by_tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TimeoutError(), "the other side does not answer (is its host there, and no firewall between?)"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            "connection refused (is the other daemon running, and does it listen there?)",
        ),
        (OSError(errno.EHOSTUNREACH, "x"), "no route to host"),
        (OSError("Something"), "something"),
        (OSError(), "oserror"),
        (OperatorError("a", "b"), "a (b)"),
        (
            by_tls("TLSV1_ALERT_PROTOCOL_VERSION"),
            "the other side does not speak TLS 1.3 (is it colo-bridge, and of this version?)",
        ),
        (
            by_tls("UNEXPECTED_EOF_WHILE_READING"),
            "the other side closed the connection in the midst of TLS's greeting (its log says why)",
        ),
        (by_tls("NO_CIPHERS_AVAILABLE"), "TLS failed: no ciphers available"),
    ],
)
def test_each_failure_is_a_sentence(error, sentence):
    assert str(explained(error)) == sentence


@pytest.mark.parametrize("reason", ["WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"])
def test_what_is_no_tls_is_recognised(reason):
    assert is_plain(by_tls(reason))


@pytest.mark.parametrize("error", [by_tls("UNSUPPORTED_PROTOCOL"), OSError(), OperatorError("a"), KeyboardInterrupt()])
def test_and_nothing_else_is_taken_for_it(error):
    assert not is_plain(error)
