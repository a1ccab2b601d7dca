"""Every form of packets, byte for byte: those with a fast path and those without."""

from __future__ import annotations

from typing import Literal

import pytest

from colo_bridge.rewrite import RewriteLimits, Rewriter
from tests.forms import DESTINATION, HOP_BY_HOP, options_header, over_ipv6, tagged
from tests.packets import nop, sack, tcp, timestamps
from tests.rewrite.trace import TO_CLIENT, TO_GUEST, assert_same_packet

FORMS = {
    "IPv4": lambda frame: frame,
    "IPv6": over_ipv6,
    "IPv6 with extension headers": lambda frame: over_ipv6(
        frame, (HOP_BY_HOP, options_header()), (DESTINATION, options_header(20))
    ),
    "802.1Q": lambda frame: tagged(frame, 5),
    "802.1ad": lambda frame: tagged(over_ipv6(frame), 7, 8, outer=0x88A8),
}
Checksum = Literal["full", "partial"]


class Connection:
    """Sequence offset 3000, timestamp offset 30."""

    def __init__(self, form: str, checksum: Checksum) -> None:
        self.form, self.checksum = FORMS[form], checksum
        self.rewriter = Rewriter(RewriteLimits(), 0)
        self.client({"seq": 100, "flags": "S", "options": timestamps(900)})
        self.guest({"seq": 5000, "ack": 101, "flags": "S", "options": timestamps(70, 900)})
        self.client({"seq": 101, "ack": 2001, "options": timestamps(901, 40)})

    def frame(self, **segment) -> bytearray:
        return bytearray(self.form(tcp(**segment, checksum=self.checksum)))

    def guest(self, segment: dict) -> bytearray:
        out = self.frame(**TO_CLIENT, **segment)
        packet = self.rewriter.egress(out, 0, len(out), self.checksum == "partial", 0.0)
        assert_same_packet(packet, out, 0)
        return out

    def client(self, segment: dict) -> bytearray:
        out = self.frame(**TO_GUEST, **segment)
        assert self.rewriter.ingress(out, 0, len(out), self.checksum == "partial", 0.0)
        return out


@pytest.fixture(params=["full", "partial"])
def connection(request, form) -> Connection:
    return Connection(form, request.param)


@pytest.fixture(params=FORMS)
def form(request) -> str:
    return request.param


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("blocks", [(), ((2100, 2200),), ((2100, 2200), (2300, 2400), (2500, 2600))])
@pytest.mark.parametrize("payload", [b"", b"hello"])
def test_every_form(connection, stamped, blocks, payload):
    def options(value: int, echo: int, distance: int = 0) -> bytes:
        moved = [(left + distance, right + distance) for left, right in blocks]
        return (timestamps(value, echo) if stamped else b"") + (nop(2) + sack(*moved) if blocks else b"")

    more = {"payload": payload, "window": 500}
    for number in range(0, 3 * len(payload) + 1, 5):
        out = connection.guest({"seq": 5001 + number, "ack": 101, "options": options(71, 901), **more})
        assert out == connection.frame(**TO_CLIENT, seq=2001 + number, ack=101, options=options(41, 901), **more)
        into = connection.client({"seq": 101, "ack": 2001 + number, "options": options(902, 41), **more})
        expected = {"seq": 101, "ack": 5001 + number, "options": options(902, 71, 3000)}
        assert into == connection.frame(**TO_GUEST, **expected, **more)


@pytest.mark.parametrize("traffic_class", [0x00, 0xB8, 0xFF])
def test_traffic_class_and_flow_label_are_free(traffic_class):
    connection = Connection("IPv6", "full")
    out = connection.frame(**TO_CLIENT, seq=5001, ack=101, options=timestamps(71, 901))
    expected = connection.frame(**TO_CLIENT, seq=2001, ack=101, options=timestamps(41, 901))
    for frame in (out, expected):
        frame[14:18] = (6 << 28 | traffic_class << 20 | 0xABCDE).to_bytes(4, "big")
    connection.rewriter.egress(out, 0, len(out), False, 0.0)
    assert out == expected


def test_two_sack_options_move_both():
    """No stack sends them, but what stands there is understood."""
    connection = Connection("IPv4", "full")
    into = connection.client({"seq": 101, "ack": 2001, "options": sack((2100, 2200)) + nop(2) + sack((2300, 2400))})
    options = sack((5100, 5200)) + nop(2) + sack((5300, 5400))
    assert into == connection.frame(**TO_GUEST, seq=101, ack=5001, options=options)


@pytest.mark.parametrize("stamped", [True, False])
def test_what_is_repeated_or_out_of_order_moves_as_well(connection, stamped):
    """The fast paths leave it to the slow one."""
    out_options, expected_options = (timestamps(71, 901), timestamps(41, 901)) if stamped else (b"", b"")
    for number in (0, 5, 5, 20, 0, 10):
        out = connection.guest({"seq": 5001 + number, "ack": 101, "options": out_options, "payload": b"hello"})
        expected = {"seq": 2001 + number, "ack": 101, "options": expected_options, "payload": b"hello"}
        assert out == connection.frame(**TO_CLIENT, **expected)


def test_a_header_as_long_as_one_with_sack_blocks_is_no_proof():
    connection = Connection("IPv4", "full")
    options = {moved: timestamps(902, 41 + moved) + nop(12) for moved in (0, 30)}
    into = connection.client({"seq": 101, "ack": 2001, "options": options[0]})
    assert into == connection.frame(**TO_GUEST, seq=101, ack=5001, options=options[30])


def test_a_packet_shorter_than_its_sack_blocks_is_malformed():
    connection = Connection("IPv4", "full")
    frame = connection.frame(**TO_GUEST, seq=101, ack=2001, options=timestamps(902, 41) + nop(2) + sack((1, 2)))
    for length in range(54, len(frame)):
        assert not connection.rewriter.ingress(frame[:length], 0, length, False, 0.0)
    frame[16:18] = (len(frame) - 14 - 8).to_bytes(2, "big")
    assert not connection.rewriter.ingress(frame, 0, len(frame), False, 0.0)
