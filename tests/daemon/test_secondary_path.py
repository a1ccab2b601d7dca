"""One NIC of a secondary on its own host, with ports that overwrite their buffers at every read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from colo_bridge.daemon.primary_side import READS
from colo_bridge.daemon.secondary_path import MOST_KEPT, Out, SecondaryPath
from colo_bridge.kernel.tap import VNET_HEADER_BYTES
from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.rewriter import Rewriter
from colo_bridge.wire.framing import Frame
from tests.daemon.fakes import FakeTap, close_all
from tests.daemon.test_primary_path import FakeLink
from tests.packets import udp, virtio


class Rig:
    def __init__(self) -> None:
        self.tap = FakeTap()
        self.link = FakeLink()
        self.path = SecondaryPath("net0", self.tap, self.link, Rewriter(RewriteLimits()))
        self.path.out, self.path.delivers = Out.LINK, True

    def guest(self, *frames: bytes) -> None:
        self.tap.put(*frames)
        self.path.stopped()

    def kept(self) -> list[bytes]:
        return [frame[VNET_HEADER_BYTES:] for frame in self.path.take_over()]

    def primary(self, *frames: bytes) -> list[bytes]:
        """The link brings what clients sent; what the guest gets of it."""
        before = len(self.tap.sent)
        buffer, found = bytearray(), list[Frame]()
        for frame in frames:
            start = len(buffer)
            buffer += virtio(frame)
            found.append((start, start + 12, len(buffer)))
        self.path.from_primary(buffer, found)
        return self.tap.sent[before:]


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    close_all((made.tap,))


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [udp(payload=n.to_bytes(4, "big")) for n in range(first, first + count)]


def test_what_the_guest_sends_goes_on_the_link_once_a_turn(rig: Rig) -> None:
    frames = numbered(READS + 1)
    rig.guest(*frames)
    assert rig.link.put_packets == [virtio(frame) for frame in frames]
    assert rig.link.flushes == 2


def test_what_clients_sent_reaches_the_guest(rig: Rig) -> None:
    assert rig.primary(udp(payload=b"one"), udp(payload=b"two")) == [udp(payload=b"one"), udp(payload=b"two")]


def test_what_belongs_to_another_epoch_is_thrown_away_and_counted(rig: Rig) -> None:
    rig.path.delivers = False
    assert rig.primary(*numbered(3)) == []
    rig.path.out = Out.DISCARD
    rig.guest(*numbered(2))
    assert (rig.link.put_packets, rig.path.discarded_ingress, rig.path.discarded_egress) == ([], 3, 2)


def test_malformed_frames_of_the_guest_are_counted(rig: Rig) -> None:
    rig.guest(udp(payload=b"bad")[:20], bytes(3), udp(payload=b"good"))
    assert (rig.path.malformed_secondary, len(rig.link.put_packets)) == (2, 1)


def test_the_newest_frames_are_kept_and_the_others_counted(rig: Rig) -> None:
    rig.path.out = Out.KEEP
    rig.guest(*numbered(MOST_KEPT + 3))
    assert len(rig.link.put_packets) == MOST_KEPT + 3
    assert rig.path.kept_overflow == 3
    assert rig.kept() == numbered(MOST_KEPT, first=3)
    assert rig.kept() == []


@pytest.mark.parametrize("out", [Out.LINK, Out.DISCARD])
def test_once_the_primary_is_heard_again_nothing_is_kept(rig: Rig, out: Out) -> None:
    rig.path.out = Out.KEEP
    rig.guest(*numbered(3))
    rig.path.out = out
    assert rig.kept() == []


def test_a_copy_of_the_primary_has_sent_nothing_yet(rig: Rig) -> None:
    rig.path.out = Out.KEEP
    rig.guest(*numbered(3))
    rig.path.synchronised()
    rig.guest(*numbered(1, first=3))
    assert rig.kept() == numbered(1, first=3)
