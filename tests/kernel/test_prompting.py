"""What real TCP stacks make of the frames that get their connections going again."""

import contextlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from colo_bridge.rewrite import RewriteLimits, Rewriter
from colo_bridge.wire.checksum import finish_tcp
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.ip_header import ip_header
from colo_bridge.wire.packet import ACK, SYN, MalformedPacket, TcpPacket
from colo_bridge.wire.serial import Serial, serial_plus
from colo_bridge.wire.unreachable import unreachable
from tests.kernel.rig import Host, Wire, shell

HERE, FAR = {4: "10.9.0.1", 6: "fd09::1"}, {4: "10.9.0.2", 6: "fd09::2"}
FAR_MAC = bytes.fromhex("0200000000bb")
PORT = 80
TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
PAYLOAD = b"an upload"
families = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])


@dataclass
class FarEnd:
    """Who the kernel's TCP talks to: frames by hand, at the far end of the bridge."""

    wire: Wire
    family: int
    mac: bytes

    def segment(
        self, ports: bytes, sequence: Serial, acknowledgment: Serial, flags: int, payload: bytes = b""
    ) -> bytes:
        body = b"".join(
            (
                *(ports, sequence.to_bytes(4, "big"), acknowledgment.to_bytes(4, "big")),
                *((5 << 12 | flags).to_bytes(2, "big"), (1000).to_bytes(2, "big"), bytes(4), payload),
            )
        )
        addresses = ip_address(FAR[self.family]).packed + ip_address(HERE[self.family]).packed
        packet = bytearray(ip_header(addresses, 6, len(body)) + body)
        finish_tcp(packet, 0, len(packet) - len(body), len(packet))
        return self.mac + FAR_MAC + TYPES[self.family] + bytes(packet)

    def next(self, wanted: Callable[[TcpPacket], bool], timeout: float = 5.0) -> tuple[bytearray, TcpPacket]:
        """The next segment of the kernel's that is wanted."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            frame = bytearray(self.wire.receive(left) or b"")
            with contextlib.suppress(MalformedPacket):
                packet = parse_frame(frame, 0, len(frame)) if frame else None
                if isinstance(packet, TcpPacket) and wanted(packet):
                    return frame, packet
        raise AssertionError(f"no such segment within {timeout} s")


def far_end(family: int) -> FarEnd:
    host = Host()
    Path("/proc/sys/net/ipv6/conf/c1/disable_ipv6").write_text("0")
    shell(f"ip address add {HERE[4]}/24 dev c1; ip address add {HERE[6]}/64 dev c1 nodad")
    shell(f"ip neighbour replace {FAR[family]} lladdr {FAR_MAC.hex(':')} dev c1 nud permanent")
    (card,) = json.loads(shell("ip -j link show c1"))
    mac = bytes.fromhex(card["address"].replace(":", ""))
    return FarEnd(host.primary, family, mac)


def ports_of(packet: TcpPacket) -> bytes:
    """As the far end sends them."""
    return packet.connection[-2:] + packet.connection[-4:-2]


@pytest.mark.namespace
@families
def test_a_client_in_the_middle_of_a_long_wait_repeats_at_once(family: int) -> None:
    far = far_end(family)
    client = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
    client.setblocking(False)
    client.connect_ex((FAR[family], PORT))
    _, syn = far.next(lambda packet: bool(packet.flags & SYN))
    far.wire.send(far.segment(ports_of(syn), Serial(1000), serial_plus(syn.sequence, 1), SYN | ACK))
    far.next(lambda packet: packet.flags & (SYN | ACK) == ACK)
    client.send(PAYLOAD)
    times = []
    for _ in range(4):
        _, data = far.next(lambda packet: packet.payload < packet.end)
        times.append(time.monotonic())
    # The first one, and three repetitions: the next wait would be twice the last.
    long_wait = 2 * (times[-1] - times[-2])
    for _ in range(3):
        far.wire.send(far.mac + FAR_MAC + TYPES[family] + unreachable(data.connection, data.sequence))
    far.next(lambda packet: packet.payload < packet.end)
    assert time.monotonic() - times[-1] < long_wait / 2
    # Nothing has happened to the connection.
    far.wire.send(far.segment(ports_of(data), Serial(1001), serial_plus(data.sequence, len(PAYLOAD)), ACK, b"thanks"))
    client.setblocking(True)
    client.settimeout(5)
    assert client.recv(100) == b"thanks"


@pytest.mark.namespace
@families
def test_a_guest_repeats_what_it_has_acknowledged(family: int) -> None:
    far = far_end(family)
    server = socket.create_server((HERE[family], PORT), family=socket.AF_INET if family == 4 else socket.AF_INET6)
    rewriter = Rewriter(RewriteLimits(), 0)

    def to_guest(frame: bytes) -> None:
        buffer = bytearray(frame)
        rewriter.ingress(buffer, 0, len(buffer), False, 0.0)
        far.wire.send(bytes(buffer))

    def from_guest(wanted: Callable[[TcpPacket], bool]) -> TcpPacket:
        frame, packet = far.next(wanted)
        rewriter.egress(frame, 0, len(frame), True, 0.0)
        return packet

    ports = (5000).to_bytes(2, "big") + PORT.to_bytes(2, "big")
    to_guest(far.segment(ports, Serial(100), Serial(0), SYN))
    answer = from_guest(lambda packet: bool(packet.flags & SYN))
    following = serial_plus(answer.sequence, 1)
    to_guest(far.segment(ports, Serial(101), following, ACK))
    to_guest(far.segment(ports, Serial(101), following, ACK, PAYLOAD))
    from_guest(lambda packet: packet.acknowledgment == 101 + len(PAYLOAD))
    (prompt,) = rewriter.prompts(1)
    far.wire.send(prompt.question())
    repeated = from_guest(lambda packet: packet.payload == packet.end)
    assert (repeated.sequence, repeated.acknowledgment) == (following, 101 + len(PAYLOAD))
    server.close()
