"""One NIC of a primary whose secondary is elsewhere, with ports that overwrite their buffers at every read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Divergence
from colo_bridge.compare.settings import Settings
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.primary_path import PrimaryPath
from colo_bridge.daemon.primary_side import READS
from colo_bridge.membership.actions import Traffic
from colo_bridge.wire.framing import Frame
from tests.daemon.fakes import FakeQueue, FakeTap, close_all
from tests.packets import tcp, udp, virtio

SETTINGS = Settings(cure_after=0.0, forward=True)


class FakeLink:
    """Packets that were put, and how often they were sent; `room` is how many more it takes."""

    def __init__(self) -> None:
        self.put_packets: list[bytes] = []
        self.flushes = 0
        self.room = 1_000_000

    def put(self, _nic: str, packet: memoryview) -> bool:
        taken = len(self.put_packets) < self.room
        if taken:
            self.put_packets.append(bytes(packet))
        return taken

    def flush(self, _nic: str) -> None:
        self.flushes += 1


class Rig:
    def __init__(self) -> None:
        self.queue, self.mirror, self.forward = FakeQueue(), FakeTap(), FakeTap()
        self.link = FakeLink()
        self.reported: list[Divergence] = []
        outlet = Outlet(self.forward)
        self.path = PrimaryPath("net0", self.queue, self.mirror, self.link, Comparator(SETTINGS), self, outlet)
        self.path.accepts = True

    def diverged(self, divergence: Divergence) -> None:
        self.reported.append(divergence)

    def primary(self, *frames: bytes) -> list[int]:
        ids = self.queue.put(*frames)
        while self.path.on_primary():
            pass
        return ids

    def replica(self, *frames: bytes) -> None:
        """The link hands over a batch, in a buffer that it uses again."""
        buffer, found = bytearray(), list[Frame]()
        for frame in frames:
            start = len(buffer)
            buffer += virtio(frame)
            found.append((start, start + 12, len(buffer)))
        self.path.from_secondary(buffer, found)
        buffer[:] = bytes(len(buffer))

    def straddle(self) -> int:
        """A segment of which the secondary has sent the first part, that waits to be forwarded."""
        self.primary(tcp(seq=100, ack=1, flags="SA"))
        self.replica(tcp(seq=900, ack=1, flags="SA"), tcp(seq=101, ack=1, payload=b"part"))
        (whole,) = self.primary(tcp(seq=101, ack=1, payload=b"part and rest"))
        assert self.path.comparator.needs_cure
        return whole


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    close_all((made.queue, made.mirror, made.forward))


def test_a_packet_leaves_once_the_link_brings_the_same(rig: Rig) -> None:
    (number,) = rig.primary(udp(payload=b"hello"))
    assert rig.queue.accepted == []
    rig.replica(udp(payload=b"other"), udp(payload=b"hello"))
    assert rig.queue.accepted == [number]


def test_what_clients_send_is_copied_to_the_link_and_sent_once_a_turn(rig: Rig) -> None:
    frames = [udp(payload=bytes([n])) for n in range(READS + 1)]
    rig.mirror.put(*frames)
    assert rig.path.on_mirror()
    assert not rig.path.on_mirror()
    assert rig.link.put_packets == [virtio(frame) for frame in frames]
    assert rig.link.flushes == 2


def test_what_is_of_another_epoch_is_thrown_away_and_counted(rig: Rig) -> None:
    (number,) = rig.primary(udp(payload=b"hello"))
    rig.path.accepts = False
    rig.replica(udp(payload=b"hello"), udp(payload=b"hello"))
    assert (rig.path.stale_packets, rig.queue.accepted) == (2, [])
    rig.path.accepts = True
    rig.replica(udp(payload=b"hello"))
    assert rig.queue.accepted == [number]


@pytest.mark.parametrize("traffic", [Traffic.PASS, Traffic.BLOCK])
def test_where_nothing_is_compared_packets_are_decided_unseen_and_counted(rig: Rig, traffic: Traffic) -> None:
    rig.path.traffic = traffic
    ids = rig.primary(*(udp(payload=bytes([n])) for n in range(READS + 1)))
    rig.replica(udp(payload=b"\x00"))
    decided = rig.queue.accepted if traffic is Traffic.PASS else rig.queue.dropped
    assert decided == ids
    counts = (rig.path.passed_packets, rig.path.blocked_packets, rig.path.stale_packets)
    assert counts == ((len(ids), 0, 1) if traffic is Traffic.PASS else (0, len(ids), 1))


def test_malformed_frames_of_the_link_are_counted(rig: Rig) -> None:
    (number,) = rig.primary(udp(payload=b"good"))
    rig.replica(udp(payload=b"bad")[:20], bytes(3), udp(payload=b"good"))
    assert rig.path.comparator.counters()["malformed_secondary"] == 2
    assert rig.queue.accepted == [number]


def test_at_the_pause_what_was_sent_is_read_and_what_would_be_given_is_not(rig: Rig) -> None:
    ids = rig.queue.put(*(udp(payload=bytes([n])) for n in range(READS + 1)))
    rig.mirror.put(*(udp(payload=b"in") for _ in range(READS + 1)))
    rig.path.stopped()
    assert not (rig.queue.waiting or rig.mirror.waiting)
    assert (rig.link.put_packets, rig.path.mirrored_discarded) == ([], READS + 1)
    (later,) = rig.queue.put(udp(payload=b"later"))
    rig.path.checkpoint_done(True)
    assert rig.queue.accepted == ids
    assert rig.primary() == []
    assert later not in rig.queue.accepted


def test_a_checkpoint_that_copies_nothing_releases_what_waits_unread(rig: Rig) -> None:
    ids = rig.queue.put(*(udp(payload=bytes([n])) for n in range(READS + 1)))
    rig.path.checkpoint_done(False)
    assert rig.queue.accepted == ids


# Nothing may leave.


@pytest.mark.parametrize("synchronised", [True, False])
def test_a_checkpoint_lets_nothing_out_where_nothing_may_leave(rig: Rig, synchronised: bool) -> None:
    ids = rig.primary(udp(payload=b"held"))
    rig.path.traffic = Traffic.BLOCK
    rig.path.checkpoint_done(synchronised)
    assert (rig.queue.accepted, rig.queue.dropped, rig.path.blocked_packets) == ([], ids, 1)


def test_nor_do_connections_that_are_forgotten(rig: Rig) -> None:
    ids = rig.primary(udp(payload=b"held"), tcp(seq=1, flags="S"))
    rig.path.traffic = Traffic.BLOCK
    rig.path.forget()
    assert (rig.queue.accepted, sorted(rig.queue.dropped)) == ([], ids)
    assert rig.path.comparator.held_packets == 0


def test_nor_does_time(rig: Rig) -> None:
    whole = rig.straddle()
    rig.path.traffic = Traffic.BLOCK
    rig.path.cure(1e9)
    rig.path.tick(1e9)
    assert (rig.forward.sent, rig.reported) == ([], [])
    rig.path.traffic = Traffic.COMPARE
    rig.path.cure(1e9)
    assert len(rig.forward.sent) == 1
    assert whole not in rig.queue.accepted
