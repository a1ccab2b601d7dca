"""Guest ports for a secondary: nothing leaves by them, whoever is alive, and nothing of them is left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colo_bridge.config import Config
from colo_bridge.errors import ColoBridgeError, KernelError, OperatorError
from colo_bridge.kernel import guest_port, links, tap, traffic
from colo_bridge.kernel.protection import NicProtection
from colo_bridge.kernel.tap import VNET_HEADER_BYTES
from colo_bridge.kernel.withdrawal import cleanup
from tests.kernel import rig
from tests.kernel.rig import Host, configuration, kernel_state, receive_from, shell

pytestmark = pytest.mark.namespace

PORT = "s0"
OUTPUT = rig.udp(b"output of the secondary")


class HostWithGuest(Host):
    """The secondary's port is one of ours, with a guest attached to it as QEMU attaches one."""

    def __init__(self) -> None:
        super().__init__()
        shell("ip link del s0")
        guest_port.create(PORT)
        self.guest = rig.attach(PORT)

    def sends_nothing_to_anybody(self) -> bool:
        os.write(self.guest, OUTPUT)
        return self.client.silent()


def armed(config: Config) -> NicProtection:
    made = NicProtection(config.guest, config.nic[0], config)
    made.arm()
    return made


def on_the_bridge() -> None:
    """What nobody should do: with a bridge the frames of an ordinary port would reach the client."""
    shell(f"ip link set {PORT} master br0 up")


def devices() -> str:
    return shell("ip -o link | cut -d: -f2")


def test_a_new_port_is_up_quiet_and_on_no_bridge() -> None:
    shell("sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
    before = devices()
    guest_port.create(PORT, address="02:00:00:00:00:77", owner=1234)
    link = links.get(PORT)
    assert (link.kind, link.up, link.master, link.address) == ("tun", True, None, "02:00:00:00:00:77")
    assert links.is_quiet(PORT)
    told = shell(f"ip -d link show {PORT}")
    assert "persist on" in told
    assert "user 1234" in told
    assert "addrgenmode none" in told
    guest_port.delete(PORT)
    assert devices() == before


def test_without_its_barrier_such_a_frame_would_arrive() -> None:
    """So that silence in the other tests means something."""
    host = HostWithGuest()
    shell(f"tc filter del dev {PORT} ingress")
    on_the_bridge()
    assert host.client.silent()
    os.write(host.guest, OUTPUT)
    assert host.client.receive() == OUTPUT


@contextmanager
def never_protected(_: Config) -> Iterator[None]:
    yield


@contextmanager
def protected(config: Config) -> Iterator[None]:
    made = armed(config)
    yield
    made.disarm()


@contextmanager
def stopped(config: Config) -> Iterator[None]:
    armed(config).disarm()
    yield


@contextmanager
def killed(config: Config) -> Iterator[None]:
    rig.kill(rig.start_child(lambda: armed(config)))
    yield


@contextmanager
def cleaned_up(config: Config) -> Iterator[None]:
    rig.kill(rig.start_child(lambda: armed(config)))
    assert cleanup(config)
    yield


LIVES = [never_protected, protected, stopped, killed, cleaned_up]


@pytest.mark.parametrize("life", LIVES)
def test_what_the_secondary_sends_reaches_nobody(life: Callable[..., Iterator[None]], tmp_path: Path) -> None:
    host = HostWithGuest()
    with life(configuration(tmp_path, "auto")):
        assert links.get(PORT).up
        on_the_bridge()
        assert host.sends_nothing_to_anybody()
        shell(f"ip link set {PORT} nomaster")


def test_the_guest_may_come_and_go(tmp_path: Path) -> None:
    host = HostWithGuest()
    rig.kill(rig.start_child(lambda: armed(configuration(tmp_path, "auto"))))
    on_the_bridge()
    os.close(host.guest)
    host.guest = rig.attach(PORT)
    assert host.sends_nothing_to_anybody()


def test_the_daemon_redirects_it_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    host = HostWithGuest()
    before = kernel_state()
    made = armed(configuration(tmp_path, "auto"))
    assert made.check() == []
    os.write(host.guest, OUTPUT)
    assert receive_from(made.secondary) == VNET_HEADER_BYTES + len(OUTPUT)
    made.secondary.send(bytes(VNET_HEADER_BYTES) + rig.udp(b"input"))
    assert os.read(host.guest, 2_000) == rig.udp(b"input")
    made.disarm()
    assert kernel_state() == before
    assert links.get(PORT).up
    assert traffic.is_barred(PORT)


def test_a_daemon_s_port_is_not_deleted(tmp_path: Path) -> None:
    HostWithGuest()
    made = armed(configuration(tmp_path, "auto"))
    with pytest.raises(OperatorError, match="a daemon uses"):
        guest_port.delete(PORT)
    made.disarm()
    guest_port.delete(PORT)
    assert links.find(PORT) is None


def test_a_foreign_device_is_not_deleted() -> None:
    Host()
    with pytest.raises(OperatorError, match="not made by"):
        guest_port.delete(PORT)
    with pytest.raises(OperatorError, match="no network device"):
        guest_port.delete("nothing0")


def test_a_name_in_use_is_refused_and_its_device_untouched() -> None:
    Host()
    before = kernel_state()
    with pytest.raises(OperatorError, match="exists already"):
        guest_port.create(PORT)
    assert kernel_state() == before


@pytest.mark.parametrize("step", ["quiet", "change", "set_up"])
def test_an_error_on_the_way_leaves_nothing(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise KernelError("refused")

    before = devices()
    monkeypatch.setattr(links, step, refuse)
    with pytest.raises(ColoBridgeError, match="refused"):
        guest_port.create(PORT, address="02:00:00:00:00:77")
    assert devices() == before


def test_a_port_is_barred_before_it_is_up_and_before_it_is_persistent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    set_up, persist = links.set_up, tap.persist
    monkeypatch.setattr(links, "set_up", lambda name: (seen.append(traffic.is_barred(name)), set_up(name)))
    monkeypatch.setattr(tap, "persist", lambda *these: (seen.append(traffic.is_barred(PORT)), persist(*these)))
    guest_port.create(PORT)
    assert seen == [True, True]
