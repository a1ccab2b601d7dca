"""What a real neighbour and a real bridge make of the frames by which a guest tells that it has moved."""

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from colo_bridge.wire.announcement import announcements
from tests.kernel.rig import Host, shell, until

OLD, NEW = "02:00:00:00:00:aa", "02:00:00:00:00:bb"
GUEST, CLIENT = "10.9.0.2", "10.9.0.1"
GUEST_IPV6, CLIENT_IPV6 = "fd09::2", "fd09::1"


def hardware(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def client_that_knows(address: str) -> Host:
    """The guest's old card, as if it had just been heard."""
    host = Host()
    Path("/proc/sys/net/ipv6/conf/c1/disable_ipv6").write_text("0")
    shell(f"ip address add {CLIENT}/24 dev c1; ip address add {CLIENT_IPV6}/64 dev c1 nodad")
    shell(f"ip neighbour replace {address} lladdr {OLD} dev c1 nud reachable")
    return host


def card_of(address: str) -> str:
    (entry,) = json.loads(shell(f"ip -j neighbour show {address} dev c1"))
    return str(entry["lladdr"])


def port_of(card: str) -> list[str]:
    """Where the bridge would send what is for it."""
    return [entry["ifname"] for entry in json.loads(shell("bridge -j fdb show br br0")) if entry["mac"] == card]


@pytest.mark.namespace
@pytest.mark.parametrize(
    ("address", "which"), [(GUEST, 0), (GUEST, 1), (GUEST_IPV6, 0)], ids=["request", "reply", "IPv6"]
)
def test_a_neighbour_takes_note_of_each_frame_by_itself(address: str, which: int) -> None:
    host = client_that_knows(address)
    assert card_of(address) == OLD
    host.primary.send(announcements(hardware(NEW), ip_address(address).packed)[which])
    until(lambda: card_of(address) == NEW, "the new card")


@pytest.mark.namespace
@pytest.mark.parametrize("address", [GUEST, GUEST_IPV6, ""], ids=["IPv4", "IPv6", "card alone"])
def test_a_bridge_finds_the_card_at_its_new_port(address: str) -> None:
    host = Host()
    shell("ip link set s0 master br0 up")
    packed = ip_address(address).packed if address else b""
    for wire, port in ((host.primary, "p0"), (host.secondary, "s0")):
        for frame in announcements(hardware(NEW), packed):
            wire.send(frame)
        until(lambda port=port: port_of(NEW) == [port], f"the card at {port}")
