"""A host that has only the primary: its half is armed, checked, mended and taken out by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from colo_bridge.config import Config
from colo_bridge.errors import OperatorError
from colo_bridge.kernel import bridge, links, traffic
from colo_bridge.kernel.bridge import Hook
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.primary_nic import PrimaryNic
from colo_bridge.kernel.tap import VNET_HEADER_BYTES
from colo_bridge.kernel.withdrawal import Names, cleanup
from tests.kernel import rig
from tests.kernel.rig import Host, kernel_state, primary_configuration, receive_from, shell
from tests.packets import arp

pytestmark = pytest.mark.namespace

UNVERIFIED = rig.udp(b"unverified")


def primary(config: Config) -> PrimaryNic:
    return PrimaryNic(config.guest, config.nic[0], config)


def armed(config: Config) -> PrimaryNic:
    made = primary(config)
    made.arm()
    return made


def assert_in_force(host: Host, made: PrimaryNic) -> None:
    assert made.check() == []
    host.primary.send(UNVERIFIED)
    packet_id, *_ = receive_from(made.queue)
    assert host.client.silent()
    made.queue.accept(packet_id)
    made.queue.flush()
    assert host.client.receive() == UNVERIFIED
    host.client.send(rig.udp(b"input"))
    assert receive_from(made.mirror) == VNET_HEADER_BYTES + len(rig.udp(b"input"))
    assert host.primary.receive() == rig.udp(b"input")


def test_it_works_without_a_secondary_and_leaves_nothing(backend: str, tmp_path: Path) -> None:
    host, config = Host(), primary_configuration(tmp_path, backend)
    shell("ip link del s0")
    before = kernel_state()
    made = armed(config)
    assert_in_force(host, made)
    assert links.find(Names("g1", "net0").secondary) is None
    assert {"queue_waiting", "mirror_unread_dropped", "forward_unread_dropped"} <= made.counters().keys()
    made.disarm()
    assert kernel_state() == before
    assert not config.state_file.exists()


def test_a_silent_guest_does_not_even_answer_arp(backend: str, tmp_path: Path) -> None:
    host, config = Host(), primary_configuration(tmp_path, backend)
    made = armed(config)
    answer = arp()
    host.primary.send(answer)
    assert host.client.receive() == answer
    made.silence(True)
    assert made.check() == []
    for frame in (answer, UNVERIFIED):
        host.primary.send(frame)
    assert host.client.silent()
    assert made.counters()["primary_discarded_everything"] == 2
    # It stays so for whoever begins silent, and is over for whoever does not.
    made.close()
    successor = PrimaryNic(config.guest, config.nic[0], config, silent=True)
    successor.arm()
    host.primary.send(answer)
    assert host.client.silent()
    successor.silence(False)
    assert_in_force(host, successor)
    successor.disarm()


def test_a_secondary_port_of_somebody_is_not_touched(tmp_path: Path) -> None:
    Host()
    made = armed(primary_configuration(tmp_path))
    assert not links.get("s0").up
    assert not traffic.has_filters("s0")
    assert "s0" not in made.devices
    made.disarm()


def test_nothing_is_diverted_before_somebody_can_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Host()
    divert, seen = PrimaryNic._divert, []

    def look_and_divert(made: PrimaryNic) -> None:
        seen.append((made.queue.is_bound(), links.get(made.mirror.name).up, made._problem_of_detours()))
        divert(made)

    monkeypatch.setattr(PrimaryNic, "_divert", look_and_divert)
    armed(primary_configuration(tmp_path)).disarm()
    assert seen == [(True, True, "")]


FAULTS: dict[str, Callable[[PrimaryNic], object]] = {
    "hook": lambda _: bridge.set_hook(Hook("br0", Family.IPV4), False),
    "rule": lambda _: shell("iptables-legacy -t mangle -F; iptables-nft -t mangle -F"),
    "mirror": lambda _: shell("tc filter del dev p0 egress"),
    "discard": lambda _: shell("tc filter del dev p0 ingress pref 201"),
    "tap": lambda made: shell(f"ip link del {made.mirror.name}"),
    "forward": lambda made: shell(f"ip link set {made.forward.name} nomaster"),
}


@pytest.mark.parametrize("part", FAULTS)
def test_fault_is_reported_and_mended(tmp_path: Path, part: str) -> None:
    host = Host()
    made = armed(primary_configuration(tmp_path))
    FAULTS[part](made)
    assert part in {fault.part for fault in made.check()}
    made.mend()
    assert_in_force(host, made)
    made.disarm()


def test_killed_daemon_blocks_until_it_is_succeeded_or_cleaned_up(backend: str, tmp_path: Path) -> None:
    host, config = Host(), primary_configuration(tmp_path, backend)
    before = kernel_state()
    for ending in ("successor", "cleanup"):
        rig.kill(rig.start_child(lambda: armed(config)))
        host.primary.send(UNVERIFIED)
        assert host.client.silent()
        if ending == "successor":
            made = armed(config)
            assert made.taken_over
            assert_in_force(host, made)
            made.disarm()
        else:
            assert cleanup(config)
        assert kernel_state() == before
    host.primary.send(UNVERIFIED)
    assert host.client.receive() == UNVERIFIED


def test_cleanup_refuses_while_the_daemon_runs(tmp_path: Path) -> None:
    Host()
    config = primary_configuration(tmp_path)
    child = rig.start_child(lambda: armed(config))
    for force in (False, True):
        with pytest.raises(OperatorError, match="still runs"):
            cleanup(config, force=force)
    rig.kill(child)
