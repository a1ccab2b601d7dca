"""TAPs with virtio-net headers: 64 KB segments both ways, drops counted."""

import pytest

from colo_bridge.errors import OperatorError
from colo_bridge.kernel import links
from colo_bridge.kernel.tap import VNET_HEADER_BYTES, Tap, name_for
from tests.kernel import rig
from tests.kernel.rig import Wire, receive_from, until

pytestmark = pytest.mark.namespace

SEGMENTED = rig.VNET_HEADER.pack(1, 1, 54, 1_448, 34, 16) + bytes(2)


def make(name: str = "cbmtest", queue_length: int = 100) -> Tap:
    tap = Tap(name, queue_length=queue_length)
    links.set_up(name)
    return tap


def test_64_kb_segments_pass_both_ways():
    tap = make()
    wire = Wire(tap.name)
    frame = rig.tcp(bytes(range(256)) * 230)
    wire.send(frame, segment=1_448)
    size = receive_from(tap)
    assert bytes(tap.buffer[VNET_HEADER_BYTES:size]) == frame
    assert tap.buffer[: rig.VNET_HEADER.size] == SEGMENTED[: rig.VNET_HEADER.size]
    assert tap.receive() == 0
    assert tap.send(SEGMENTED + frame)
    assert wire.receive() == frame
    tap.close()


def test_garbage_is_refused_and_counted():
    tap = make()
    assert not tap.send(b"")
    assert not tap.send(b"short")
    assert not tap.send(b"\xff" * 40)
    assert tap.counters()["send_refused"] == 3
    assert tap.send(bytes(VNET_HEADER_BYTES) + rig.udp(b"good"))
    tap.close()


def test_down_device_refuses():
    tap = Tap("cbmtest", queue_length=10)
    assert not tap.send(bytes(VNET_HEADER_BYTES) + rig.udp(b"data"))
    assert tap.counters()["send_refused"] == 1
    tap.close()


def test_full_queue_is_counted():
    tap = make(queue_length=16)
    wire = Wire(tap.name)
    for ident in range(40):
        wire.send(rig.udp(b"x", ident=ident))
    until(lambda: tap.counters()["unread_dropped"] == 24, "24 drops")
    received = 0
    while tap.receive():
        received += 1
    assert received == 16
    tap.close()


def test_device_is_quiet_and_ours():
    rig.shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
    tap = make(queue_length=123)
    link = links.get(tap.name)
    assert link.address.startswith("fe:")
    assert link.queue_length == 123
    assert link.index == tap.index
    assert links.is_quiet(tap.name)
    assert "addrgenmode none" in rig.shell(f"ip -d link show {tap.name}")
    assert not receive_from(tap, rig.SILENCE)
    tap.close()
    assert links.find(tap.name) is None


def test_name_that_exists_is_refused():
    tap = make()
    with pytest.raises(OperatorError, match="exists already"):
        Tap(tap.name, queue_length=10)
    tap.close()


def test_names_differ_and_fit():
    names = {name_for(guest, nic, what) for guest in ("a" * 32, "b") for nic in ("net0", "net1") for what in "ms"}
    assert len(names) == 8
    assert all(name.startswith("cb") and len(name) <= 15 for name in names)
