"""Devices: found, changed, quiet."""

import os

import pytest

from colo_bridge.errors import KernelError, OperatorError
from colo_bridge.kernel import links
from tests.kernel.rig import Host, in_child, shell

pytestmark = pytest.mark.namespace


def test_device_is_described():
    Host()
    link = links.get("p0")
    assert (link.name, link.kind, link.up, link.bridge, link.master_kind) == ("p0", "veth", True, "br0", "bridge")
    assert links.get("s0").bridge is None
    assert not links.get("s0").up
    assert links.find("nothing0") is None


def test_missing_device_is_named():
    with pytest.raises(OperatorError, match="no network device nothing0"):
        links.get("nothing0")


def test_master_that_is_no_bridge_is_no_bridge():
    port = links.Link("x0", 5, "veth", True, "ovs-system", "openvswitch", 1_500, 1_000, "")
    assert port.bridge is None


def test_changes():
    Host()
    links.change("p0", mtu=1_400, txqlen=77)
    links.set_down("p0")
    link = links.get("p0")
    assert (link.mtu, link.queue_length, link.up) == (1_400, 77, False)
    links.set_up("p0")
    assert links.get("p0").up


def test_quiet_device_has_no_ipv6():
    Host()
    shell("sysctl -qw net.ipv6.conf.s0.disable_ipv6=0")
    assert not links.is_quiet("s0")
    links.quiet("s0")
    links.set_up("s0")
    assert links.is_quiet("s0")
    assert "inet6" not in shell("ip address show s0")
    links.allow_ipv6("s0")
    assert not links.is_quiet("s0")


def test_without_privilege_the_error_says_so():
    def body() -> None:
        os.setuid(65_534)
        with pytest.raises(OperatorError, match="no permission"):
            links.set_up("lo")

    assert not in_child(body)


def test_refused_value_is_a_kernel_error():
    Host()
    with pytest.raises(KernelError, match="cannot change p0"):
        links.change("p0", mtu=1)
