"""`colo-bridge compare` between the filters of a real QEMU, and beside its comparator."""

from __future__ import annotations

import threading
from random import Random

import pytest

from tests import qemu
from tests.packets import arp, ethernet, icmp, tcp, udp
from tests.peers import Comparison, comparing, wait_for

VNET = pytest.mark.parametrize("options", [(), ("--vnet-hdr",)], ids=["plain", "vnet-hdr"])


def frame_of(number: int, size: int) -> bytes:
    return tcp(dport=5_000 + number, seq=1_000, ack=1, flags="P", payload=number.to_bytes(4, "big") + bytes(size))


@VNET
def test_frames_cross_qemus_filters_and_come_back_as_they_were(options):
    random = Random(4)
    with comparing(*options, connected=False) as compare, qemu.filters(compare) as cards:
        for number in range(200):
            frame = frame_of(number, random.choice((0, 1, 1_400, 9_000, 50_000)))
            first, second = random.sample(("primary", "secondary"), 2)
            cards[first].send(frame)
            cards[second].send(frame)
            assert cards["network"].receive() == frame
        cards["primary"].send(arp())
        assert cards["network"].receive() == arp()
        counters = compare.counters()
        assert not counters.keys() & {"malformed_primary", "malformed_secondary", "held_packets_now", "divergences"}


def test_qemu_and_compare_never_wait_for_each_other_for_ever():
    """QEMU writes what the primary sends and reads what leaves in one thread, and blocks while it writes."""
    frames = [ethernet(number.to_bytes(4, "big") + bytes(50_000), 0x88CC) for number in range(3_000)]
    with comparing(connected=False) as compare, qemu.filters(compare) as cards:
        writer = threading.Thread(target=lambda: [cards["primary"].send(frame) for frame in frames])
        writer.start()
        left: list[bytes] = []
        reader = threading.Thread(target=lambda: left.extend(iter(cards["network"].receive, arp())))
        reader.start()
        writer.join()
        wait_for(lambda: len(left) + compare.counters().get("out_lost_packets", 0) == len(frames))
        cards["primary"].send(arp())
        reader.join()
        assert set(left) <= set(frames)
        assert left == sorted(left, key=frames.index)


def test_a_qemu_that_is_started_again_is_served_again():
    with comparing(connected=False) as compare:
        for number in range(3):
            with qemu.filters(compare) as cards:
                cards["primary"].send(frame_of(number, 10))
                cards["secondary"].send(frame_of(number, 10))
                assert cards["network"].receive() == frame_of(number, 10)
            wait_for(lambda number=number: compare.log().count("out: disconnected") == number + 1)


# Beside QEMU's comparator: the same traces, step by step.


def segments(random: Random, port: int, stream: bytes) -> list[bytes]:
    """A SYN-ACK and the stream, cut at random.

    What is left out is where the two differ by design:
    - pure ACKs and a bare FIN, which QEMU releases with whatever the secondary sends next;
    - different ACKs, which QEMU looks at for some ways of cutting only;
    - repetitions, loss and reordering; sequence numbers that wrap.
    """
    frames, at = [tcp(dport=port, seq=1_000, ack=1, flags="S")], 0
    while at < len(stream):
        size = random.randrange(1, 80)
        frames.append(tcp(dport=port, seq=1_001 + at, ack=1, flags="P", payload=stream[at : at + size]))
        at += size
    return frames


def datagrams(random: Random, port: int) -> list[bytes]:
    """One in each flow: of several, QEMU wants the newest first."""
    return [
        udp(dport=port, payload=random.randbytes(random.randrange(1, 100))),
        icmp("10.1.0.1", f"10.1.{port % 250}.{port // 250}", body=random.randbytes(8)),
    ]


def trace(seed: int) -> list[tuple[str, bytes]]:
    """What each replica sends, in the order of its streams; which of them is ahead changes."""
    random, sides = Random(seed), {"primary": [], "secondary": []}
    for number in range(random.randrange(1, 4)):
        port = 5_000 + seed * 3 + number
        stream, single = random.randbytes(random.randrange(1, 400)), datagrams(random, port)
        for frames in sides.values():
            frames.extend(segments(random, port, stream) + single)
    order = [side for side, frames in sides.items() for _ in frames]
    random.shuffle(order)
    left = {side: iter(frames) for side, frames in sides.items()}
    return [(side, next(left[side])) for side in order]


def step(comparison: Comparison, side: str, frame: bytes) -> list[bytes]:
    if side == "primary":
        comparison.primary.send(frame)
        return comparison.out_after_primary()
    comparison.secondary.send(frame)
    return comparison.out_after_secondary()


@VNET
def test_equal_streams_in_order_leave_as_from_qemus_comparator(options):
    with comparing(*options) as ours, qemu.comparator(vnet=bool(options)) as theirs:
        released = 0
        for seed in range(40):
            for side, frame in trace(seed):
                left = step(ours, side, frame)
                assert left == step(theirs, side, frame), seed
                released += len(left)
        assert released == sum(side == "primary" for seed in range(40) for side, _ in trace(seed))
        assert ours.notified() == []
