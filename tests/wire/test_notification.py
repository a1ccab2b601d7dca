"""The words of QEMU's notify protocol, as they stand on the wire."""

from __future__ import annotations

from colo_bridge.wire import notification


def test_the_words() -> None:
    words = {name: value for name, value in vars(notification).items() if isinstance(value, bytes)}
    assert set(words.values()) == {
        b"COLO_USERSPACE_PROXY_INIT",
        b"COLO_COMPARE_GET_XEN_INIT",
        b"COLO_CHECKPOINT",
        b"DO_CHECKPOINT",
    }
