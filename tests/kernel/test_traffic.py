"""Mirror, redirect and discards: every frame, no foreign filter disturbed."""

import pytest

from colo_bridge.errors import OperatorError
from colo_bridge.kernel import links, traffic
from colo_bridge.kernel.tap import VNET_HEADER_BYTES, Tap
from tests.kernel import rig
from tests.kernel.rig import Host, receive_from, shell, until

pytestmark = pytest.mark.namespace

SHORT_FRAMES = [rig.frame(b"ab"[:size], ethernet_type=kind) for size in range(3) for kind in (0x0800, 0x88CC)]


def tap_named(name: str) -> Tap:
    tap = Tap(name, queue_length=500)
    links.set_up(name)
    return tap


def put(detours: tuple[traffic.Detour, ...]) -> list[bool]:
    return [traffic.ensure(detour) for detour in detours]


def problems(detours: tuple[traffic.Detour, ...]) -> list[str]:
    return [traffic.problem(detour) for detour in detours]


def received(tap: Tap) -> bytes:
    size = receive_from(tap)
    assert size, "nothing came"
    return bytes(tap.buffer[VNET_HEADER_BYTES:size])


def test_everything_sent_to_the_primary_is_copied_and_arrives():
    host, tap = Host(), tap_named("cbm")
    assert put(traffic.mirror("p0", "cbm")) == [True]
    big = rig.tcp(bytes(60_000))
    host.client.send(big, segment=1_448)
    assert received(tap) == big
    assert host.primary.receive() == big
    for short in SHORT_FRAMES:
        host.client.send(short)
        assert received(tap)[: len(short)] == short
        assert host.primary.receive()[: len(short)] == short
    host.primary.send(rig.udp(b"from the guest"))
    assert host.client.receive() == rig.udp(b"from the guest")
    assert not receive_from(tap, rig.SILENCE)
    tap.close()


def test_secondary_and_tap_see_only_each_other():
    host, tap = Host(), tap_named("cbs")
    assert put(traffic.redirect("s0", "cbs")) == [True, True]
    links.set_up("s0")
    big = rig.tcp(bytes(60_000))
    host.secondary.send(big, segment=1_448)
    assert received(tap) == big
    for short in SHORT_FRAMES:
        host.secondary.send(short)
        assert received(tap)[: len(short)] == short
    tap.send(rig.VNET_HEADER.pack(1, 1, 54, 1_448, 34, 16) + bytes(2) + big)
    assert host.secondary.receive() == big
    tap.close()
    host.secondary.send(big, segment=1_448)
    assert host.client.silent()


def test_filter_is_pointed_at_a_new_device_in_place():
    Host()
    tap_named("cbs").close()
    first = tap_named("cbs")
    put(traffic.redirect("s0", "cbs"))
    first.close()
    assert problems(traffic.redirect("s0", "cbs"))[0] == "cbs is missing"
    second = tap_named("cbs")
    assert "does not point" in problems(traffic.redirect("s0", "cbs"))[1]
    assert put(traffic.redirect("s0", "cbs")) == [True, False]
    assert problems(traffic.redirect("s0", "cbs")) == ["", ""]
    assert shell("tc filter show dev s0 ingress").count("fh 800::800") == 1
    second.close()


def test_removal_leaves_foreign_filters_and_their_qdisc():
    host, tap = Host(), tap_named("cbs")
    shell("tc qdisc add dev s0 handle ffff: ingress")
    shell(
        "tc filter add dev s0 parent ffff: protocol all pref 49000 u32 match u32 0 0 action mirred egress mirror dev c0"
    )
    before = shell("tc qdisc show dev s0 ingress; tc filter show dev s0 parent ffff:")
    assert put(traffic.redirect("s0", "cbs")) == [True, False]
    links.set_up("s0")
    host.secondary.send(rig.udp(b"only for us"))
    assert received(tap) == rig.udp(b"only for us")
    assert traffic.remove("s0") == ["filter 203 at the ingress of s0"]
    assert not traffic.remove_qdisc("s0")
    assert shell("tc qdisc show dev s0 ingress; tc filter show dev s0 parent ffff:") == before
    tap.close()


def test_foreign_filters_behind_the_mirror_still_work():
    host, tap = Host(), tap_named("cbm")
    other = tap_named("foreign0")
    shell("tc qdisc add dev p0 clsact")
    shell(
        "tc filter add dev p0 egress protocol all pref 500 u32 match u32 0 0 action mirred egress mirror dev foreign0"
    )
    assert put(traffic.mirror("p0", "cbm")) == [False]
    host.client.send(rig.udp(b"twice"))
    assert received(tap) == received(other) == rig.udp(b"twice")
    assert traffic.remove("p0") == ["filter 203 at the egress of p0"]
    assert not traffic.remove_qdisc("p0")
    assert "pref 500" in shell("tc filter show dev p0 egress")
    tap.close()
    other.close()


def test_foreign_ingress_qdisc_on_the_primary_port_is_refused_with_a_hint():
    Host()
    tap = tap_named("cbm")
    shell("tc qdisc add dev p0 handle ffff: ingress")
    with pytest.raises(OperatorError, match="clsact"):
        put(traffic.mirror("p0", "cbm"))
    tap.close()


def discard(port: str, *kinds: str) -> bool:
    """Through a device that is gone afterwards."""
    transit = Tap("cbx", queue_length=1)
    created = traffic.ensure_discards(port, kinds, "cbx")
    transit.close()
    return created


def test_what_is_not_compared_is_dropped_and_counted():
    host = Host()
    assert discard("p0", "ipv6", "vlan", "qinq")
    for kind in (0x86DD, 0x8100, 0x8100, 0x88A8):
        host.primary.send(rig.frame(b"\0\1\x08\0" + bytes(60), ethernet_type=kind))
    until(lambda: traffic.discards("p0") == {"ipv6": 1, "vlan": 2, "qinq": 1}, "the counts")
    assert host.client.silent()
    host.primary.send(rig.udp(b"plain"))
    assert host.client.receive() == rig.udp(b"plain")
    shell("tc filter del dev p0 ingress pref 201")
    assert traffic.discards("p0") == {"ipv6": 1, "qinq": 1}
    assert len(traffic.remove("p0")) == 2
    assert traffic.remove_qdisc("p0")
    assert "clsact" not in shell("tc qdisc show")


def test_only_what_is_asked_for_is_dropped():
    host = Host()
    assert not discard("p0")
    assert "clsact" not in shell("tc qdisc show")
    assert discard("p0", "vlan")
    assert not discard("p0", "ipv6")
    assert traffic.discards("p0") == {"ipv6": 0}
    host.primary.send(rig.frame(b"\0\1\x08\0" + bytes(60), ethernet_type=0x8100))
    assert host.client.receive() is not None
    host.primary.send(rig.udp6(b"dropped"))
    until(lambda: traffic.discards("p0") == {"ipv6": 1}, "the count")
    assert host.client.silent()


def test_discards_come_before_a_redirect():
    host, tap = Host(), tap_named("cbs")
    put(traffic.redirect("s0", "cbs"))
    discard("s0", "vlan", "qinq")
    links.set_up("s0")
    host.secondary.send(rig.frame(b"\0\1\x08\0" + bytes(60), ethernet_type=0x8100))
    host.secondary.send(rig.udp(b"plain"))
    assert received(tap) == rig.udp(b"plain")
    assert traffic.discards("s0") == {"vlan": 1, "qinq": 0}
    tap.close()
