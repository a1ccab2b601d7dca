"""Segments in fragments: the first one has the header, and its numbers move like a segment's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from colo_bridge.rewrite import RewriteLimits, Rewriter
from colo_bridge.wire.packet import Fragment, MalformedPacket
from tests.forms import DESTINATION, fragments, options_header, over_ipv6, tagged
from tests.packets import nop, sack, tcp, timestamps
from tests.rewrite.trace import HEADER, TO_CLIENT, TO_GUEST, buffer

CUT = 64
Way = Callable[[bytes], bytes]


def as_it_is(frame: bytes) -> bytes:
    return frame


def behind_an_extension_header(frame: bytes) -> bytes:
    """Which is part of what is cut."""
    return over_ipv6(frame, (DESTINATION, options_header()))


def in_pieces(frame: bytes, *cuts: int) -> list[bytes]:
    return fragments(frame, *(cuts or (CUT, CUT + 8)))


WAYS = [as_it_is, over_ipv6, behind_an_extension_header]


class Connection:
    """Sequence offset 3000, timestamp offset 30; `way` is how its segments travel, in a VLAN or not."""

    def __init__(self, way: Way, vlan: int | None = None, *, cures: bool = True) -> None:
        self.way, self.vlan = way, vlan
        self.rewriter = Rewriter(RewriteLimits(), HEADER, cures=cures)

    def tagged(self, frame: bytes) -> bytes:
        return frame if self.vlan is None else tagged(frame, self.vlan)

    def guest(self, frame: bytes) -> bytes:
        out = buffer(self.tagged(frame))
        self.rewriter.egress(out, HEADER, len(out), False, 0.0)
        return bytes(out[HEADER:])

    def client(self, frame: bytes) -> bytes | None:
        out = buffer(self.tagged(frame))
        return bytes(out[HEADER:]) if self.rewriter.ingress(out, HEADER, len(out), False, 0.0) else None

    def called(self) -> None:
        self.client(self.way(tcp(**TO_GUEST, seq=100, flags="S", options=timestamps(900))))

    def answered(self) -> None:
        self.guest(self.way(tcp(**TO_CLIENT, seq=5000, ack=101, flags="S", options=timestamps(70, 900))))

    def opened(self) -> Connection:
        self.called()
        self.answered()
        self.client(self.way(tcp(**TO_GUEST, seq=101, ack=2001, options=timestamps(901, 40))))
        return self


@pytest.fixture(params=[None, 5], ids=["untagged", "VLAN"])
def vlan(request) -> int | None:
    return request.param


@pytest.mark.parametrize("way", WAYS)
def test_numbers_of_the_guest_move_in_the_first_fragment(way, vlan):
    connection = Connection(way, vlan).opened()
    more = {"ack": 101, "payload": bytes(range(200)), "flags": "P"}
    sent = in_pieces(way(tcp(**TO_CLIENT, seq=5001, options=timestamps(71, 901), **more)))
    expected = in_pieces(way(tcp(**TO_CLIENT, seq=2001, options=timestamps(41, 901), **more)))
    assert [connection.guest(piece) for piece in sent] == [connection.tagged(piece) for piece in expected]


@pytest.mark.parametrize("way", WAYS)
def test_numbers_of_the_client_move_in_the_first_fragment(way, vlan):
    connection = Connection(way, vlan).opened()
    more = {"seq": 101, "payload": bytes(range(200))}
    sent = way(tcp(**TO_GUEST, ack=2001, options=timestamps(902, 41) + nop(2) + sack((2050, 2060)), **more))
    expected = way(tcp(**TO_GUEST, ack=5001, options=timestamps(902, 71) + nop(2) + sack((5050, 5060)), **more))
    assert [connection.client(piece) for piece in in_pieces(sent)] == [*map(connection.tagged, in_pieces(expected))]


@pytest.mark.parametrize("way", WAYS)
def test_a_first_fragment_ahead_of_the_secondary_is_kept(way):
    connection = Connection(way)
    connection.called()
    sent = way(tcp(**TO_GUEST, seq=101, ack=2001, payload=bytes(200), options=timestamps(901, 40)))
    assert connection.client(in_pieces(sent)[0]) is None
    connection.answered()
    expected = way(tcp(**TO_GUEST, seq=101, ack=5001, payload=bytes(200), options=timestamps(901, 70)))
    assert [bytes(frame[HEADER:]) for frame in connection.rewriter.ready] == [in_pieces(expected)[0]]


@pytest.mark.parametrize("way", [as_it_is, over_ipv6])
def test_the_view_of_a_fragment_is_still_one(way):
    """The comparator puts it together with the others."""
    connection = Connection(way).opened()
    piece = bytearray(in_pieces(way(tcp(**TO_CLIENT, seq=5001, ack=101, payload=bytes(200))))[0])
    view = connection.rewriter.egress(piece, 0, len(piece), False, 0.0)
    assert isinstance(view, Fragment)
    assert int.from_bytes(view.buffer[view.body + 4 : view.body + 8], "big") == 2001


@pytest.mark.parametrize("way", [as_it_is, over_ipv6])
@pytest.mark.parametrize("cut", [8, 16])
def test_a_tcp_header_cut_in_two_is_dropped_and_counted(way, cut):
    connection = Connection(way).opened()
    out = bytearray(in_pieces(way(tcp(**TO_CLIENT, seq=5001, ack=101, payload=bytes(64))), cut)[0])
    with pytest.raises(MalformedPacket, match="within the TCP header"):
        connection.rewriter.egress(out, 0, len(out), False, 0.0)
    assert connection.client(in_pieces(way(tcp(**TO_GUEST, seq=101, ack=2001, payload=bytes(64))), cut)[0]) is None
    assert (connection.rewriter.counters.split_headers, connection.rewriter.counters.malformed) == (2, 0)


@pytest.mark.parametrize("way", [as_it_is, over_ipv6])
def test_options_cut_in_two_are_as_bad(way):
    connection = Connection(way).opened()
    pieces = in_pieces(way(tcp(**TO_GUEST, seq=101, ack=2001, payload=bytes(64), options=timestamps(902, 41))), 24)
    assert connection.client(pieces[0]) is None
    assert connection.rewriter.counters.split_headers == 1


def test_behind_an_extension_header_a_cut_header_is_the_guests_to_refuse():
    """RFC 7112 §5; what such a fragment carries is not known here."""
    connection = Connection(behind_an_extension_header).opened()
    piece = in_pieces(behind_an_extension_header(tcp(**TO_GUEST, seq=101, ack=2001, payload=bytes(64))), 16)[0]
    assert connection.client(piece) == piece


def test_what_a_fragmented_segment_has_sent_is_not_known():
    """Its end stands in a later fragment: nothing is lowered until a whole segment came."""
    connection = Connection(as_it_is).opened()
    for piece in in_pieces(tcp(**TO_CLIENT, seq=5001, ack=101, payload=bytes(200))):
        connection.guest(piece)
    ahead = tcp(**TO_GUEST, seq=101, ack=2301)
    assert connection.client(ahead) == tcp(**TO_GUEST, seq=101, ack=5301)
    connection.guest(tcp(**TO_CLIENT, seq=5201, ack=101, payload=bytes(10)))
    assert connection.client(ahead) == tcp(**TO_GUEST, seq=101, ack=5211)
