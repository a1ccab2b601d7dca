"""ICMP's word that a segment found no way: as RFC 792 and RFC 4443 want it."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from colo_bridge.wire.serial import Serial
from colo_bridge.wire.unreachable import unreachable
from tests.packets import ones_sum

PORTS = struct.pack("!HH", 5000, 80)
IPV4 = IPv4Address("10.0.0.9").packed + IPv4Address("10.0.0.2").packed + PORTS
IPV6 = IPv6Address("fd00::9").packed + IPv6Address("fd00::2").packed + PORTS
SEQUENCE = Serial(0xFFFF_FFF0)


def test_ipv4_quotes_header_and_ports_and_number_of_the_segment() -> None:
    packet = unreachable(IPV4, SEQUENCE)
    outer, message = packet[:20], packet[20:]
    assert (outer[0], outer[9], outer[12:20]) == (0x45, 1, IPV4[4:8] + IPV4[:4])
    assert int.from_bytes(outer[2:4], "big") == len(packet)
    assert (message[:2], message[4:8]) == (bytes((3, 1)), bytes(4))
    quoted = message[8:]
    assert (quoted[0], quoted[9], quoted[12:20]) == (0x45, 6, IPV4[:8])
    assert quoted[20:28] == PORTS + SEQUENCE.to_bytes(4, "big")


def test_ipv6_says_that_there_is_no_route() -> None:
    packet = unreachable(IPV6, SEQUENCE)
    assert (packet[0] >> 4, packet[6], packet[8:40]) == (6, 58, IPV6[16:32] + IPV6[:16])
    assert int.from_bytes(packet[4:6], "big") == len(packet) - 40
    message = packet[40:]
    assert (message[:2], message[4:8]) == (bytes((1, 0)), bytes(4))
    quoted = message[8:]
    assert (quoted[0] >> 4, quoted[6], quoted[8:40]) == (6, 6, IPV6[:32])
    assert quoted[40:48] == PORTS + SEQUENCE.to_bytes(4, "big")


@pytest.mark.parametrize("size", [4, 16], ids=["IPv4", "IPv6"])
def test_all_checksums_are_finished(size: int) -> None:
    random = Random(1)
    for _ in range(200):
        connection, sequence = random.randbytes(2 * size + 4), Serial(random.randrange(1 << 32))
        packet = unreachable(connection, sequence)
        if size == 4:
            assert ones_sum(packet[:20]) == ones_sum(packet[20:]) == ones_sum(packet[28:48]) == 0xFFFF
        else:
            pseudo_header = packet[8:40] + struct.pack("!II", len(packet) - 40, 58)
            assert ones_sum(pseudo_header + packet[40:]) == 0xFFFF
