"""A whole NIC: armed, checked, mended, disarmed, taken over, cleaned up."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from colo_bridge.config import Config
from colo_bridge.errors import OperatorError
from colo_bridge.kernel import links, nfqueue_messages
from colo_bridge.kernel.protection import NicProtection
from colo_bridge.kernel.tap import VNET_HEADER_BYTES
from colo_bridge.kernel.withdrawal import cleanup
from tests.kernel import rig
from tests.kernel.rig import Host, configuration, kernel_state, receive_from, shell

pytestmark = pytest.mark.namespace


def protection(config: Config) -> NicProtection:
    return NicProtection(config.guest, config.nic[0], config)


def armed(config: Config) -> NicProtection:
    made = protection(config)
    made.arm()
    return made


def parts(made: NicProtection) -> set[str]:
    return {fault.part for fault in made.check()}


def assert_in_force(host: Host, made: NicProtection) -> None:
    """Held, mirrored, redirected: seen with frames, not only in tables."""
    assert made.check() == []
    host.primary.send(rig.udp(b"held"))
    packet_id, start, end, _ = receive_from(made.queue)
    assert bytes(made.queue.buffer[start:end]) == rig.udp(b"held")[14:]
    assert host.client.silent()
    made.queue.accept(packet_id)
    made.queue.flush()
    assert host.client.receive() == rig.udp(b"held")
    host.client.send(rig.udp(b"input"))
    assert receive_from(made.mirror) == VNET_HEADER_BYTES + len(rig.udp(b"input"))
    assert host.primary.receive() == rig.udp(b"input")
    host.secondary.settled = False
    host.secondary.send(rig.udp(b"output"))
    assert receive_from(made.secondary) == VNET_HEADER_BYTES + len(rig.udp(b"output"))
    made.secondary.send(bytes(VNET_HEADER_BYTES) + rig.udp(b"input"))
    assert host.secondary.receive() == rig.udp(b"input")


def test_armed_nic_works_and_disarm_leaves_nothing(backend, tmp_path):
    host, config = Host(), configuration(tmp_path, backend)
    shell("sysctl -qw net.ipv6.conf.s0.disable_ipv6=0")
    before = kernel_state()
    made = armed(config)
    assert config.state_file.stat().st_mode & 0o777 == 0o600
    assert_in_force(host, made)
    made.disarm()
    assert kernel_state() == before
    assert not links.get("s0").up
    assert not config.state_file.exists()
    host.primary.send(rig.udp(b"free"))
    assert host.client.receive() == rig.udp(b"free")


def recreate_primary_port() -> None:
    shell("ip link del p0; ip link add p0 type veth peer name p1; ip link set p0 master br0")
    shell("ip link set p0 up; ip link set p1 up")


def recreate_secondary_port() -> None:
    shell("ip link del s0; ip link add s0 type veth peer name s1; ip link set s1 up")


def unbind(made: NicProtection) -> None:
    with socket.socket(fileno=socket.dup(made.queue.fileno())) as same:
        same.send(nfqueue_messages.command(7, bind=False))


FAULTS: dict[str, tuple[str, Callable[[NicProtection, str], object]]] = {
    "hook": ("hook", lambda _, __: links.set_hook("br0", False)),
    "foreign accept ahead": ("rule", lambda _, b: shell(f"iptables-{b} -t mangle -I PREROUTING -j ACCEPT")),
    "iptables-restore": ("rule", lambda _, b: shell(f"printf '*mangle\nCOMMIT\n' | iptables-{b}-restore")),
    "mirror filter": ("mirror", lambda _, __: shell("tc filter del dev p0 egress")),
    "mirror qdisc": ("mirror", lambda _, __: shell("tc qdisc del dev p0 clsact")),
    "redirect filter": ("redirect", lambda _, __: shell("tc filter del dev s0 ingress")),
    "tap filter": ("redirect", lambda made, _: shell(f"tc filter del dev {made.secondary.name} ingress")),
    "discard filter": ("uncompared", lambda _, __: shell("tc filter del dev p0 ingress pref 205")),
    "primary port": ("mirror", lambda _, __: recreate_primary_port()),
    "secondary port": ("redirect", lambda _, __: recreate_secondary_port()),
    "secondary port down": ("port", lambda _, __: links.set_down("s0")),
    "tap down": ("tap", lambda made, _: links.set_down(made.mirror.name)),
    "queue": ("queue", lambda made, _: unbind(made)),
    "port off its bridge": ("rule", lambda _, __: shell("ip link set p0 nomaster")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_reported_and_mended(backend, tmp_path, name):
    host = Host()
    made = armed(configuration(tmp_path, backend))
    assert made.check() == []
    part, fault = FAULTS[name]
    fault(made, backend)
    assert part in parts(made)
    made.mend()
    assert made.check() == []
    if name == "port off its bridge":
        shell("ip link set p0 master br0")
        assert parts(made) == {"rule"}
        made.mend()
    if name in ("primary port", "secondary port"):
        host.primary, host.secondary = rig.Wire("p1"), rig.Wire("s1")
    assert_in_force(host, made)
    made.disarm()


def test_missing_port_stays_reported_until_it_is_back(backend, tmp_path):
    Host()
    made = armed(configuration(tmp_path, backend))
    shell("ip link del p0")
    made.mend()
    assert "port" in parts(made)
    shell("ip link add p0 type veth peer name p1; ip link set p0 master br0")
    made.mend()
    assert made.check() == []
    made.disarm()


def test_secondary_port_on_a_bridge_is_refused_and_reported(backend, tmp_path):
    Host()
    config = configuration(tmp_path, backend)
    before = kernel_state()
    shell("ip link set s0 master br0")
    with pytest.raises(OperatorError, match="secondary's port"):
        armed(config)
    shell("ip link set s0 nomaster")
    assert kernel_state() == before
    made = armed(config)
    shell("ip link set s0 master br0")
    assert parts(made) == {"port"}
    made.disarm()


def test_failed_arm_leaves_nothing(backend, tmp_path):
    Host()
    shell("tc qdisc add dev p0 handle ffff: ingress")
    before = kernel_state()
    with pytest.raises(OperatorError, match="clsact"):
        armed(configuration(tmp_path, backend))
    assert kernel_state() == before


def test_missing_device_is_named(backend, tmp_path):
    with pytest.raises(OperatorError, match="no network device p0"):
        armed(configuration(tmp_path, backend))


def test_killed_daemon_blocks_until_cleanup(backend, tmp_path):
    host, config = Host(), configuration(tmp_path, backend)
    before = kernel_state()
    rig.kill(rig.start_child(lambda: armed(config)))
    for wire in (host.primary, host.secondary):
        wire.send(rig.udp(b"unverified"))
    assert host.client.silent()
    removed = cleanup(config)
    assert [line.split()[0] for line in removed] == ["rule", "iptables", "filter", "qdisc", *["filter"] * 4, "qdisc"]
    assert kernel_state() == before
    assert cleanup(config) == []
    host.primary.send(rig.udp(b"free"))
    assert host.client.receive() == rig.udp(b"free")


def test_killed_daemon_is_succeeded_without_a_gap(backend, tmp_path):
    host, config = Host(), configuration(tmp_path, backend)
    before = kernel_state()
    rig.kill(rig.start_child(lambda: armed(config)))
    made = armed(config)
    assert made.taken_over
    assert_in_force(host, made)
    made.disarm()
    assert kernel_state() == before
    again = armed(config)
    assert not again.taken_over
    again.disarm()


def test_successor_that_fails_leaves_the_diversion(backend, tmp_path):
    host, config = Host(), configuration(tmp_path, backend)
    rig.kill(rig.start_child(lambda: armed(config)))
    shell("ip link set s0 master br0")
    with pytest.raises(OperatorError):
        armed(config)
    host.primary.send(rig.udp(b"unverified"))
    assert host.client.silent()


def test_cleanup_refuses_while_the_daemon_runs(backend, tmp_path):
    Host()
    config = configuration(tmp_path, backend)
    child = rig.start_child(lambda: armed(config))
    with pytest.raises(OperatorError, match="still runs"):
        cleanup(config)
    rig.kill(child)


def test_bypass_lets_pass_when_killed(backend, tmp_path):
    host = Host()
    document = configuration(tmp_path, backend).model_dump()
    config = Config.model_validate(document | {"queue": {"bypass_when_dead": True}})
    rig.kill(rig.start_child(lambda: armed(config)))
    host.primary.send(rig.udp(b"unverified"))
    assert host.client.receive() == rig.udp(b"unverified")


def test_hook_stays_while_another_guest_uses_the_bridge(backend, tmp_path):
    Host()
    shell("ip link add q0 type veth; ip link set q0 master br0; ip link add t0 type veth")
    first = configuration(tmp_path, backend)
    document = first.model_dump()
    nic = document["nic"][0] | {"primary_port": "q0", "secondary_port": "t0", "queue": 8}
    second = Config.model_validate(document | {"guest": "g2", "nic": (nic,)})
    one, two = armed(first), armed(second)
    assert one.check() == two.check() == []
    one.disarm()
    assert links.hook_is_on("br0")
    assert two.check() == []
    two.disarm()
    assert not links.hook_is_on("br0")


def test_hook_that_was_on_stays_on(backend, tmp_path):
    Host()
    links.set_hook("br0", True)
    armed(configuration(tmp_path, backend)).disarm()
    assert links.hook_is_on("br0")


def test_change_of_the_variant_moves_the_rule(tmp_path):
    host = Host()
    rig.kill(rig.start_child(lambda: armed(configuration(tmp_path, "legacy"))))
    made = armed(configuration(tmp_path, "nft"))
    assert "NFQUEUE" not in shell("iptables-legacy -t mangle -S")
    assert_in_force(host, made)
    made.disarm()


def test_routed_port_is_diverted_too(backend, tmp_path):
    host = Host()
    shell("ip link set p0 nomaster; ip address add 10.0.0.1/24 dev p0")
    made = armed(configuration(tmp_path, backend))
    assert made.check() == []
    mac = bytes.fromhex(links.get("p0").address.replace(":", ""))
    host.primary.send(mac + rig.udp(b"held")[6:])
    packet_id, start, end, _ = receive_from(made.queue)
    assert bytes(made.queue.buffer[start:end]) == rig.udp(b"held")[14:]
    made.queue.drop(packet_id)
    made.queue.flush()
    made.disarm()


def test_counters_are_the_kernels_numbers(backend, tmp_path):
    host = Host()
    made = armed(configuration(tmp_path, backend))
    host.primary.send(rig.frame(bytes(40), ethernet_type=0x86DD))
    host.primary.send(rig.udp(b"held"))
    assert receive_from(made.queue)
    counters = made.counters()
    assert counters["uncompared_ipv6"] == 1
    assert counters["queue_waiting"] == 1
    assert all(count == 0 for name, count in counters.items() if "drop" in name or "error" in name)
    made.disarm()


def test_uncompared_passes_where_configured(backend, tmp_path):
    host = Host()
    document = configuration(tmp_path, backend).model_dump()
    made = armed(Config.model_validate(document | {"compare": {"uncompared": "pass"}}))
    host.primary.send(rig.frame(b"\x60" + bytes(60), ethernet_type=0x86DD))
    assert host.client.receive() is not None
    assert made.check() == []
    made.disarm()


def test_unreadable_state_file_does_not_stop_cleanup(backend, tmp_path):
    Host()
    config = configuration(tmp_path, backend)
    rig.kill(rig.start_child(lambda: armed(config)))
    assert json.loads(config.state_file.read_text())["nics"]["net0"]["hooks"] == {"br0": False}
    Path(config.state_file).write_text("{ garbage")
    assert any(line.startswith("rule") for line in cleanup(config))
    assert not config.state_file.exists()
