"""What is particular to IPv6: the changed ACK and its checksum. Everything else is played over both families."""

from __future__ import annotations

import pytest

from colo_bridge.compare.settings import Settings
from tests.compare.playbook import Playbook
from tests.packets import ones_sum

CURES = Settings(cure_after=0.010)
HELD = """
    P a SA 0 ack 1           =>
    S   SA 0 ack 1 win 300   => a
    S   A 1 ack 40 win 300   =>
    P b {} A 1 ack 50        =>
    P c A 1 ack 90           =>
"""


@pytest.mark.parametrize("vlans", [(), (7,)])
def test_a_lowered_and_narrowed_ack_has_a_right_checksum(vlans: tuple[int, ...]) -> None:
    book = Playbook(ipv6=True, vlans=vlans, settings=CURES, scale=0).run(HELD.format("") + "cure 0.1 => ~b")
    packet = book.revised["b"]
    assert len(packet) == int.from_bytes(packet[4:6], "big") + 40 == 60
    assert int.from_bytes(packet[48:52], "big") == book.client_isn + 40
    assert int.from_bytes(packet[54:56], "big") == 300
    assert ones_sum(packet[8:40] + bytes((0, 20, 0, 6)) + packet[40:]) == 0xFFFF


@pytest.mark.parametrize("ipv6", [True, False])
def test_an_ack_behind_a_source_route_is_never_changed(ipv6: bool) -> None:
    """Its checksum covers another destination than the one in the IP header (RFC 8200 §8.1)."""
    book = Playbook(ipv6=ipv6, settings=CURES, scale=0).run(HELD.format("routed") + "cure 0.1 =>")
    book.run("S A 1 ack 90 win 9 => b")
