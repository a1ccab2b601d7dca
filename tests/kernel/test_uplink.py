"""A secondary that has gone live: its guest speaks on the bridge, by the daemon and by nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop
from pyroute2 import netns

from colo_bridge.daemon.guard import Guard
from colo_bridge.errors import InternalError, KernelError, OperatorError
from colo_bridge.kernel import links, traffic
from colo_bridge.kernel.secondary_nic import SecondaryNic
from colo_bridge.kernel.tap import VNET_HEADER_BYTES, Tap
from colo_bridge.kernel.withdrawal import Names
from tests.kernel import rig
from tests.kernel.rig import Host, configuration, kernel_state, receive_from, secondary_configuration, shell

pytestmark = pytest.mark.namespace

UPLINK = Names("g1", "net0").uplink
OUTPUT = rig.udp(b"output")
PATIENCE = 30


def armed(directory: Path) -> SecondaryNic:
    config = secondary_configuration(directory)
    made = SecondaryNic(config.guest, config.nic[0], config)
    made.arm()
    return made


def live(directory: Path) -> SecondaryNic:
    made = armed(directory)
    made.go_live()
    return made


def sent(made: SecondaryNic, frame: bytes) -> bool:
    assert made.uplink is not None
    return made.uplink.send(bytes(VNET_HEADER_BYTES) + frame)


def to_guest(data: bytes) -> bytes:
    """A frame from the client."""
    return rig.GUEST_MAC + rig.CLIENT_MAC + rig.udp(data)[12:]


def devices() -> str:
    return shell("ip -o link | cut -d: -f2")


def bridge_of_the_host() -> dict[str, object]:
    (found,) = json.loads(shell("ip -j link show br0"))
    return {key: found[key] for key in ("mtu", "address")}


def test_it_is_an_ordinary_port_of_the_bridge(tmp_path: Path) -> None:
    host = Host()
    made = live(tmp_path)
    assert made.check() == []
    assert sent(made, OUTPUT)
    assert host.client.receive() == OUTPUT
    entries = json.loads(shell("bridge -j fdb show br br0"))
    assert UPLINK in [entry["ifname"] for entry in entries if entry["mac"] == "02:00:00:00:00:01"]
    for frame in (to_guest(b"to the guest"), b"\xff" * 6 + to_guest(b"to everybody")[6:]):
        host.client.send(frame)
        assert receive_from(made.uplink) == VNET_HEADER_BYTES + len(frame)
    assert made.counters()["uplink_unread_dropped"] == 0
    made.disarm()


def test_bridge_keeps_its_address_and_mtu(tmp_path: Path) -> None:
    Host()
    for name in ("p0", "c0"):
        shell(f"ip link set {name} mtu 1400 address fe:fe:00:00:00:0{1 + (name == 'c0')}")
    before = bridge_of_the_host()
    assert (before["mtu"], before["address"]) == (1_400, "fe:fe:00:00:00:01")
    made = live(tmp_path)
    assert bridge_of_the_host() == before
    assert links.get(UPLINK).mtu == 1_400
    made.disarm()
    assert bridge_of_the_host() == before


def test_it_says_nothing_of_its_own(tmp_path: Path) -> None:
    shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=1")
    host = Host()
    shell("sysctl -qw net.ipv6.conf.default.disable_ipv6=0")
    made = live(tmp_path)
    assert links.is_quiet(UPLINK)
    assert host.client.silent()
    made.disarm()


def test_nothing_of_the_guest_reaches_the_bridge_but_by_the_daemon(tmp_path: Path) -> None:
    host = Host()
    made = armed(tmp_path)
    assert made.uplink is None
    assert links.find(UPLINK) is None
    host.secondary.send(OUTPUT)
    assert host.client.silent()
    made.go_live()
    assert host.client.silent()
    host.secondary.send(OUTPUT)
    assert host.client.silent()
    assert traffic.is_redirected("s0")
    assert receive_from(made.secondary) == VNET_HEADER_BYTES + len(OUTPUT)
    made.disarm()


def test_going_live_again_changes_nothing(tmp_path: Path) -> None:
    Host()
    made = live(tmp_path)
    before = made.uplink
    made.go_live()
    assert made.uplink is before
    assert made.check() == []
    made.disarm()


def test_it_is_gone_after_a_clean_stop_and_after_a_killed_daemon(tmp_path: Path) -> None:
    Host()
    before = devices()
    live(tmp_path).disarm()
    assert devices() == before
    rig.kill(rig.start_child(lambda: live(tmp_path)))
    assert devices() == before
    made = live(tmp_path)
    assert made.taken_over
    assert made.check() == []
    made.disarm()


FAULTS: dict[str, Callable[[], object]] = {
    "deleted": lambda: links.delete(UPLINK),
    "down": lambda: links.set_down(UPLINK),
    "off its bridge": lambda: shell(f"ip link set {UPLINK} nomaster"),
    "on another bridge": lambda: shell(f"ip link add br7 type bridge; ip link set {UPLINK} master br7"),
    "another MTU": lambda: shell(f"ip link set br0 mtu 1500; ip link set {UPLINK} mtu 9000"),
    "another MTU of the bridge": lambda: shell("ip link set c0 mtu 1400"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("mending", [SecondaryNic.mend, SecondaryNic.mend_devices], ids=["check", "device"])
def test_fault_is_reported_and_mended(tmp_path: Path, name: str, mending: Callable[[SecondaryNic], object]) -> None:
    host = Host()
    made = live(tmp_path)
    FAULTS[name]()
    assert {fault.part for fault in made.check()} == {"uplink"}
    mending(made)
    assert made.check() == []
    host.client.settled = False
    assert sent(made, OUTPUT)
    assert host.client.receive() == OUTPUT
    made.disarm()


def test_a_device_of_somebody_else_is_reported_and_put_on_no_bridge(tmp_path: Path) -> None:
    Host()
    made = live(tmp_path)
    shell(f"ip link del {UPLINK}; ip tuntap add {UPLINK} mode tap; ip link set {UPLINK} up")
    made.mend()
    assert [fault.problem for fault in made.check()] == [f"{UPLINK} is somebody else's: delete it"]
    assert links.get(UPLINK).master is None
    shell(f"ip link del {UPLINK}")
    made.mend()
    assert made.check() == []
    made.disarm()


def test_a_bridge_made_anew_is_joined_again(tmp_path: Path) -> None:
    Host()
    made = live(tmp_path)
    shell("ip link del br0")
    assert [fault.problem for fault in made.mend_devices()] == ["the bridge br0 is missing"]
    shell("ip link add br0 type bridge; ip link set br0 up")
    made.mend_devices()
    assert made.check() == []
    assert links.get(UPLINK).bridge == "br0"
    made.disarm()


def without_its_bridge(made: SecondaryNic) -> None:
    shell("ip link set br0 name br1")
    with pytest.raises(OperatorError, match="no network device br0"):
        made.go_live()
    shell("ip link set br1 name br0")


def refused_by_the_kernel(made: SecondaryNic) -> None:
    def refuse(name: str) -> None:
        raise KernelError("refused")

    with pytest.MonkeyPatch.context() as refusing:
        refusing.setattr(links, "set_up", refuse)
        with pytest.raises(KernelError, match="refused"):
            made.go_live()


@pytest.mark.parametrize("failing", [without_its_bridge, refused_by_the_kernel])
def test_going_live_that_fails_leaves_nothing_and_may_be_tried_again(
    tmp_path: Path, failing: Callable[[SecondaryNic], None]
) -> None:
    Host()
    made = armed(tmp_path)
    before = kernel_state()
    failing(made)
    assert made.uplink is None
    assert kernel_state() == before
    made.go_live()
    assert made.check() == []
    made.disarm()


def test_a_secondary_without_a_bridge_does_not_go_live(tmp_path: Path) -> None:
    Host()
    config = configuration(tmp_path, "auto")
    made = SecondaryNic(config.guest, config.nic[0], config)
    with pytest.raises(InternalError):
        made.go_live()


def test_it_goes_live_in_a_thread_while_the_loop_and_the_guard_run(tmp_path: Path) -> None:
    Host()
    made = armed(tmp_path)
    guard = Guard([("net0", made)])

    async def scenario() -> None:
        tasks = [asyncio.create_task(work) for work in (guard.run(), guard.follow_devices())]
        async with asyncio.timeout(PATIENCE):
            while not guard.checks:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(made.go_live)
            seen = guard.checks
            while guard.checks < seen + 2:
                await asyncio.sleep(0.01)
        for task in tasks:
            assert not task.done()
            task.cancel()

    uvloop.run(scenario())
    guard.close()
    assert (guard.faults, guard.unprotected_checks) == ((), 0)
    assert guard.kernel["uplink_unread_dropped"] == 0
    made.disarm()


# With real stacks at both ends.


@contextmanager
def far_end(device: str, address: str) -> Iterator[str]:
    """A network namespace that has the device."""
    name = f"cb-t{os.getpid()}-{secrets.token_hex(3)}"
    shell(f"ip netns add {name}")
    try:
        shell(f"ip link set {device} netns {name}; ip -n {name} addr add {address}/24 dev {device}")
        shell(f"ip -n {name} link set {device} up")
        yield name
    finally:
        shell(f"ip netns del {name}")


class Pump(threading.Thread):
    """What a daemon does between the two TAPs, without looking."""

    def __init__(self, one: Tap, other: Tap) -> None:
        super().__init__(daemon=True)
        self._ways = {one.fileno(): (one, other), other.fileno(): (other, one)}
        self._ended = threading.Event()
        self.largest = dict.fromkeys((one.name, other.name), 0)

    def run(self) -> None:
        while not self._ended.is_set():
            for descriptor in select.select(list(self._ways), [], [], 0.01)[0]:
                source, target = self._ways[descriptor]
                if length := source.receive():
                    target.send(memoryview(source.buffer)[:length])
                    self.largest[source.name] = max(self.largest[source.name], length)

    def end(self) -> None:
        self._ended.set()
        self.join()


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def inside(namespace: str, body: Callable[[], bytes]) -> Callable[[], bytes]:
    """A thread is in a namespace by itself."""

    def enter() -> bytes:
        netns.setns(namespace)
        return body()

    return enter


def receive_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while piece := connection.recv(1 << 20):
        data += piece
    return bytes(data)


def test_tcp_with_large_segments_passes_both_ways_also_after_it_was_deleted(tmp_path: Path) -> None:
    upload, download = (os.urandom(1 << 23) for _ in range(2))
    Host()
    made = live(tmp_path)
    pump = Pump(made.secondary, made.uplink)
    listening, half_way, restored = threading.Event(), threading.Event(), threading.Event()

    def serve() -> bytes:
        with socket.create_server(("10.0.0.2", 80)) as server:
            listening.set()
            with server.accept()[0] as connection:
                received = receive_all(connection)
                connection.sendall(download)
        return digest(received)

    def call() -> bytes:
        listening.wait(PATIENCE)
        with socket.create_connection(("10.0.0.2", 80), PATIENCE) as connection:
            connection.sendall(upload[: 1 << 22])
            half_way.set()
            restored.wait(PATIENCE)
            connection.sendall(upload[1 << 22 :])
            connection.shutdown(socket.SHUT_WR)
            return digest(receive_all(connection))

    with far_end("c1", "10.0.0.1") as client, far_end("s1", "10.0.0.2") as guest, ThreadPoolExecutor(2) as ends:
        pump.start()
        results = [ends.submit(inside(guest, serve)), ends.submit(inside(client, call))]
        assert half_way.wait(PATIENCE)
        links.delete(UPLINK)
        made.mend_devices()
        restored.set()
        assert [result.result(PATIENCE) for result in results] == [digest(upload), digest(download)]
        pump.end()
    print("largest frames", pump.largest)
    assert min(pump.largest.values()) > 60_000
    made.disarm()
