"""What is moved in an established connection, and what is left alone."""

from __future__ import annotations

import struct

import pytest

from colo_bridge.rewrite import RewriteLimits, Rewriter
from colo_bridge.wire.packet import Datagram, Fragment, MalformedPacket, NotCompared
from tests import packets
from tests.forms import fragment, neighbour, over_ipv6, tagged
from tests.packets import bare_timestamps, nop, read_tcp, sack, tcp, timestamps
from tests.rewrite.trace import HEADER, TO_CLIENT, TO_GUEST, Trace, buffer


@pytest.fixture
def trace() -> Trace:
    """Established: sequence offset 3000, timestamp offset 30."""
    trace = Trace()
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    trace.client("A", 101, 2001, options=timestamps(901, 40))
    return trace


def test_sack_blocks_move_with_the_acknowledgement(trace):
    options = timestamps(902, 41) + nop(2) + sack((3000, 4000), (5000, 6000), (7000, 8000))
    into = trace.client("A", 101, 2001, options=options)
    assert into.sack == [(6000, 7000), (8000, 9000), (10_000, 11_000)]
    assert (into.ack, into.timestamps) == (5001, (902, 71))
    assert trace.counters.translated_sack == 1


def test_duplicate_sack_moves_too(trace):
    """RFC 2883: the first block may lie below the acknowledgement."""
    into = trace.client("A", 101, 4001, options=nop(2) + sack((2500, 2600), (5000, 6000)))
    assert into.sack == [(5500, 5600), (8000, 9000)]


def test_sack_edges_wrap(trace):
    into = trace.client("A", 101, 0xFFFFFF00, options=nop(2) + sack((0xFFFFFFF0, 16)))
    assert (into.ack, into.sack) == (2744, [(2984, 3016)])


def test_four_sack_blocks_without_timestamps(trace):
    blocks = [(2000 + 10 * n, 2005 + 10 * n) for n in range(4)]
    into = trace.client("A", 101, 2001, options=nop(2) + sack(*blocks))
    assert into.sack == [(left + 3000, right + 3000) for left, right in blocks]


def test_sack_blocks_of_the_guest_speak_of_the_clients_numbers(trace):
    out = trace.guest("A", 5001, 101, options=timestamps(71, 901) + nop(2) + sack((200, 300)))
    assert (out.seq, out.sack, out.timestamps) == (2001, [(200, 300)], (41, 901))


@pytest.mark.parametrize("lead", [0, 1, 2, 3])
def test_options_at_any_place(trace, lead):
    options = nop(lead) + bare_timestamps(902, 41) + sack((3000, 4000))
    into = trace.client("A", 101, 2001, options=options)
    assert (into.timestamps, into.sack) == ((902, 71), [(6000, 7000)])
    out = trace.guest("A", 5001, 101, options=nop(lead) + bare_timestamps(71, 902))
    assert out.timestamps == (41, 902)


@pytest.mark.parametrize("length", [4, 12, 40])
def test_ip_options_stay_and_the_numbers_behind_them_move(trace, length):
    """The flags come through as well."""
    ip_options = bytes((0x94, 4, 0, 0)) + nop(length - 4)
    out = trace.guest("PA", 5001, 101, payload=b"hello", ip_options=ip_options, options=timestamps(71, 901))
    assert (out.seq, out.ack, out.flags, out.timestamps) == (2001, 101, "PA", (41, 901))
    into = trace.client("PA", 101, 2006, payload=b"hello", ip_options=ip_options, options=timestamps(903, 42))
    assert (into.seq, into.ack, into.flags, into.timestamps) == (101, 5006, "PA", (903, 72))


def test_a_handshake_with_ip_options():
    trace = Trace()
    ip_options = nop(8)
    trace.client("S", 100, ip_options=ip_options)
    trace.guest("SA", 5000, 101, ip_options=ip_options)
    assert trace.client("A", 101, 2001, ip_options=ip_options).ack == 5001


@pytest.mark.parametrize("flags", ["A", "PA", "UA", "PAE", "AC", "FA", "FPA", "RA"])
def test_every_flag_comes_through(trace, flags):
    for options in (b"", timestamps(71, 901), nop(2) + sack((1, 2))):
        out = trace.guest(flags, 5001, 101, payload=b"x", options=options)
        assert (out.seq, set(out.flags), out.payload) == (2001, set(flags), b"x")
        into = trace.client(flags, 101, 2002, payload=b"y", options=options)
        assert (into.ack, set(into.flags), into.payload) == (5002, set(flags), b"y")


def test_padding_is_not_touched(trace):
    frame = buffer(tcp(**TO_GUEST, seq=101, ack=2001, padding=6))
    assert trace.finished.ingress(frame, HEADER, len(frame), False, 0.0)
    assert frame[HEADER:] == tcp(**TO_GUEST, seq=101, ack=5001, padding=6)


def test_only_the_frame_is_touched(trace):
    """The buffer is larger than the frame and used again and again."""
    frame = bytearray(b"\xee" * 4096)
    segment = tcp(**TO_CLIENT, seq=5001, ack=101, options=timestamps(71, 901), payload=b"x")
    frame[100 : 100 + len(segment)] = segment
    trace.finished.egress(frame, 100, 100 + len(segment), False, 0.0)
    assert read_tcp(frame[100 : 100 + len(segment)]).seq == 2001
    assert set(frame[:100] + frame[100 + len(segment) :]) == {0xEE}


def test_a_segment_of_64_kilobytes(trace):
    out = trace.guest("PA", 5001, 101, payload=bytes(range(256)) * 254, options=timestamps(71, 901))
    assert (out.seq, len(out.payload)) == (2001, 65_024)


def test_no_acknowledgement_no_echo(trace):
    """Without the ACK flag both fields have no meaning (RFC 7323 §3.2)."""
    into = trace.client("P", 101, payload=b"x", options=timestamps(902, 41))
    assert (into.ack, into.timestamps) == (0, (902, 41))
    into = trace.client("R", 101, options=timestamps(902, 41))
    assert (into.ack, into.timestamps) == (0, (902, 41))


def test_reset_before_any_offset_is_unchanged():
    trace = Trace()
    trace.client("S", 100)
    trace.guest("SA", 5000, 101)
    assert (trace.client("R", 101).seq, trace.guest("R", 5001).seq) == (101, 5001)


def test_reset_of_the_guest_has_the_primarys_number(trace):
    assert trace.guest("R", 5001).seq == 2001
    assert trace.guest("RA", 5001, 101).seq == 2001


def test_reset_with_acknowledgement(trace):
    assert trace.client("RA", 101, 2001).ack == 5001


def test_refusal_of_the_guests_call():
    """RST-ACK must acknowledge the secondary's SYN, or its guest goes on calling."""
    trace = Trace()
    trace.guest("S", 5000, options=timestamps(70))
    assert trace.client("RA", 0, 2001).ack == 5001


def test_refusal_of_the_clients_call():
    trace = Trace()
    trace.client("S", 100)
    assert trace.guest("RA", 0, 101).seq == 0
    assert trace.finished.connections == 0


@pytest.mark.parametrize("client_syn", [900_000, 0xFFFFFFFF, 99])
def test_refusal_of_the_clients_call_on_ports_that_were_used_before(trace, client_syn):
    """The offset of the connection before is known; number 0 belongs to neither."""
    trace.client("S", client_syn)
    refused = (client_syn + 1) & 0xFFFFFFFF
    assert trace.guest("RA", 0, refused).seq == 0
    assert trace.guest("RA", 0, refused, options=timestamps(70)).timestamps == (70, 0)
    trace.client("S", client_syn, payload=b"once more")
    assert trace.guest("RA", 0, (refused + 9) & 0xFFFFFFFF).seq == 0


def test_a_reset_at_number_0_that_acknowledges_no_call_is_translated(trace):
    trace.client("S", 900_000)
    assert trace.guest("RA", 0, 101).seq == -3000 & 0xFFFFFFFF
    assert trace.guest("R", 0).seq == -3000 & 0xFFFFFFFF


def test_both_sides_close(trace):
    assert trace.guest("FA", 5001, 101).seq == 2001
    assert trace.client("A", 101, 2002).ack == 5002
    assert trace.client("FA", 101, 2002).ack == 5002
    assert trace.guest("A", 5002, 102).seq == 2002


def test_one_side_closes_and_the_other_goes_on(trace):
    trace.client("FA", 101, 2001)
    out = trace.guest("PA", 5001, 102, payload=b"more", options=timestamps(71, 901))
    assert (out.seq, out.timestamps) == (2001, (41, 901))


def test_a_connection_never_seen_opening_is_unchanged():
    trace = Trace()
    for _ in range(3):
        assert trace.client("A", 101, 2001, options=timestamps(1, 2)).ack == 2001
        assert trace.guest("PA", 2001, 101, payload=b"x", options=timestamps(2, 1)).seq == 2001
        assert trace.client("A", 101, 2002).ack == 2002
    assert trace.counters.unknown == 1


@pytest.mark.parametrize("broken", [b"\x08\x00", b"\x08\x0a\x00", b"\x05\x01\x00", b"\x1e"])
def test_broken_options_are_left_alone_and_counted(trace, broken):
    into = trace.client("A", 101, 2001, options=nop(4 - len(broken)) + broken)
    assert (into.ack, into.options) == (5001, nop(4 - len(broken)) + broken)
    out = trace.guest("A", 5001, 101, options=nop(4 - len(broken)) + broken)
    assert (out.seq, out.options) == (2001, nop(4 - len(broken)) + broken)
    assert trace.counters.malformed_options == 2


def test_broken_options_after_good_ones(trace):
    into = trace.client("A", 101, 2001, options=timestamps(902, 41) + b"\x05\x1e\x01\x01")
    assert (into.timestamps, into.options[12:]) == ((902, 71), b"\x05\x1e\x01\x01")


NOT_TCP = [
    pytest.param(packets.udp(payload=b"hello"), Datagram, id="UDP"),
    pytest.param(packets.icmp(), Datagram, id="ICMP"),
    pytest.param(over_ipv6(packets.udp(payload=b"hello")), Datagram, id="UDP over IPv6"),
    pytest.param(neighbour(), NotCompared, id="neighbour discovery"),
    pytest.param(tagged(packets.udp(payload=b"hello"), 5), Datagram, id="UDP in a VLAN"),
    pytest.param(tagged(packets.tcp(), 5, 6, 7), NotCompared, id="TCP in three VLANs"),
    pytest.param(fragment(packets.tcp(payload=bytes(64)), 48, None), Fragment, id="later fragment"),
    pytest.param(fragment(over_ipv6(packets.tcp(payload=bytes(64))), 48, None), Fragment, id="later fragment of IPv6"),
    pytest.param(fragment(packets.udp(payload=bytes(64)), 0, 8), Fragment, id="first fragment of UDP"),
    pytest.param(fragment(over_ipv6(packets.udp(payload=bytes(64))), 0, 8), Fragment, id="of UDP over IPv6"),
    pytest.param(fragment(packets.icmp(body=bytes(64)), 0, 8), Fragment, id="first fragment of ICMP"),
    pytest.param(packets.arp(), NotCompared, id="ARP"),
    pytest.param(packets.ethernet(b"\x45" * 80, 0x88CC), NotCompared, id="LLDP"),
]


@pytest.mark.parametrize(("frame", "kind"), NOT_TCP)
def test_anything_else_is_unchanged(trace, frame, kind):
    sent = buffer(frame)
    assert isinstance(trace.finished.egress(sent, HEADER, len(sent), False, 0.0), kind)
    assert trace.finished.ingress(sent, HEADER, len(sent), False, 0.0)
    assert sent[HEADER:] == frame
    assert trace.finished.connections == 1


@pytest.mark.parametrize("options", [b"", timestamps(71, 901)])
def test_every_truncation_is_counted_and_disturbs_nothing(trace, options):
    out = tcp(**TO_CLIENT, seq=5001, ack=101, options=options, payload=b"hello")
    into = tcp(**TO_GUEST, seq=101, ack=2001, options=options, payload=b"hello")
    for length in range(14, len(out)):
        with pytest.raises(MalformedPacket):
            trace.finished.egress(bytearray(out[:length]), 0, length, False, 0.0)
        cut = bytearray(into[:length])
        assert not trace.finished.ingress(cut, 0, length, False, 0.0)
        assert cut == into[:length]
    assert trace.finished.counters.malformed == 2 * (len(out) - 14)
    assert read_tcp(_sent(trace.finished, out)).seq == 2001


@pytest.mark.parametrize("offset", [0, 4, 15])
def test_a_data_offset_that_does_not_fit(trace, offset):
    frame = bytearray(tcp(**TO_GUEST, seq=101, ack=2001))
    frame[46] = offset << 4
    assert not trace.finished.ingress(frame, 0, len(frame), False, 0.0)


def test_garbage(trace):
    rewriter = Rewriter(RewriteLimits(), 0)
    for seed in range(2000):
        noise = bytearray(packets.ethernet(struct.pack("!I", seed) * 20))
        noise[14] = 0x45
        noise[16:18] = (seed % 90).to_bytes(2, "big")
        noise[23] = 6
        rewriter.ingress(noise, 0, len(noise), False, 0.0)


def _sent(rewriter: Rewriter, frame: bytes) -> bytearray:
    copy = bytearray(frame)
    rewriter.egress(copy, 0, len(copy), False, 0.0)
    return copy
