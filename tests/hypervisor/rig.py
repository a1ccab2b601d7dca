"""Two guests in QEMU's COLO behind the real daemon, and a client, in private namespaces of the caller's."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient

from colo_bridge.daemon import client

PARTS = Path(os.environ.get("COLO_BRIDGE_HYPERVISOR", "build/hypervisor")).resolve()
"""What scripts/test-hypervisor has put together."""
CLIENT = "cb-client"
GUEST = "10.77.0.2"
_MEGABYTES = 128
_SECONDS = 120.0
_NETWORK = f"""
ip link set lo up
ip link add br0 type bridge mcast_snooping 0
ip link set br0 addrgenmode none up
ip netns add {CLIENT}
ip link add cb-c type veth peer name eth0 netns {CLIENT}
ip link set cb-c addrgenmode none master br0 up
ip -n {CLIENT} link set eth0 address 02:00:00:00:00:01 up
ip -n {CLIENT} address add 10.77.0.1/24 dev eth0
ip tuntap add mode tap name cb-p
ip tuntap add mode tap name cb-s
ip link set cb-p addrgenmode none master br0 up
"""


def wait_until(condition: Callable[[], object], what: str, seconds: float = _SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


class Guest:
    """One replica: its QEMU, with one protocol socket for the daemon and one for whoever starts COLO."""

    def __init__(self, directory: Path, name: str, port: str, *arguments: str) -> None:
        self.qmp, self._operators = directory / f"{name}.qmp", directory / f"{name}.operator"
        self.console = directory / f"{name}.console"
        sockets = (f"unix:{path},server=on,wait=off" for path in (self.qmp, self._operators))
        command = [
            *(str(PARTS / "qemu/qemu"), "-M", "pc", "-accel", "tcg", "-m", str(_MEGABYTES), "-nodefaults"),
            *("-display", "none", "-serial", f"file:{self.console}", "-rtc", "base=2026-01-01,clock=vm"),
            *("-kernel", str(PARTS / "guest/vmlinuz"), "-initrd", str(PARTS / "guest/initrd.gz")),
            *("-append", "console=ttyS0 quiet panic=-1"),
            *("-netdev", f"tap,id=net0,ifname={port},script=no,downscript=no,vhost=off"),
            *("-device", "virtio-net-pci,netdev=net0,mac=02:00:00:00:00:02"),
            *(word for socket in sockets for word in ("-qmp", socket)),
            *arguments,
        ]
        environment = {**os.environ, "LD_PRELOAD": str(PARTS / "colo_without_kvm.so")}
        self.log = (directory / f"{name}.log").open("wb")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)

    def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        return asyncio.run(self._execute(command, arguments))

    async def _execute(self, command: str, arguments: Mapping[str, object] | None) -> Any:
        connection = QMPClient()
        await connection.connect(str(self._operators))
        answer = await connection.execute(command, dict(arguments) if arguments else None)
        await connection.disconnect()
        return answer

    def wait_for_its_sockets(self) -> None:
        wait_until(lambda: self.qmp.exists() and self._operators.exists(), "QEMU's sockets")

    def boot(self) -> None:
        wait_until(
            lambda: self.console.exists() and "GUEST READY" in self.console.read_text(errors="replace"), "a boot"
        )

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


class Rig:
    """Everything, made in the current namespaces, which go with the process."""

    def __init__(self, directory: Path) -> None:
        for line in _NETWORK.strip().splitlines():
            subprocess.run(line.split(), check=True)
        self.directory = directory
        self._run_dir = directory / "run"
        self._configuration = directory / "web.toml"
        self._configuration.write_text(
            f'role = "primary"\nguest = "web"\nrun_dir = "{self._run_dir}"\nevidence = false\n'
            '[[nic]]\nprimary_port = "cb-p"\nsecondary_port = "cb-s"\nqueue = 700\n'
            "[firewall]\nipv6 = false\n"
            f'[checkpoint]\nprovider = "qmp"\n'
            f'qmp_primary = "{directory}/primary.qmp"\nqmp_secondary = "{directory}/secondary.qmp"\n'
        )
        self.log = (directory / "daemon.log").open("wb")
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "colo_bridge", "run", str(self._configuration)], stdout=self.log, stderr=self.log
        )
        wait_until(lambda: self.state() == "protected", "the daemon protects")
        migration = f"unix:{directory}/migration"
        self.secondary = Guest(directory, "secondary", "cb-s", "-incoming", migration)
        self.primary = Guest(directory, "primary", "cb-p")
        self._begin_colo(migration)

    def _begin_colo(self, migration: str) -> None:
        guests = (self.primary, self.secondary)
        for guest in guests:
            guest.wait_for_its_sockets()
        self.primary.boot()
        colo = [{"capability": "x-colo", "state": True}]
        for guest in guests:
            guest.execute("migrate-set-capabilities", {"capabilities": colo})
        self.primary.execute("migrate-set-parameters", {"x-checkpoint-delay": 1_000_000, "max-bandwidth": 1 << 33})
        self.primary.execute("migrate", {"uri": migration})
        wait_until(lambda: self.checkpoints()["done"] >= 1, "the first checkpoint")

    def status(self) -> dict[str, Any]:
        return client.ask(self._run_dir / "web.sock", "status")

    def state(self) -> object:
        assert self.daemon.poll() is None, (self.directory / "daemon.log").read_text()
        return self.status()["state"] if (self._run_dir / "web.sock").exists() else None

    def checkpoints(self) -> dict[str, int]:
        return self.status()["checkpoints"]

    def replica(self, name: str) -> str:
        return self.status()["checkpoint"]["replicas"][name]

    def get(self, path: str, seconds: float = 30.0) -> bytes:
        """What the service answers to the client; a connection of its own."""
        curl = ["curl", "-sS", "--max-time", str(seconds), f"http://{GUEST}{path}"]
        done = subprocess.run(["ip", "netns", "exec", CLIENT, *curl], capture_output=True, check=False)
        assert done.returncode == 0, (done.stderr, json.dumps(self.status(), indent=1))
        return done.stdout

    def end(self) -> None:
        for guest in (self.primary, self.secondary):
            guest.end()
        self.daemon.terminate()
        self.daemon.wait(20)
        self.log.close()
