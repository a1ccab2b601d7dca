"""Changes of devices are told at once, by name."""

import select
import socket
import struct
from contextlib import closing

import pytest

from colo_bridge.kernel import links
from colo_bridge.kernel.link_monitor import LinkMonitor, _names
from tests.kernel.rig import PATIENCE, shell

pytestmark = pytest.mark.namespace


def told(monitor: LinkMonitor, expected: str) -> bool:
    while select.select([monitor], [], [], PATIENCE)[0]:
        names = monitor.read()
        if names is None or expected in names:
            return True
    return False


def test_coming_changing_and_going_are_told():
    with closing(LinkMonitor()) as monitor:
        assert monitor.read() == set()
        for command in ("add x0 type veth peer name x1", "set x0 up", "set x0 name x2", "del x1"):
            shell(f"ip link {command}")
            assert told(monitor, "x2" if command.startswith(("set x0 name", "del")) else "x0")


def test_too_many_changes_mean_anything_may_have_changed():
    shell("ip link add x0 type veth peer name x1")
    with closing(LinkMonitor()) as monitor:
        with socket.socket(fileno=socket.dup(monitor.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        for _ in range(20):
            links.set_up("x0")
            links.set_down("x0")
        assert monitor.read() is None
        shell("ip link set x0 up")
        assert told(monitor, "x0")


@pytest.mark.parametrize(
    "garbage",
    [b"", b"short", bytes(64), struct.pack("=IHHII", 0, 16, 0, 0, 0), struct.pack("=IHHII", 999, 16, 0, 0, 0) * 3],
)
def test_what_makes_no_sense_names_nothing(garbage):
    assert set(_names(garbage)) <= {""}
