"""What becomes of released frames while nobody reads them, with a clock of the test's own."""

from __future__ import annotations

import time

import pytest

from colo_bridge.daemon import back_pressure
from colo_bridge.daemon.back_pressure import BackPressure
from colo_bridge.daemon.clock import Clock
from colo_bridge.daemon.frame_socket import FrameSocket

FULL, ROOM, PATIENCE = back_pressure.FULL, back_pressure.ROOM, back_pressure.PATIENCE
MEBIBYTE = bytes(1 << 20)


class Out(FrameSocket):
    """A socket whose reader takes what the test says."""

    def __init__(self):
        self.name, self.queued_bytes, self.sent_bytes, self.sent = "out", 0, 0, []

    def send(self, messages):
        self.sent += messages
        self.queued_bytes += sum(map(len, messages))

    def read(self, size):
        self.queued_bytes -= size
        self.sent_bytes += size
        self.on_sent()


class Feed(FrameSocket):
    def __init__(self):
        self.is_read = True

    def pause(self):
        self.is_read = False

    def resume(self):
        self.is_read = True


class Rig:
    def __init__(self, monkeypatch):
        self.time = 1_000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.time)
        self.out, self.feeds, self.clock = Out(), (Feed(), Feed()), Clock()
        self.pressure = BackPressure(self.out, self.feeds, self.clock)

    @property
    def is_read(self):
        assert self.feeds[0].is_read == self.feeds[1].is_read
        return self.feeds[0].is_read

    def release(self, mebibytes):
        self.pressure.release([MEBIBYTE] * mebibytes)

    def wait(self, seconds):
        self.time += seconds
        self.pressure.tick()


@pytest.fixture
def rig(monkeypatch):
    return Rig(monkeypatch)


def fill(rig):
    rig.release((FULL >> 20) + 1)


def test_up_to_the_bound_nothing_waits(rig):
    rig.release(FULL >> 20)
    assert rig.is_read
    assert rig.pressure.stops == 0


def test_above_it_the_replicas_wait_until_there_is_room(rig):
    fill(rig)
    assert not rig.is_read
    rig.out.read(rig.out.queued_bytes - ROOM - 1)
    assert not rig.is_read
    rig.out.read(1)
    assert rig.is_read
    assert (rig.pressure.stops, rig.pressure.lost_packets) == (1, 0)


def test_meanwhile_the_comparators_clock_stands_still(rig):
    before = rig.clock.now()
    fill(rig)
    rig.wait(PATIENCE - 1)
    assert rig.clock.now() == before
    rig.out.read(rig.out.queued_bytes)
    assert rig.clock.now() == before
    rig.wait(1)
    assert rig.clock.now() == before + 1


def test_a_slow_reader_is_waited_for_as_long_as_it_takes(rig):
    fill(rig)
    for _ in range(20):
        rig.wait(PATIENCE - 1)
        rig.out.read(1)
    assert not rig.is_read


def test_a_reader_that_takes_nothing_is_not_waited_for_for_ever(rig):
    fill(rig)
    rig.wait(PATIENCE + 1)
    assert rig.is_read
    sent = len(rig.out.sent)
    rig.release(3)
    assert (len(rig.out.sent), rig.pressure.lost_packets) == (sent, 3)
    assert rig.clock.now() == 1_000.0
    rig.wait(1)
    assert rig.clock.now() == 1_001.0


def test_nor_ever_again_unless_it_is_another_one(rig):
    fill(rig)
    rig.wait(PATIENCE + 1)
    rig.out.read(rig.out.queued_bytes)
    fill(rig)
    rig.release(2)
    assert rig.is_read
    assert (rig.pressure.stops, rig.pressure.lost_packets) == (1, 2)
    rig.out.read(1 << 20)
    rig.release(1)
    assert rig.pressure.lost_packets == 2
    rig.out.on_connect()
    rig.release(1)
    assert not rig.is_read
    assert (rig.pressure.stops, rig.pressure.lost_packets) == (2, 2)
