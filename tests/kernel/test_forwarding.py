"""The forwarding TAP: a port of the guest's bridge that only takes frames in, and changes nothing of the bridge."""

import ctypes
import fcntl
import json
import socket
import struct

import pytest

from colo_bridge.kernel import links
from colo_bridge.kernel.protection import NicProtection
from colo_bridge.kernel.tap import VNET_HEADER_BYTES
from tests.kernel import rig
from tests.kernel.rig import Host, configuration, kernel_state, receive_from, shell

pytestmark = pytest.mark.namespace

MSS = 1_428


def armed(tmp_path) -> NicProtection:
    config = configuration(tmp_path, "auto")
    made = NicProtection(config.guest, config.nic[0], config)
    made.arm()
    return made


def teach(host: Host) -> None:
    """The client speaks, so that the bridge knows its address."""
    host.client.send(rig.GUEST_MAC + rig.CLIENT_MAC + rig.udp(b"here")[12:])
    assert host.primary.receive() is not None


def sent(made: NicProtection, frame: bytes, segment: int = 0) -> bool:
    header = rig.offload(frame, segment) if segment else bytes(len(rig.offload(frame, 1)))
    return made.forward.send(header + bytes(VNET_HEADER_BYTES - len(header)) + frame)


@pytest.mark.parametrize("frame", [rig.udp(b"verified"), rig.udp6(b"verified")], ids=["IPv4", "IPv6"])
def test_frame_arrives_at_the_client_alone_and_undiverted(tmp_path, frame):
    host, made = Host(), armed(tmp_path)
    teach(host)
    assert receive_from(made.mirror)
    assert sent(made, frame)
    assert host.client.receive() == frame
    assert host.primary.silent()
    assert not receive_from(made.queue, rig.SILENCE)
    assert not receive_from(made.mirror, rig.SILENCE)
    made.disarm()


@pytest.mark.parametrize("frame", [rig.tcp(bytes(range(250)) * 240), rig.tcp6(bytes(range(250)) * 240)])
def test_segment_of_64_kb_arrives(tmp_path, frame):
    host, made = Host(), armed(tmp_path)
    teach(host)
    assert sent(made, frame, MSS)
    received = host.client.receive()
    assert received == frame, len(received or b"")
    made.disarm()


@pytest.mark.parametrize("build", [rig.tcp, rig.tcp6])
def test_segment_of_64_kb_is_cut_for_a_device_that_cannot(tmp_path, build):
    """With the checksums finished, as for a card without offloads."""
    host = Host()
    switch_checksums_off("c0")
    made = armed(tmp_path)
    teach(host)
    content = bytes(range(250)) * 240
    frame = build(content)
    headers = len(frame) - len(content)
    assert sent(made, frame, MSS)
    collected = b""
    while len(collected) < len(content):
        piece = host.client.receive()
        assert piece is not None
        assert len(piece) <= headers + MSS
        assert _transport_sum(piece) == 0xFFFF
        collected += piece[headers:]
    assert collected == content
    made.disarm()


def test_bridge_keeps_its_address_and_mtu_and_sends_nothing_there(tmp_path):
    host = Host()
    for name in ("p0", "c0"):
        shell(f"ip link set {name} mtu 1400 address fe:fe:00:00:00:0{1 + (name == 'c0')}")
    before = bridge_of_the_host()
    assert (before["mtu"], before["address"]) == (1_400, "fe:fe:00:00:00:01")
    made = armed(tmp_path)
    assert bridge_of_the_host() == before
    assert links.get(made.forward.name).mtu == 1_400
    for destination in (b"\xff" * 6, bytes.fromhex("01005e000001"), bytes.fromhex("020000000099")):
        host.client.send(destination + rig.udp(b"flooded")[6:])
        assert host.primary.receive() is not None
    assert not receive_from(made.forward, rig.SILENCE)
    assert made.forward.counters()["unread_dropped"] == 0
    made.disarm()
    assert bridge_of_the_host() == before


def test_bridge_learns_no_address_from_it(tmp_path):
    host, made = Host(), armed(tmp_path)
    teach(host)
    assert sent(made, rig.udp(b"in the guest's name"))
    assert host.client.receive() is not None
    entries = json.loads(shell("bridge -j fdb show br br0"))
    guest = [entry["ifname"] for entry in entries if entry["mac"] == "02:00:00:00:00:01"]
    assert made.forward.name not in guest
    host.client.send(rig.GUEST_MAC + rig.CLIENT_MAC + rig.udp(b"to the guest")[12:])
    assert host.primary.receive() is not None
    made.disarm()


def test_it_speaks_no_ipv6_of_its_own(tmp_path):
    Host()
    shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
    made = armed(tmp_path)
    assert links.is_quiet(made.forward.name)
    assert "inet6" not in shell(f"ip address show {made.forward.name}")
    made.disarm()


def test_it_follows_the_guest_port(tmp_path):
    Host()
    before = kernel_state()
    made = armed(tmp_path)
    shell("ip link add br7 type bridge")
    for move, expected in (("master br7", "br7"), ("nomaster", None), ("master br0", "br0")):
        shell(f"ip link set p0 {move}")
        assert "forward" in {fault.part for fault in made.check()}
        made.mend()
        assert made.check() == []
        assert links.get(made.forward.name).bridge == expected
    shell("ip link del br7")
    made.disarm()
    assert kernel_state() == before


def switch_checksums_off(device: str) -> None:
    """And with them the cutting of segments, like `ethtool -K DEVICE tx off` (linux/ethtool.h)."""
    siocethtool, ethtool_stxcsum = 0x8946, 0x17
    wanted = ctypes.create_string_buffer(struct.pack("=II", ethtool_stxcsum, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, siocethtool, struct.pack("16sP16x", device.encode(), ctypes.addressof(wanted)))


def bridge_of_the_host() -> dict[str, object]:
    (found,) = json.loads(shell("ip -j link show br0"))
    return {key: found[key] for key in ("mtu", "address")}


def _transport_sum(frame: bytes) -> int:
    """Over pseudo header and segment; all ones if the checksum is right (RFC 1071)."""
    if frame[12:14] == b"\x86\xdd":
        addresses, segment = frame[22:54], frame[54:]
    else:
        addresses, segment = frame[26:34], frame[34:]
    data = addresses + struct.pack(">HH", 6, len(segment)) + segment + bytes(len(segment) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
