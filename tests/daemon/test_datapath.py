"""One NIC's way of packets, with ports that overwrite their buffers at every read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.compare.settings import Settings
from colo_bridge.daemon import primary_side
from colo_bridge.daemon.datapath import DataPath
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.rewriter import Rewriter
from tests import forms, neighbours
from tests.daemon.fakes import FakeQueue, FakeTap, close_all
from tests.packets import CLIENT_MAC, arp, ethernet, ipv4, read_tcp, tcp, timestamps, udp

AT_ONCE = primary_side.READS
"""Packets that one turn reads."""
TO_GUEST = {"source": "10.0.0.9", "destination": "10.0.0.2", "sport": 5000, "dport": 80}


class Rig:
    """A data path between fakes; it is told what was reported."""

    def __init__(self) -> None:
        self.queue, self.mirror, self.secondary = FakeQueue(), FakeTap(), FakeTap()
        self.reported: list[Divergence] = []
        self.use(Settings())

    def use(self, settings: Settings, busy_poll: float = 0.0, outlet: Outlet | None = None) -> None:
        """Begin anew with other settings of the comparator."""
        rewriter, comparator = Rewriter(RewriteLimits()), Comparator(settings)
        self.path = DataPath(self.queue, self.mirror, self.secondary, comparator, rewriter, self, busy_poll, outlet)

    def diverged(self, divergence: Divergence) -> None:
        self.reported.append(divergence)

    @property
    def counters(self) -> dict[str, int]:
        return self.path.comparator.counters()

    def primary(self, *frames: bytes, truncated: bool = False) -> list[int]:
        """The primary sends, and all of it is read."""
        ids = self.queue.put(*frames, truncated=truncated)
        _all(self.path.on_primary)
        return ids

    def replica(self, *frames: bytes) -> None:
        """The secondary sends, and all of it is read."""
        self.secondary.put(*frames)
        _all(self.path.on_secondary)

    def client(self, *frames: bytes) -> list[bytes]:
        """A client sends; what the secondary gets of it."""
        self.mirror.put(*frames)
        before = len(self.secondary.sent)
        _all(self.path.on_mirror)
        return self.secondary.sent[before:]


def _all(read) -> None:
    while read():
        pass


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    close_all((made.queue, made.mirror, made.secondary))


def datagrams(count: int, *, size: int = 200, seed: int = 1) -> list[bytes]:
    random = Random(seed)
    return [udp(payload=random.randbytes(size)) for _ in range(count)]


# Verdicts.


def test_a_packet_leaves_once_both_have_sent_it(rig: Rig) -> None:
    (number,) = rig.primary(udp(payload=b"hello"))
    assert rig.queue.events == []
    rig.replica(udp(payload=b"hello"))
    assert rig.queue.events == [("accept", number), ("flush",)]


def test_verdicts_are_given_in_order_and_told_to_the_kernel_once(rig: Rig) -> None:
    comparator = rig.path.comparator
    comparator.released += [3, 1]
    comparator.revised += [(4, b"another packet")]
    comparator.dropped += [2]
    rig.path.tick(0.0)
    assert rig.queue.events == [
        ("accept", 3),
        ("accept", 1),
        ("replace", 4, b"another packet"),
        ("drop", 2),
        ("flush",),
    ]
    rig.path.tick(0.0)
    assert len(rig.queue.events) == 5


def test_the_kernel_hears_nothing_where_nothing_is_decided(rig: Rig) -> None:
    rig.replica(udp(payload=b"early"))
    rig.path.tick(0.0)
    assert rig.queue.events == []


def test_what_is_dropped_is_told(rig: Rig) -> None:
    rig.use(Settings(held_packets=2))
    ids = rig.primary(*datagrams(3))
    assert rig.queue.dropped == ids[2:]
    assert rig.counters["held_limit_drops"] == 1


def test_an_acknowledgement_that_the_floor_holds_leaves_as_another_packet(rig: Rig) -> None:
    rig.use(Settings(cure_after=0.0))
    _handshake(rig)
    rig.replica(tcp(sport=80, dport=5000, seq=5001, ack=111))
    older, newest = rig.primary(*(tcp(sport=80, dport=5000, seq=1001, ack=ack) for ack in (151, 161)))
    rig.path.cure(1e9)
    replaced = [event for event in rig.queue.events if event[0] == "replace"]
    assert [event[1] for event in replaced] == [older]
    assert read_tcp(ethernet(replaced[0][2])).ack == 111
    assert not {older, newest} & set(rig.queue.accepted)


def test_nothing_is_cured_where_nothing_is_held(rig: Rig) -> None:
    rig.path.cure(1e9)
    assert rig.queue.events == []


# Buffers.


@pytest.mark.parametrize("first", ["primary", "replica"])
def test_a_buffer_is_free_as_soon_as_it_was_read(rig: Rig, first: str) -> None:
    """Three turns' worth of packets wait while every read overwrites the last one."""
    frames = datagrams(3 * AT_ONCE)
    if first == "primary":
        ids = rig.primary(*frames)
        rig.replica(*frames)
    else:
        rig.replica(*frames)
        ids = rig.primary(*frames)
    assert rig.queue.accepted == ids
    assert rig.reported == []


def test_a_held_segment_is_compared_with_the_bytes_that_it_had(rig: Rig) -> None:
    _handshake(rig)
    text = Random(2).randbytes(3000)
    cuts = [text[at : at + 1000] for at in range(0, 3000, 1000)]
    ids = rig.primary(*(_answer(1001 + 1000 * index, cut) for index, cut in enumerate(cuts)))
    rig.replica(_answer(5001, text[:1500]), _answer(6501, text[1500:2999]))
    assert rig.queue.accepted[-2:] == ids[:2]
    rig.replica(_answer(8000, bytes((text[2999] ^ 1,))))
    assert [(found.reason, found.stream_offset) for found in rig.reported] == [(Reason.CONTENT, 2999)]
    assert (rig.reported[0].primary_byte, rig.reported[0].secondary_byte) == (text[2999], text[2999] ^ 1)
    assert ids[2] not in rig.queue.accepted


def test_the_largest_packet_fits(rig: Rig) -> None:
    largest = udp(payload=Random(3).randbytes(65_507))
    ids = rig.primary(largest)
    rig.replica(largest)
    assert rig.queue.accepted == ids


# Packets that make no sense.


def test_a_cut_packet_is_equal_to_nothing(rig: Rig) -> None:
    whole = udp(payload=bytes(1000))
    ids = rig.primary(whole[:500], truncated=True)
    rig.replica(whole)
    assert [found.reason for found in rig.reported] == [Reason.CUT_SHORT]
    assert rig.queue.events == []
    rig.path.checkpoint_done(False)
    assert rig.queue.accepted == ids


MALFORMED = {
    "no header": b"\x45",
    "IP version 9": b"\x95" + ipv4("10.0.0.2", "10.0.0.9", 17, bytes(20))[1:],
    "header of 16 bytes": b"\x44" + ipv4("10.0.0.2", "10.0.0.9", 17, bytes(20))[1:],
    "total length beyond the packet": ipv4("10.0.0.2", "10.0.0.9", 17, bytes(20))[:-1],
    "TCP header cut off": ipv4("10.0.0.2", "10.0.0.9", 6, bytes(19)),
    "TCP data offset beyond the packet": ipv4("10.0.0.2", "10.0.0.9", 6, bytes(12) + b"\xf0" + bytes(7)),
    "UDP header cut off": ipv4("10.0.0.2", "10.0.0.9", 17, bytes(7)),
    "UDP length beyond the packet": ipv4("10.0.0.2", "10.0.0.9", 17, bytes(4) + b"\x00\x09" + bytes(2)),
    "ICMP header cut off": ipv4("10.0.0.2", "10.0.0.9", 1, bytes(3)),
}


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("truncated", [False, True])
def test_a_malformed_packet_of_the_primary_is_dropped_and_counted(rig: Rig, packet: bytes, truncated: bool) -> None:
    """Cut ones, too, as far as they don't even have a header."""
    truncated = truncated and len(packet) < 20
    bad, good = rig.primary(ethernet(packet), truncated=truncated), rig.primary(udp(payload=b"good"))
    rig.replica(udp(payload=b"good"))
    assert rig.queue.dropped == bad
    assert rig.queue.accepted == good
    assert (rig.counters["malformed_primary"], rig.counters["malformed_secondary"]) == (1, 0)
    assert rig.counters["primary_packets"] == 2


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_frame_of_the_secondary_is_counted(rig: Rig, packet: bytes) -> None:
    rig.replica(ethernet(packet), udp(payload=b"good"))
    good = rig.primary(udp(payload=b"good"))
    assert rig.queue.accepted == good
    assert (rig.counters["malformed_primary"], rig.counters["malformed_secondary"]) == (0, 1)
    assert (rig.counters["secondary_packets"], rig.counters["secondary_bytes"]) == (2, len(packet) + 14 + 32)


@pytest.mark.parametrize("length", [1, 13])
def test_less_than_an_ethernet_header_is_malformed(rig: Rig, length: int) -> None:
    rig.replica(bytes(length))
    assert rig.counters["malformed_secondary"] == 1


def test_what_is_not_compared_is_thrown_away_from_the_secondary(rig: Rig) -> None:
    rig.replica(arp(), forms.neighbour(), forms.tagged(udp(payload=b"deep"), 1, 2, 3))
    assert rig.counters["thrown_away_packets"] == 3
    assert (rig.counters["not_ip_thrown_away"], rig.counters["neighbour_thrown_away"]) == (1, 1)
    assert rig.secondary.sent == []


def test_the_secondary_is_answered_who_has_an_address(rig: Rig) -> None:
    """From what its link said to the primary; the comparator sees what it did before."""
    rig.client(neighbours.arp(neighbours.CLIENT, neighbours.GUEST, mac=CLIENT_MAC), neighbours.advertisement())
    rig.secondary.sent.clear()
    rig.replica(neighbours.arp(), neighbours.solicitation(), udp(payload=b"hello"))
    reply, advertisement = rig.secondary.sent
    assert (reply[6:12], reply[12:14]) == (CLIENT_MAC, b"\x08\x06")
    assert (advertisement[6:12], advertisement[12:14]) == (CLIENT_MAC, b"\x86\xdd")
    assert (rig.counters["not_ip_thrown_away"], rig.counters["neighbour_thrown_away"]) == (1, 1)
    assert rig.counters["secondary_packets_now"] == 1


def test_malformed_frames_of_a_client_do_not_reach_the_secondary(rig: Rig) -> None:
    assert rig.client(*(ethernet(packet, to_guest=True) for packet in MALFORMED.values())) == []
    assert rig.path.rewriter.counters.malformed == len(MALFORMED)


def test_garbage_is_always_decided_about(rig: Rig) -> None:
    """Whatever is in a packet: no error, and a packet of the primary is accepted, dropped or held."""
    random = Random(4)
    for _ in range(2000):
        frame = ethernet(_garbage(random), random.choice((0x0800, 0x86DD, 0x8100, 0x0806, random.randrange(65_536))))
        rig.primary(frame[:12] + b"\x08\x00" + frame[14:], truncated=random.random() < 0.1)
        rig.replica(frame)
        rig.client(frame)
    decided = rig.queue.accepted + rig.queue.dropped
    assert len(set(decided)) == len(decided)
    assert len(decided) + rig.counters["held_packets_now"] == 2000


def _garbage(random: Random) -> bytes:
    """Often right in its first octets, so that it gets past the first look."""
    size = random.randrange(1, 120)
    packet = bytearray(random.randbytes(size))
    likely = bytes((0x45, 0)) + size.to_bytes(2, "big") + bytes(5) + random.choice((b"\x06", b"\x11", b"\x01", b"\x99"))
    known = random.choice((0, 1, 4, 10))
    packet[:known] = likely[:known]
    return bytes(packet[:size])


# Turns.


def test_one_turn_reads_a_bounded_number(rig: Rig) -> None:
    frames = datagrams(2 * AT_ONCE + 1)
    rig.queue.put(*frames)
    rig.secondary.put(*frames)
    rig.mirror.put(*frames)
    for read, waiting in (
        (rig.path.on_primary, rig.queue.waiting),
        (rig.path.on_secondary, rig.secondary.waiting),
        (rig.path.on_mirror, rig.mirror.waiting),
    ):
        assert [(read(), len(waiting)) for _ in range(3)] == [(True, AT_ONCE + 1), (True, 1), (False, 0)]


def test_each_turn_ends_with_its_verdicts(rig: Rig) -> None:
    frames = datagrams(AT_ONCE + 1)
    rig.replica(*frames)
    ids = rig.queue.put(*frames)
    rig.path.on_primary()
    assert rig.queue.accepted == ids[:AT_ONCE]
    assert rig.queue.events[-1] == ("flush",)


def test_a_silent_replica_is_reported_by_the_clock(rig: Rig) -> None:
    rig.primary(udp(payload=b"alone"))
    rig.path.tick(0.0)
    assert rig.reported == []
    rig.path.tick(1e9)
    assert [found.reason for found in rig.reported] == [Reason.TIMEOUT]
    rig.path.tick(2e9)
    assert len(rig.reported) == 1


def test_idle_flows_are_forgotten(rig: Rig) -> None:
    _handshake(rig)
    rig.path.age(1e9)
    assert rig.counters["connections_now"] == 0
    assert rig.path.rewriter.connections == 0


# Divergences and checkpoints.


def test_a_divergence_is_reported_after_the_verdicts_and_once(rig: Rig) -> None:
    seen: list[list[int]] = []

    def diverged(divergence: Divergence) -> None:
        seen.append(rig.queue.accepted)
        rig.path.tick(0.0)

    rig.diverged = diverged
    equal, ours, theirs = (udp(payload=text) for text in (b"equal", b"ours", b"theirs"))
    rig.replica(equal, theirs)
    ids = rig.primary(equal, ours)
    assert seen == [ids[:1]]


def test_a_checkpoint_releases_what_waits_unread(rig: Rig) -> None:
    held = rig.primary(udp(payload=b"held"))
    unread = rig.queue.put(*datagrams(2 * AT_ONCE))
    rig.path.checkpoint_done(False)
    assert rig.queue.accepted == held + unread
    assert rig.counters["checkpoints_done"] == 1


def test_a_checkpoint_forgets_what_the_secondary_sent_before_it(rig: Rig) -> None:
    read, unread = udp(payload=b"read"), udp(payload=b"unread")
    rig.replica(read)
    rig.secondary.put(unread)
    rig.path.checkpoint_done(False)
    rig.primary(read, unread)
    assert rig.queue.accepted == []
    rig.replica(read, unread)
    assert len(rig.queue.accepted) == 2


def test_a_checkpoint_hands_over_what_the_client_sent_before_it(rig: Rig) -> None:
    rig.mirror.put(*datagrams(AT_ONCE + 1))
    rig.path.checkpoint_done(False)
    assert len(rig.secondary.sent) == AT_ONCE + 1


def test_at_the_pause_everything_is_read_and_what_the_secondary_would_get_is_not_delivered(rig: Rig) -> None:
    ids = rig.queue.put(*datagrams(2 * AT_ONCE))
    rig.secondary.put(*datagrams(AT_ONCE + 1, seed=2))
    rig.mirror.put(*datagrams(AT_ONCE + 1, seed=3))
    rig.path.secondary_stopped()
    rig.path.primary_stopped()
    assert not (rig.queue.waiting or rig.secondary.waiting or rig.mirror.waiting)
    assert (rig.secondary.sent, rig.path.mirrored_discarded) == ([], AT_ONCE + 1)
    assert rig.queue.accepted == []
    rig.path.checkpoint_done(True)
    assert rig.queue.accepted == ids


def test_what_is_sent_after_the_pause_is_not_of_the_checkpoint(rig: Rig) -> None:
    old, new = udp(payload=b"old"), udp(payload=b"new")
    (held,) = rig.primary(old)
    rig.path.primary_stopped()
    (later,) = rig.queue.put(new)
    rig.secondary.put(new)
    rig.mirror.put(udp(payload=b"for both"))
    rig.path.checkpoint_done(True)
    assert rig.queue.accepted == [held]
    _all(rig.path.on_primary)
    assert rig.queue.accepted == [held]
    _all(rig.path.on_secondary)
    assert rig.queue.accepted == [held, later]
    _all(rig.path.on_mirror)
    assert len(rig.secondary.sent) == 1


def test_a_checkpoint_allows_the_next_divergence(rig: Rig) -> None:
    for text in (b"first", b"second"):
        rig.primary(udp(payload=text))
        rig.replica(udp(payload=b"not " + text))
        rig.path.checkpoint_done(False)
    assert len(rig.reported) == 2
    assert not rig.path.comparator.latched


# The secondary's numbers.


def test_both_directions_are_rewritten(rig: Rig) -> None:
    _handshake(rig)
    ids = rig.primary(_answer(1001, b"answer"))
    rig.replica(_answer(5001, b"answer"))
    assert rig.queue.accepted[-1:] == ids
    (got,) = rig.client(tcp(**TO_GUEST, seq=101, ack=1007))
    assert (read_tcp(got).ack, read_tcp(got).checksum_right) == (5007, True)


def test_what_came_too_early_is_delivered_behind_the_secondarys_answer(rig: Rig) -> None:
    _opened_by_client(rig)
    assert rig.client(tcp(**TO_GUEST, seq=101, ack=1001, options=timestamps(9, 40))) == []
    rig.replica(tcp(sport=80, dport=5000, seq=5000, ack=101, flags="S", options=timestamps(70, 8)))
    early = read_tcp(rig.secondary.sent[-1])
    assert (early.ack, early.timestamps, early.checksum_right) == (5001, (9, 70), True)


def test_a_synchronising_checkpoint_delivers_what_came_too_early(rig: Rig) -> None:
    _opened_by_client(rig)
    rig.client(tcp(**TO_GUEST, seq=101, ack=1001, options=timestamps(9, 40)))
    before = len(rig.secondary.sent)
    rig.path.checkpoint_done(True)
    assert [read_tcp(frame).ack for frame in rig.secondary.sent[before:]] == [1001]


@pytest.mark.parametrize(("synchronised", "acknowledged"), [(True, 1007), (False, 5007)])
def test_a_checkpoint_keeps_the_offsets_unless_it_copies_the_state(
    rig: Rig, synchronised: bool, acknowledged: int
) -> None:
    _handshake(rig)
    rig.replica(_answer(5001, b"answer"))
    rig.path.checkpoint_done(synchronised)
    (got,) = rig.client(tcp(**TO_GUEST, seq=101, ack=1007))
    assert read_tcp(got).ack == acknowledged


def _opened_by_client(rig: Rig) -> None:
    assert len(rig.client(tcp(**TO_GUEST, seq=100, flags="S", options=timestamps(8, 0)))) == 1


def _handshake(rig: Rig) -> None:
    """The client's numbers begin at 100, the primary's at 1000, the secondary's at 5000."""
    rig.client(tcp(**TO_GUEST, seq=100, flags="S"))
    rig.primary(tcp(sport=80, dport=5000, seq=1000, ack=101, flags="S"))
    rig.replica(tcp(sport=80, dport=5000, seq=5000, ack=101, flags="S"))
    rig.client(tcp(**TO_GUEST, seq=101, ack=1001))


def _answer(sequence: int, payload: bytes) -> bytes:
    return tcp(sport=80, dport=5000, seq=sequence, ack=101, flags="P", payload=payload)


# Busy polling.


def test_answers_to_a_delivery_are_looked_for_until_one_leaves(rig: Rig) -> None:
    rig.use(Settings(), busy_poll=60.0)
    deliver = rig.secondary.send

    def answer(frame: bytes) -> bool:
        rig.queue.put(udp(payload=b"answer"))
        rig.secondary.put(udp(payload=b"answer"))
        return deliver(frame)

    rig.secondary.send = answer
    rig.mirror.put(udp(payload=b"question"))
    rig.path.on_input()
    assert len(rig.queue.accepted) == 1


def test_answers_that_do_not_come_are_looked_for_no_longer_than_told(rig: Rig) -> None:
    rig.use(Settings(), busy_poll=0.001)
    rig.mirror.put(udp(payload=b"question"))
    rig.path.on_input()
    assert len(rig.secondary.sent) == 1
    assert rig.queue.events == []


def test_without_busy_polling_a_turn_is_over_when_the_input_is_delivered(rig: Rig) -> None:
    rig.mirror.put(udp(payload=b"question"))
    rig.queue.put(udp(payload=b"answer"))
    rig.path.on_input()
    assert len(rig.queue.waiting) == 1


# Packets of our own.


def test_a_verified_part_leaves_through_the_outlet_and_its_segment_never(rig: Rig) -> None:
    outlet = FakeTap()
    rig.use(Settings(cure_after=0.01, forward=True), outlet=Outlet(outlet))
    rig.primary(tcp(seq=100, ack=1, flags="SA"))
    rig.replica(tcp(seq=900, ack=1, flags="SA"))
    rig.client(tcp(**TO_GUEST, seq=1, ack=101))
    (whole,) = rig.primary(tcp(seq=101, ack=1, payload=b"whole segment"))
    rig.replica(tcp(seq=901, ack=1, payload=b"whole"))
    rig.path.cure(time.monotonic() + 1)
    assert [read_tcp(frame).payload for frame in outlet.sent] == [b"whole"]
    rig.replica(tcp(seq=906, ack=1, payload=b" segment"))
    assert [read_tcp(frame).payload for frame in outlet.sent] == [b"whole", b" segment"]
    assert ("drop", whole) in rig.queue.events
    assert ("accept", whole) not in rig.queue.events
    close_all((outlet,))
