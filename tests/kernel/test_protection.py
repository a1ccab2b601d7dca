"""A whole NIC: armed, checked, mended, disarmed, taken over, cleaned up."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from colo_bridge.config import Config
from colo_bridge.errors import OperatorError
from colo_bridge.kernel import bridge, links, nfqueue_messages, primary_nic, traffic
from colo_bridge.kernel.bridge import Hook
from colo_bridge.kernel.family import Family
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


def changed(config: Config, **sections: object) -> Config:
    return Config.model_validate(config.model_dump() | sections)


def hooks() -> list[bool]:
    return [bridge.hook_is_on(Hook("br0", family)) for family in Family]


def parts(made: NicProtection) -> set[str]:
    return {fault.part for fault in made.check()}


def assert_in_force(host: Host, made: NicProtection) -> None:
    """Held, mirrored, redirected: seen with frames, not only in tables."""
    assert made.check() == []
    for frame in (rig.udp(b"held"), rig.udp6(b"held")):
        host.primary.send(frame)
        packet_id, start, end, _ = receive_from(made.queue)
        assert bytes(made.queue.buffer[start:end]) == frame[14:]
        assert host.client.silent()
        made.queue.accept(packet_id)
        made.queue.flush()
        assert host.client.receive() == frame
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
    "hook": ("hook", lambda _, __: bridge.set_hook(Hook("br0", Family.IPV4), False)),
    "hook of IPv6": ("hook", lambda _, __: bridge.set_hook(Hook("br0", Family.IPV6), False)),
    "foreign accept ahead": ("rule", lambda _, b: shell(f"iptables-{b} -t mangle -I PREROUTING -j ACCEPT")),
    "foreign accept of IPv6 ahead": ("rule", lambda _, b: shell(f"ip6tables-{b} -t mangle -I PREROUTING -j ACCEPT")),
    "iptables-restore": ("rule", lambda _, b: shell(f"printf '*mangle\nCOMMIT\n' | iptables-{b}-restore")),
    "ip6tables-restore": ("rule", lambda _, b: shell(f"printf '*mangle\nCOMMIT\n' | ip6tables-{b}-restore")),
    "mirror filter": ("mirror", lambda _, __: shell("tc filter del dev p0 egress")),
    "mirror qdisc": ("mirror", lambda _, __: shell("tc qdisc del dev p0 clsact")),
    "redirect filter": ("redirect", lambda _, __: shell("tc filter del dev s0 ingress")),
    "tap filter": ("redirect", lambda made, _: shell(f"tc filter del dev {made.secondary.name} ingress")),
    "discard filter": ("discard", lambda _, __: shell("tc filter del dev p0 ingress pref 201")),
    "discard filter of the secondary": ("discard", lambda _, __: shell("tc filter del dev s0 ingress pref 202")),
    "primary port": ("mirror", lambda _, __: recreate_primary_port()),
    "secondary port": ("redirect", lambda _, __: recreate_secondary_port()),
    "secondary port down": ("port", lambda _, __: links.set_down("s0")),
    "tap down": ("tap", lambda made, _: links.set_down(made.mirror.name)),
    "tap of the mirror deleted": ("tap", lambda made, _: shell(f"ip link del {made.mirror.name}")),
    "tap of the secondary deleted": ("tap", lambda made, _: shell(f"ip link del {made.secondary.name}")),
    "forwarding tap deleted": ("tap", lambda made, _: shell(f"ip link del {made.forward.name}")),
    "forwarding tap off the bridge": ("forward", lambda made, _: shell(f"ip link set {made.forward.name} nomaster")),
    "forwarding tap flooded": (
        "forward",
        lambda made, _: shell(f"ip link set {made.forward.name} type bridge_slave flood on"),
    ),
    "MTU of the port": ("forward", lambda _, __: shell("ip link set p0 mtu 1400")),
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
        assert parts(made) == {"rule", "forward"}
        made.mend()
    if name in ("primary port", "secondary port"):
        host.primary, host.secondary = rig.Wire("p1"), rig.Wire("s1")
    assert_in_force(host, made)
    made.disarm()


@pytest.mark.parametrize(
    "name", ["primary port", "secondary port", "tap of the secondary deleted", "hook", "MTU of the port"]
)
def test_change_of_a_device_is_mended_without_the_rules(tmp_path, name):
    Host()
    made = armed(configuration(tmp_path, "auto"))
    assert made.mend_devices() == []
    part, fault = FAULTS[name]
    fault(made, "auto")
    assert part in {fault.part for fault in made.mend_devices()}
    assert made.check() == made.mend_devices() == []
    made.disarm()


def test_tap_whose_name_was_taken_stays_reported(tmp_path):
    Host()
    made = armed(configuration(tmp_path, "auto"))
    shell(
        f"ip link del {made.mirror.name}; ip tuntap add {made.mirror.name} mode tap; ip link set {made.mirror.name} up"
    )
    made.mend()
    assert [fault.problem for fault in made.check()] == [f"{made.mirror.name} is somebody else's: delete it"]
    shell(f"ip link del {made.mirror.name}")
    made.mend()
    assert made.check() == []
    made.disarm()


@pytest.mark.parametrize("before", ["down", "up"])
def test_port_made_anew_is_diverted_before_it_is_back_on_its_bridge(backend, tmp_path, before):
    """Alone it is not taken for a routed port at once, whose rule would not match on the bridge."""
    host = Host()
    made = armed(configuration(tmp_path, backend))
    shell(f"ip link del p0; ip link add p0 type veth peer name p1; ip link set p1 up; ip link set p0 {before}")
    assert "rule" not in parts(made)
    made.mend()
    shell("ip link set p0 master br0; ip link set p0 up")
    assert "rule" not in parts(made)
    host.primary = rig.Wire("p1")
    host.primary.send(rig.udp(b"unverified"))
    assert receive_from(made.queue)
    assert host.client.silent()
    made.disarm()


def test_port_made_anew_that_stays_alone_is_taken_for_a_routed_one(backend, tmp_path, monkeypatch):
    Host()
    made = armed(configuration(tmp_path, backend))
    monkeypatch.setattr(primary_nic, "_SETTLING", 0.0)
    shell("ip link del p0; ip link add p0 type veth peer name p1; ip link set p0 up")
    assert "rule" in parts(made)
    made.mend()
    assert made.check() == []
    assert "physdev" not in shell(f"iptables-{backend} -t mangle -S")
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
    made.mend()
    assert not links.get("s0").up
    assert parts(made) == {"port"}
    shell("ip link set s0 nomaster")
    made.mend()
    assert made.check() == []
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
    assert [line.split()[0] for line in removed] == [
        *("rule", "rule", "iptables", "ip6tables"),
        *["filter"] * 3,
        "qdisc",
        *["filter"] * 3,
        "qdisc",
    ]
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
    assert hooks() == [True, True]
    assert two.check() == []
    two.disarm()
    assert hooks() == [False, False]


@pytest.mark.parametrize("family", Family)
def test_hook_that_was_on_stays_on(backend, tmp_path, family):
    Host()
    bridge.set_hook(Hook("br0", family), True)
    armed(configuration(tmp_path, backend)).disarm()
    assert hooks() == [other is family for other in Family]


def test_change_of_the_variant_moves_the_rule(tmp_path):
    host = Host()
    rig.kill(rig.start_child(lambda: armed(configuration(tmp_path, "legacy"))))
    made = armed(configuration(tmp_path, "nft"))
    assert "NFQUEUE" not in shell("iptables-legacy -t mangle -S; ip6tables-legacy -t mangle -S")
    assert_in_force(host, made)
    made.disarm()


def test_routed_port_is_diverted_too(backend, tmp_path):
    host = Host()
    shell("ip link set p0 nomaster addrgenmode none; ip address add 10.0.0.1/24 dev p0")
    shell("sysctl -qw net.ipv6.conf.p0.disable_ipv6=0")
    made = armed(configuration(tmp_path, backend))
    assert made.check() == []
    mac = bytes.fromhex(links.get("p0").address.replace(":", ""))
    for frame in (rig.udp(b"held"), rig.udp6(b"held")):
        host.primary.send(mac + frame[6:])
        packet_id, start, end, _ = receive_from(made.queue)
        assert bytes(made.queue.buffer[start:end]) == frame[14:]
        made.queue.drop(packet_id)
        made.queue.flush()
    assert made.forward is None
    made.disarm()


def test_counters_are_the_kernels_numbers(backend, tmp_path):
    host = Host()
    made = armed(configuration(tmp_path, backend))
    host.primary.send(rig.frame(bytes(40), ethernet_type=0x8100))
    host.secondary.send(rig.frame(bytes(40), ethernet_type=0x88A8))
    host.primary.send(rig.udp(b"held"))
    assert receive_from(made.queue)
    rig.until(lambda: made.counters()["secondary_discarded_qinq"] == 1, "the secondary's frame is discarded")
    counters = made.counters()
    assert counters["primary_discarded_vlan"] == 1
    assert counters["queue_waiting"] == 1
    assert all(count == 0 for name, count in counters.items() if "drop" in name or "error" in name)
    made.disarm()


TAGGED = [rig.frame(b"\0\1\x08\0" + bytes(60), ethernet_type=kind) for kind in (0x8100, 0x88A8)]


def test_tagged_frames_pass_from_the_primary_alone_where_configured(backend, tmp_path):
    host = Host()
    made = armed(changed(configuration(tmp_path, backend), compare={"tagged": "pass"}))
    for frame in TAGGED:
        host.primary.send(frame)
        # A packet socket is shown a frame without its tag, which comes beside it.
        assert host.client.receive() == frame[:12] + frame[16:]
        host.secondary.send(frame)
    rig.until(lambda: made.counters()["secondary_discarded_qinq"] == 1, "the secondary's frames are discarded")
    assert not receive_from(made.secondary, rig.SILENCE)
    assert made.check() == []
    made.disarm()


def test_tagged_frames_are_dropped_on_both_sides(backend, tmp_path):
    host = Host()
    made = armed(configuration(tmp_path, backend))
    for wire, side in ((host.primary, "primary"), (host.secondary, "secondary")):
        for frame in TAGGED:
            wire.send(frame)
        rig.until(lambda side=side: made.counters()[f"{side}_discarded_qinq"] == 1, f"those of the {side}")
        assert made.counters()[f"{side}_discarded_vlan"] == 1
    assert host.client.silent()
    assert not receive_from(made.secondary, rig.SILENCE)
    made.disarm()


def test_ipv6_is_dropped_on_both_sides_where_configured(backend, tmp_path):
    host = Host()
    config = changed(configuration(tmp_path, backend), firewall={"backend": backend, "ipv6": False})
    before = kernel_state()
    made = armed(config)
    assert hooks() == [True, False]
    assert "NFQUEUE" not in shell(f"ip6tables-{backend} -t mangle -S")
    for wire, side in ((host.primary, "primary"), (host.secondary, "secondary")):
        wire.send(rig.udp6(b"nobody compares this"))
        rig.until(lambda side=side: made.counters()[f"{side}_discarded_ipv6"] == 1, f"that of the {side}")
    assert host.client.silent()
    assert not receive_from(made.queue, rig.SILENCE)
    assert not receive_from(made.secondary, rig.SILENCE)
    assert made.check() == []
    made.disarm()
    assert kernel_state() == before


def test_host_without_ip6tables_is_told_to_do_without(tmp_path, monkeypatch):
    Host()
    monkeypatch.setattr(links, "_IPV6", tmp_path / "missing")
    before = kernel_state()
    with pytest.raises(OperatorError, match=r"firewall\.ipv6 = false"):
        armed(configuration(tmp_path, "auto"))
    assert kernel_state() == before
    made = armed(changed(configuration(tmp_path, "auto"), firewall={"ipv6": False}))
    assert made.check() == []
    made.disarm()


@pytest.mark.parametrize("later", [{"firewall": {"ipv6": False}}, {"compare": {"tagged": "pass"}}])
def test_successor_with_other_settings_leaves_nothing_of_the_former(tmp_path, later):
    Host()
    config = configuration(tmp_path, "auto")
    before = kernel_state()
    rig.kill(rig.start_child(lambda: armed(config)))
    made = armed(changed(config, **later))
    assert made.check() == []
    if "firewall" in later:
        assert "NFQUEUE" not in shell("ip6tables-legacy -t mangle -S; ip6tables-nft -t mangle -S")
        assert traffic.discards("p0").keys() == {"ipv6", "vlan", "qinq"}
    else:
        assert traffic.discards("p0") == {}
    made.disarm()
    assert kernel_state() == before


def test_unreadable_state_file_does_not_stop_cleanup(backend, tmp_path):
    Host()
    config = configuration(tmp_path, backend)
    rig.kill(rig.start_child(lambda: armed(config)))
    assert json.loads(config.state_file.read_text())["nics"]["net0"]["hooks"] == {"br0": {"ipv4": False, "ipv6": False}}
    Path(config.state_file).write_text("{ garbage")
    assert any(line.startswith("rule") for line in cleanup(config))
    assert not config.state_file.exists()
