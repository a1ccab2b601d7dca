"""A host that has only the secondary: what that sends reaches nobody, whatever becomes of the daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colo_bridge.cli.main import main
from colo_bridge.config import Config
from colo_bridge.errors import KernelError, OperatorError
from colo_bridge.kernel import guest_port, links, traffic
from colo_bridge.kernel.secondary_nic import SecondaryNic
from colo_bridge.kernel.tap import VNET_HEADER_BYTES
from colo_bridge.kernel.withdrawal import Names, cleanup
from tests.kernel import rig
from tests.kernel.rig import Host, kernel_state, receive_from, secondary_configuration, secondary_file, shell

pytestmark = pytest.mark.namespace

OUTPUT = rig.udp(b"output of the secondary")
NAMES = Names("g1", "net0")


def armed(config: Config) -> SecondaryNic:
    made = SecondaryNic(config.guest, config.nic[0], config)
    made.arm()
    return made


def assert_in_force(host: Host, made: SecondaryNic) -> None:
    assert made.check() == []
    host.secondary.settled = False
    host.secondary.send(OUTPUT)
    assert receive_from(made.secondary) == VNET_HEADER_BYTES + len(OUTPUT)
    made.secondary.send(bytes(VNET_HEADER_BYTES) + rig.udp(b"input"))
    assert host.secondary.receive() == rig.udp(b"input")
    assert host.client.silent()


def sends_to_nobody(host: Host) -> bool:
    host.secondary.settled = True
    host.secondary.send(OUTPUT)
    return host.client.silent()


def is_kept_in() -> bool:
    """Whatever the port does, its frames go to a device of ours or to none."""
    return traffic.has_filters("s0")


def on_the_bridge() -> None:
    """What nobody should do: with a bridge the frames of a free port would reach the client."""
    shell("ip link set s0 master br0 up")


def test_it_works_without_a_primary(tmp_path: Path) -> None:
    host = Host()
    shell("ip link set p0 nomaster; ip link del p0")
    made = armed(secondary_configuration(tmp_path))
    assert not made.taken_over
    assert_in_force(host, made)
    assert links.find(NAMES.mirror) is None
    assert "NFQUEUE" not in shell("iptables-legacy -t mangle -S; iptables-nft -t mangle -S")
    assert made.counters().keys() >= {"secondary_unread_dropped", "secondary_discarded_vlan"}
    made.disarm()


def test_without_its_redirect_such_a_frame_would_arrive() -> None:
    """So that silence in the other tests means something."""
    host = Host()
    on_the_bridge()
    host.secondary.send(OUTPUT)
    assert host.client.receive() == OUTPUT


def test_the_port_is_up_only_with_its_redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Host()
    set_up, seen = links.set_up, []

    def look_and_set_up(name: str) -> None:
        seen.append((name, traffic.is_redirected("s0"), links.is_quiet("s0")))
        set_up(name)

    monkeypatch.setattr(links, "set_up", look_and_set_up)
    made = armed(secondary_configuration(tmp_path))
    assert seen == [(NAMES.secondary, True, True), ("s0", True, True)]
    made.disarm()


def recreate_port() -> None:
    shell("ip link del s0; ip link add s0 type veth peer name s1; ip link set s1 up")


FAULTS: dict[str, tuple[str, Callable[[], object]]] = {
    "filter of the port": ("redirect", lambda: shell("tc filter del dev s0 ingress pref 203")),
    "filter of the tap": ("redirect", lambda: shell(f"tc filter del dev {NAMES.secondary} ingress")),
    "discard": ("discard", lambda: shell("tc filter del dev s0 ingress pref 202")),
    "port made anew": ("redirect", recreate_port),
    "port down": ("port", lambda: links.set_down("s0")),
    "tap down": ("tap", lambda: links.set_down(NAMES.secondary)),
    "tap deleted": ("tap", lambda: links.delete(NAMES.secondary)),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("mending", [SecondaryNic.mend, SecondaryNic.mend_devices], ids=["check", "device"])
def test_fault_is_reported_and_mended(tmp_path: Path, name: str, mending: Callable[[SecondaryNic], object]) -> None:
    host = Host()
    made = armed(secondary_configuration(tmp_path))
    part, fault = FAULTS[name]
    fault()
    assert part in {fault.part for fault in made.check()}
    mending(made)
    if name == "port made anew":
        host.secondary = rig.Wire("s1")
    assert_in_force(host, made)
    made.disarm()


def test_port_on_a_bridge_is_refused_and_put_down(tmp_path: Path) -> None:
    Host()
    config = secondary_configuration(tmp_path)
    shell("ip link set s0 master br0")
    with pytest.raises(OperatorError, match="secondary's port"):
        armed(config)
    shell("ip link set s0 nomaster")
    made = armed(config)
    shell("ip link set s0 master br0")
    assert {fault.part for fault in made.mend_devices()} == {"port"}
    assert not links.get("s0").up
    shell("ip link set s0 nomaster")
    made.mend()
    assert made.check() == []
    made.disarm()


@pytest.mark.parametrize("step", ["set_up", "quiet"])
def test_failed_arm_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    Host()
    shell("sysctl -qw net.ipv6.conf.s0.disable_ipv6=0")
    before = kernel_state()
    take = getattr(links, step)

    def refuse(name: str) -> None:
        if name == "s0":
            raise KernelError("refused")
        take(name)

    monkeypatch.setattr(links, step, refuse)
    with pytest.raises(KernelError, match="refused"):
        armed(secondary_configuration(tmp_path))
    assert kernel_state() == before
    assert not links.get("s0").up


# What becomes of it.


@contextmanager
def in_force(config: Config) -> Iterator[None]:
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
def killed_while_live(config: Config) -> Iterator[None]:
    rig.kill(rig.start_child(lambda: armed(config).go_live()))
    yield


@contextmanager
def not_cleaned_up(config: Config) -> Iterator[None]:
    rig.kill(rig.start_child(lambda: armed(config)))
    with pytest.raises(OperatorError, match="keeps in what the secondary sends"):
        cleanup(config)
    yield


@contextmanager
def not_succeeded(config: Config) -> Iterator[None]:
    """The next daemon can't begin, for its bridge is missing."""
    armed(config).disarm()
    other = config.nic[0].model_copy(update={"bridge": "br9"})
    with pytest.raises(OperatorError, match="br9"):
        armed(config.model_copy(update={"nic": (other,)}))
    yield


@contextmanager
def succeeded(config: Config) -> Iterator[None]:
    rig.kill(rig.start_child(lambda: armed(config)))
    armed(config).disarm()
    yield


LIVES = [in_force, stopped, killed, killed_while_live, not_cleaned_up, not_succeeded, succeeded]


@pytest.mark.parametrize("life", LIVES)
def test_what_the_secondary_sends_reaches_nobody(life: Callable[..., Iterator[None]], tmp_path: Path) -> None:
    host = Host()
    with life(secondary_configuration(tmp_path)):
        assert links.get("s0").up
        assert is_kept_in()
        on_the_bridge()
        assert sends_to_nobody(host)
        shell("ip link set s0 nomaster")


@pytest.mark.parametrize("ending", [stopped, killed])
@pytest.mark.parametrize("state", ["kept", "lost"])
def test_the_next_daemon_takes_it_over(ending: Callable[..., Iterator[None]], state: str, tmp_path: Path) -> None:
    host, config = Host(), secondary_configuration(tmp_path)
    with ending(config):
        if state == "lost":
            config.state_file.unlink()
        made = armed(config)
        assert made.taken_over
        assert_in_force(host, made)
        made.disarm()


@pytest.mark.parametrize("ending", [stopped, killed])
def test_forced_cleanup_puts_the_port_down_before_it_takes_everything_out(
    ending: Callable[..., Iterator[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, config = Host(), secondary_configuration(tmp_path)
    shell("sysctl -qw net.ipv6.conf.s0.disable_ipv6=0")
    before = kernel_state()
    with ending(config):
        remove, seen = traffic.remove, []
        monkeypatch.setattr(traffic, "remove", lambda device: (seen.append(links.get(device).up), remove(device))[1])
        removed = cleanup(config, force=True)
        assert seen == [False]
        assert [line.split()[0] for line in removed] == [*["filter"] * 3, "qdisc", "IPv6"]
        assert kernel_state() == before
        assert not links.get("s0").up
        assert not config.state_file.exists()
        shell("ip link set s0 master br0")
        assert sends_to_nobody(host)
        assert cleanup(config) == []


def test_the_command_frees_the_port_only_when_forced(tmp_path: Path) -> None:
    Host()
    file = tmp_path / "g1.toml"
    file.write_text(secondary_file(tmp_path))
    armed(secondary_configuration(tmp_path)).disarm()
    assert main(["cleanup", str(file)]) == 2
    assert is_kept_in()
    assert main(["cleanup", "--force", str(file)]) == 0
    assert not is_kept_in()


def test_forced_cleanup_refuses_while_the_daemon_runs(tmp_path: Path) -> None:
    Host()
    config = secondary_configuration(tmp_path)
    child = rig.start_child(lambda: armed(config))
    with pytest.raises(OperatorError, match="still runs"):
        cleanup(config, force=True)
    rig.kill(child)
    assert is_kept_in()


def test_cleanup_needs_no_force_once_the_port_is_gone(tmp_path: Path) -> None:
    Host()
    config = secondary_configuration(tmp_path)
    armed(config).disarm()
    shell("ip link del s0")
    assert cleanup(config) == []
    assert not config.state_file.exists()


def test_a_port_with_a_barrier_stays_up_also_when_forced(tmp_path: Path) -> None:
    host, config = Host(), secondary_configuration(tmp_path)
    shell("ip link del s0")
    guest_port.create("s0")
    guest = rig.attach("s0")
    armed(config).disarm()
    with pytest.raises(OperatorError, match="keeps in"):
        cleanup(config)
    assert cleanup(config, force=True)
    assert links.get("s0").up
    on_the_bridge()
    os.write(guest, OUTPUT)
    assert host.client.silent()


def test_a_missing_bridge_is_refused_and_reported(tmp_path: Path) -> None:
    Host()
    config = secondary_configuration(tmp_path)
    before = kernel_state()
    for name in ("br9", "c0"):
        other = config.nic[0].model_copy(update={"bridge": name})
        with pytest.raises(OperatorError, match=name):
            armed(config.model_copy(update={"nic": (other,)}))
    assert kernel_state() == before
    made = armed(config)
    shell("ip link del br0")
    assert [fault.problem for fault in made.check()] == ["the bridge br0 is missing"]
    assert made.devices >= {"br0", "s0", NAMES.secondary, NAMES.uplink}
    made.disarm()
