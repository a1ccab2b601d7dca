"""The hooks of one bridge and family alone, and ports that only take frames in."""

import pytest

from colo_bridge.errors import OperatorError
from colo_bridge.kernel import bridge, links
from colo_bridge.kernel.bridge import Hook
from colo_bridge.kernel.family import Family
from tests.kernel.rig import Host, shell

pytestmark = pytest.mark.namespace


@pytest.mark.parametrize("family", Family)
def test_hook_concerns_one_bridge_and_family(family):
    Host()
    shell("ip link add br9 type bridge")
    hook = Hook("br0", family)
    others = [Hook("br0", other) for other in Family if other is not family] + [Hook("br9", family), Hook("p0", family)]
    assert not bridge.hook_is_on(hook)
    bridge.set_hook(hook, True)
    assert bridge.hook_is_on(hook)
    assert not any(bridge.hook_is_on(other) for other in others)
    bridge.set_hook(hook, False)
    assert not bridge.hook_is_on(hook)


def test_hook_of_a_missing_bridge_is_off_and_cannot_be_set():
    hook = Hook("br7", Family.IPV6)
    assert not bridge.hook_is_on(hook)
    with pytest.raises(OperatorError, match="no network device br7"):
        bridge.set_hook(hook, True)


@pytest.mark.parametrize("flag", ["learning", "flood", "mcast_flood", "bcast_flood"])
def test_one_way_port_is_known_by_each_of_its_flags(flag):
    Host()
    shell("ip link add t0 type veth")
    bridge.join_one_way("t0", "br0")
    assert links.get("t0").bridge == "br0"
    assert bridge.is_one_way("t0")
    shell(f"ip link set t0 type bridge_slave {flag} on")
    assert not bridge.is_one_way("t0")


def test_ordinary_ports_are_not_one_way():
    Host()
    assert not bridge.is_one_way("p0")
    assert not bridge.is_one_way("s0")
    assert not bridge.is_one_way("nothing0")
