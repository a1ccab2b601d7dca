"""One NIC of a guest that has gone live, alone and with a secondary of its own; ports that overwrite their buffers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Divergence
from colo_bridge.compare.settings import Settings
from colo_bridge.daemon.live_path import LivePath
from colo_bridge.daemon.primary_side import READS
from colo_bridge.daemon.secondary_path import MOST_KEPT
from colo_bridge.membership.actions import Traffic
from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.framing import Frame
from tests.daemon.fakes import FakeTap, close_all
from tests.daemon.test_primary_path import FakeLink
from tests.packets import arp, read_tcp, tcp, udp, virtio

TO_GUEST = {"source": "10.0.0.9", "destination": "10.0.0.2", "sport": 5000, "dport": 80}
OFFSET = 4000
"""Of the connection that was there before the guest went live: the guest's numbers are higher by this."""
NEW = {"dport": 6000}
NEW_TO_GUEST = {**TO_GUEST, "sport": 6000}
HELD = 4
ICMP = 1


class Rig:
    def __init__(self) -> None:
        self.tap, self.uplink, self.link = FakeTap(), FakeTap(), FakeLink()
        self.reported: list[Divergence] = []
        rewriter = Rewriter(RewriteLimits())
        self._connect(rewriter)
        comparator = Comparator(Settings(cure_after=0.0, forward=True, pass_unsynchronised=True, held_packets=HELD))
        self.path = LivePath("net0", self.tap, rewriter, self.link, comparator, self)
        self.path.connect(self.uplink)
        self.path.accepts = True
        self.path.traffic = Traffic.PASS

    def diverged(self, divergence: Divergence) -> None:
        self.reported.append(divergence)

    def _connect(self, rewriter: Rewriter) -> None:
        """A client has opened a connection while the guest was a secondary: the primary's ISN was 1000."""
        opening, answer, acknowledgment = (
            bytearray(virtio(frame))
            for frame in (
                tcp(**TO_GUEST, seq=100, flags="S"),
                tcp(seq=1000 + OFFSET, ack=101, flags="S"),
                tcp(**TO_GUEST, seq=101, ack=1001),
            )
        )
        rewriter.ingress(opening, 12, len(opening), False, 0.0)
        rewriter.egress(answer, 12, len(answer), False, 0.0)
        rewriter.ingress(acknowledgment, 12, len(acknowledgment), False, 0.0)

    def guest(self, *frames: bytes) -> list[bytes]:
        """The guest sends these; what reaches the network now."""
        before = len(self.uplink.sent)
        self.tap.put(*frames)
        while self.path.on_primary():
            pass
        return self.uplink.sent[before:]

    def client(self, *frames: bytes) -> list[bytes]:
        """The network has these for the guest; what it gets."""
        before = len(self.tap.sent)
        self.uplink.put(*frames)
        while self.path.on_mirror():
            pass
        return self.tap.sent[before:]

    def replica(self, *frames: bytes) -> list[bytes]:
        """The link brings what the new secondary has sent; what reaches the network now."""
        before = len(self.uplink.sent)
        buffer, found = bytearray(), list[Frame]()
        for frame in frames:
            start = len(buffer)
            buffer += virtio(frame)
            found.append((start, start + 12, len(buffer)))
        self.path.from_secondary(buffer, found)
        buffer[:] = bytes(len(buffer))
        return self.uplink.sent[before:]

    def open(self) -> None:
        """A new connection, of both replicas."""
        self.client(tcp(**NEW_TO_GUEST, seq=500, flags="S"))
        assert self.guest(tcp(**NEW, seq=7000, ack=501, flags="SA")) == []
        assert len(self.replica(tcp(**NEW, seq=9000, ack=501, flags="SA"))) == 1
        self.client(tcp(**NEW_TO_GUEST, seq=501, ack=7001))


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    close_all((made.tap, made.uplink))


@pytest.fixture
def compared(rig: Rig) -> Rig:
    rig.path.traffic = Traffic.COMPARE
    return rig


def test_alone_both_ways_go_by_the_uplink_in_the_numbers_that_clients_know(rig: Rig) -> None:
    (answer,) = rig.guest(tcp(seq=1001 + OFFSET, ack=101, payload=b"answer"))
    assert read_tcp(answer).seq == 1001
    (acknowledgment,) = rig.client(tcp(**TO_GUEST, seq=101, ack=1007))
    assert read_tcp(acknowledgment).ack == 1007 + OFFSET
    assert (rig.path.way.sent_packets, rig.path.passed_packets) == (1, 1)


def test_alone_everything_leaves_in_its_order(rig: Rig) -> None:
    frames = [udp(payload=bytes([n])) for n in range(READS + 3)]
    assert rig.guest(*frames[:5], arp(), *frames[5:]) == [*frames[:5], arp(), *frames[5:]]


def test_barred_nothing_leaves_whatever_it_is(rig: Rig) -> None:
    rig.path.traffic = Traffic.BLOCK
    assert rig.guest(arp(), udp(), tcp(seq=1001 + OFFSET, ack=101)) == []
    rig.path.send_kept([virtio(udp(payload=b"kept"))])
    assert (rig.uplink.sent, rig.path.blocked_packets) == ([], 4)


def test_when_it_becomes_the_service_the_guest_is_asked_and_its_clients_hear_of_it(rig: Rig) -> None:
    """In the clients' numbers and in the guest's."""
    prompts = rig.path.rewriter.prompts(9)
    rig.path.ask_guest(prompts)
    asked = read_tcp(rig.tap.sent[-1])
    assert (asked.seq, asked.ack) == (100, 1001 + OFFSET)
    rig.path.tell_clients(prompts)
    assert [frame[14 + 9] for frame in rig.uplink.sent] == [ICMP]
    rig.path.traffic = Traffic.BLOCK
    rig.path.tell_clients(prompts)
    assert (len(rig.uplink.sent), rig.path.prompts) == (1, 1)


def test_a_packet_leaves_once_the_link_brings_the_same_in_the_guests_numbers(compared: Rig) -> None:
    compared.open()
    assert compared.guest(tcp(**NEW, seq=7001, ack=501, payload=b"hello")) == []
    (hello,) = compared.replica(tcp(**NEW, seq=7001, ack=501, payload=b"hello"))
    assert (read_tcp(hello).seq, read_tcp(hello).payload) == (7001, b"hello")
    assert compared.reported == []


def test_what_differs_stays(compared: Rig) -> None:
    compared.open()
    assert compared.guest(tcp(**NEW, seq=7001, ack=501, payload=b"hello")) == []
    assert compared.replica(tcp(**NEW, seq=7001, ack=501, payload=b"jello")) == []
    assert [divergence.reason.value for divergence in compared.reported] == ["content"]


def test_an_old_connection_passes_uncompared_and_translated(compared: Rig) -> None:
    (old,) = compared.guest(tcp(seq=1001 + OFFSET, ack=101, payload=b"old"))
    assert read_tcp(old).seq == 1001
    assert compared.path.comparator.counters()["unsynchronised_packets"] == 1


def test_what_is_no_ip_passes(compared: Rig) -> None:
    assert compared.guest(arp()) == [arp()]


def test_the_secondary_gets_what_the_guest_gets(rig: Rig) -> None:
    got = rig.client(tcp(**TO_GUEST, seq=101, ack=1001, payload=b"ask"), udp(payload=b"two"))
    assert rig.link.put_packets == [virtio(frame) for frame in got]
    assert read_tcp(got[0]).ack == 1001 + OFFSET
    assert rig.link.flushes == 1


def test_what_is_held_survives_that_its_buffer_is_read_into_again(compared: Rig) -> None:
    first, second, third = (udp(payload=text) for text in (b"first", b"second", b"third"))
    assert compared.guest(first) == []
    assert compared.guest(second, third) == []
    assert compared.replica(third, first, second) == [third, first, second]


def test_more_than_the_limit_is_dropped_and_nothing_of_it_is_kept(compared: Rig) -> None:
    frames = [udp(payload=bytes([n])) for n in range(HELD + 5)]
    assert compared.guest(*frames) == []
    assert compared.path.comparator.counters()["held_limit_drops"] == 5
    assert compared.replica(*frames) == frames[:HELD]


def test_a_checkpoint_releases_what_is_held(compared: Rig) -> None:
    frame = udp(payload=b"held")
    assert compared.guest(frame) == []
    compared.path.stopped()
    compared.path.checkpoint_done(synchronised=True)
    assert compared.uplink.sent == [frame]


def test_an_acknowledgement_above_the_floor_leaves_lowered(compared: Rig) -> None:
    compared.open()
    compared.client(tcp(**NEW_TO_GUEST, seq=501, ack=7001, payload=b"ask"))
    assert compared.guest(tcp(**NEW, seq=7001, ack=503), tcp(**NEW, seq=7001, ack=504)) == []
    compared.replica(tcp(**NEW, seq=7001, ack=502))
    compared.path.cure(1e9)
    told = [read_tcp(frame) for frame in compared.uplink.sent[1:]]
    assert told
    assert {segment.ack for segment in told} == {502}


def test_packets_of_our_own_leave_in_the_numbers_that_clients_know(rig: Rig) -> None:
    rig.path.way.send(virtio(tcp(seq=1001 + OFFSET, ack=101, payload=b"ours")))
    assert read_tcp(rig.uplink.sent[0]).seq == 1001


def test_without_an_uplink_the_newest_frames_are_kept_in_order_and_the_others_counted(rig: Rig) -> None:
    rig.path.way.uplink = None
    frames = [udp(payload=n.to_bytes(2, "big")) for n in range(MOST_KEPT + 3)]
    rig.path.send_kept([virtio(frames[0])])
    assert rig.guest(*frames[1:]) == []
    assert rig.path.way.lost_packets == 3
    assert not rig.path.on_mirror()
    assert [descriptor for descriptor, _ in rig.path.sources()] == [rig.tap.fileno()]
    rig.path.connect(rig.uplink)
    assert rig.uplink.sent == frames[3:]


def test_malformed_frames_of_the_guest_are_counted(rig: Rig) -> None:
    good = udp(payload=b"good")
    assert rig.guest(udp(payload=b"bad")[:20], bytes(3), good) == [good]
    assert rig.path.way.malformed_packets == 2
