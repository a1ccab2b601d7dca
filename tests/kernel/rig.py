"""Devices, frames and child processes for tests that run against the real kernel."""

import fcntl
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import time
import traceback
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path

from pyroute2 import netns

from colo_bridge.config import Config, parse
from colo_bridge.kernel.nfqueue import PacketQueue
from colo_bridge.kernel.tap import Tap

VNET_HEADER = struct.Struct("=BBHHHH")
PACKET_VNET_HEADER, PACKET_IGNORE_OUTGOING = 15, 23
GUEST_MAC, CLIENT_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
IPV6_ADDRESSES = IPv6Address("fd00::2").packed + IPv6Address("fd00::1").packed
TUNSETIFF, TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
PATIENCE = 5.0
SILENCE = 0.15


def shell(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def until(condition: Callable[[], bool], what: str = "condition") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {PATIENCE} s"
        time.sleep(0.005)


def run_in_namespace(body: Callable[[], None]) -> None:
    """Run a test's body in a child that lives in a network namespace of its own."""
    name = f"cb-t{os.getpid()}-{secrets.token_hex(3)}"
    shell(f"ip netns add {name}")
    try:
        report = in_child(lambda: (netns.setns(name), shell("ip link set lo up"), _quiet_default(), body()))
        assert not report, report
    finally:
        shell(f"ip netns del {name}")


def in_child(body: Callable[[], object]) -> str:
    """Traceback of what `body` raised in a forked child, empty if nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 0
        try:
            body()
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-60_000:])
            status = 1
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        report = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return report or (f"the child ended with {status}" if status else "")


def start_child(body: Callable[[], object]) -> int:
    """Fork; the child runs `body`, says so through a pipe, then waits to be killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            body()
            os.write(writing, b"ready")
            signal.pause()
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read(5)
        assert said == b"ready", (said + pipe.read()).decode()
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _quiet_default() -> None:
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
    # Ordinary hosts have the bridge hook off for everybody.
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("0")
    Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables").write_text("0")


class Wire:
    """The far end of a device: sends and receives whole frames, with 64 KB segments."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.settled = False
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(263, PACKET_VNET_HEADER, 1)
        self.socket.setsockopt(263, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
        self.socket.bind((device, 0))

    def send(self, frame: bytes, *, segment: int = 0) -> None:
        if not self.settled:
            self._await_carrier()
        self.socket.send((offload(frame, segment) if segment else bytes(10)) + frame)

    def receive(self, timeout: float = PATIENCE) -> bytes | None:
        """The next frame without its virtio-net header, None after `timeout` seconds."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return None
        return self.socket.recv(1 << 17)[VNET_HEADER.size :]

    def _await_carrier(self) -> None:
        """A device drops everything silently for a moment after its peer came up."""
        until(lambda: " qdisc noop " not in shell(f"ip -o link show {self.device}"), "the carrier")
        self.settled = True

    def silent(self) -> bool:
        return self.receive(SILENCE) is None

    def close(self) -> None:
        self.socket.close()


def attach(name: str) -> int:
    """A guest at this persistent TAP, as QEMU attaches one: frames without a header."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP_WITHOUT_HEADER))
    return descriptor


def ipv4(payload: bytes, *, ident: int = 0, protocol: int = 17) -> bytes:
    total = 20 + len(payload)
    header = struct.pack(">BBHHHBBH", 0x45, 0, total, ident, 0x4000, 64, protocol, 0) + bytes(
        [10, 0, 0, 2, 10, 0, 0, 1]
    )
    return header[:10] + _checksum(header) + header[12:] + payload


def ipv6(payload: bytes, *, protocol: int = 17) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + IPV6_ADDRESSES + payload


def offload(frame: bytes, segment: int) -> bytes:
    """The virtio-net header of a TCP segment that is to be cut, its checksum still to be finished."""
    kind, tcp_at = (4, 54) if frame[12:14] == b"\x86\xdd" else (1, 34)
    return VNET_HEADER.pack(1, kind, tcp_at + 20, segment, tcp_at, 16)


def frame(packet: bytes, *, ethernet_type: int = 0x0800) -> bytes:
    return CLIENT_MAC + GUEST_MAC + struct.pack(">H", ethernet_type) + packet


def udp(data: bytes, *, ident: int = 0) -> bytes:
    """A frame from the guest to the client, without a UDP checksum."""
    return frame(ipv4(struct.pack(">HHHH", 7, 7, 8 + len(data), 0) + data, ident=ident))


def udp6(data: bytes) -> bytes:
    """A frame from the guest to the client, without a UDP checksum."""
    return frame(ipv6(struct.pack(">HHHH", 7, 7, 8 + len(data), 0) + data), ethernet_type=0x86DD)


def tcp(data: bytes, *, ident: int = 0) -> bytes:
    """A segment from the guest; its checksum is the pseudo header's, as offloads leave it."""
    return frame(ipv4(_segment(data, bytes([10, 0, 0, 2, 10, 0, 0, 1]), ident), ident=ident, protocol=6))


def tcp6(data: bytes) -> bytes:
    return frame(ipv6(_segment(data, IPV6_ADDRESSES, 0), protocol=6), ethernet_type=0x86DD)


def _segment(data: bytes, addresses: bytes, ident: int) -> bytes:
    pseudo = addresses + struct.pack(">HH", 6, 20 + len(data))
    seed = bytes(byte ^ 0xFF for byte in _checksum(pseudo))
    return struct.pack(">HHIIBBH", 7, 7, ident, 0, 0x50, 0x10, 0xFFFF) + seed + b"\0\0" + data


def ident_of(data: bytes | bytearray | memoryview, start: int = 14) -> int:
    return int.from_bytes(data[start + 4 : start + 6], "big")


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


class Host:
    """A bridge br0 with the primary's port p0 and the client's c0; the secondary's port s0 alone."""

    def __init__(self) -> None:
        shell("ip link add br0 type bridge forward_delay 0 mcast_snooping 0")
        for name in ("p", "c", "s"):
            shell(f"ip link add {name}0 type veth peer name {name}1")
        for name in ("p0", "c0"):
            shell(f"ip link set {name} master br0")
        for name in ("br0", "p0", "p1", "c0", "c1", "s1"):
            shell(f"ip link set {name} up")
        self.primary, self.client, self.secondary = Wire("p1"), Wire("c1"), Wire("s1")


def configuration(directory: Path, backend: str, extra: str = "") -> Config:
    return parse(
        f"""
        role = "primary"
        guest = "g1"
        run_dir = "{directory}"
        {extra}
        [[nic]]
        primary_port = "p0"
        secondary_port = "s0"
        queue = 7
        [firewall]
        backend = "{backend}"
        """
    )


def primary_configuration(directory: Path, backend: str = "auto") -> Config:
    """Of a host that has only the primary."""
    return parse(
        f"""
        role = "primary"
        guest = "g1"
        run_dir = "{directory}"
        [[nic]]
        primary_port = "p0"
        queue = 7
        [link]
        listen = "127.0.0.1:9000"
        [firewall]
        backend = "{backend}"
        """
    )


def secondary_configuration(directory: Path) -> Config:
    return parse(secondary_file(directory))


def secondary_file(directory: Path) -> str:
    """Of a host that has only the secondary."""
    return f"""
        role = "secondary"
        guest = "g1"
        run_dir = "{directory}"
        [[nic]]
        secondary_port = "s0"
        bridge = "br0"
        [link]
        peer = "127.0.0.1:9000"
        """


def receive_from(source: PacketQueue | Tap, timeout: float = PATIENCE) -> object:
    """Wait for the next thing of a PacketQueue or Tap; its `receive` value, falsy on timeout."""
    if not select.select([source], [], [], timeout)[0]:
        return None
    return source.receive()


def kernel_state() -> str:
    """All that a protection could leave behind in this namespace."""
    commands = [
        *(f"{family}-legacy-save -t mangle | grep '^-A'" for family in ("iptables", "ip6tables")),
        *(f"{family}-nft-save | grep '^-A'" for family in ("iptables", "ip6tables")),
        "tc qdisc show | grep -E 'clsact|ingress'",
        *(f"tc filter show dev {device} {side}" for device in ("p0", "s0", "c0") for side in ("ingress", "egress")),
        "ip -d -o link | sed 's/<[^>]*>//; s/ state [A-Z]*//; s/ qdisc [a-z]*//; s/ [a-z_]*_timer *[0-9.]*//g'",
        "ip -d -o link show br0 | grep -o 'nf_call_[a-z0-9]* [01]'",
        "ls /proc/sys/net/ipv6/conf; cat /proc/sys/net/ipv6/conf/*/disable_ipv6",
    ]
    return "\n".join(
        subprocess.run(command, shell=True, capture_output=True, text=True, check=False).stdout for command in commands
    )
