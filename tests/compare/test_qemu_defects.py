"""What QEMU's comparator gets wrong (net/colo-compare.c, 7.2 to 10.2), each as a test named after the defect."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import MalformedPacket
from tests import packets
from tests.compare.playbook import Playbook, play

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""
TALK = """
    P b 1+10 ack 1 =>
    S   1+10 ack 1 => b
"""


@dataclass(slots=True)
class Frames:
    """A comparator that is fed frames; each call returns what leaves because of it."""

    comparator: Comparator = field(default_factory=Comparator)
    given: int = 0

    def primary(self, frame: bytes) -> list[int]:
        self.given += 1
        try:
            self.comparator.primary(parse_frame(frame, 0, len(frame)), self.given, 0.0)
        except MalformedPacket:
            self.comparator.primary_malformed(self.given, len(frame))
        return self._left()

    def secondary(self, frame: bytes) -> list[int]:
        try:
            self.comparator.secondary(parse_frame(frame, 0, len(frame)), 0.0)
        except MalformedPacket:
            self.comparator.secondary_malformed(len(frame))
        return self._left()

    def _left(self) -> list[int]:
        left = list(self.comparator.released)
        self.comparator.released.clear()
        return left

    @property
    def divergences(self) -> int:
        return len(self.comparator.divergences)


def test_constant_payload_with_shifted_starts_is_no_match() -> None:
    frames = Frames()
    assert frames.primary(packets.tcp(seq=1000, ack=500, payload=bytes(100))) == []
    assert frames.secondary(packets.tcp(seq=1050, ack=500, payload=bytes(100))) == []
    assert frames.secondary(packets.tcp(seq=1000, ack=500, payload=bytes(50))) == [1]


@pytest.mark.parametrize("lines", [("P b 1+3", "P c 4+7", "S 1+10"), ("S 1+10", "P b 1+3", "P c 4+7")])
def test_a_split_match_does_not_linger_and_time_out(lines: tuple[str, ...]) -> None:
    book = Playbook().run(OPENING)
    released = {"P b 1+3": "b", "P c 4+7": "c"} if lines[0][0] == "S" else {"S 1+10": "b c"}
    for line in lines:
        book.run(f"{line} ack 1 => {released.get(line, '')}")
    book.run("tick 9 =>")
    assert book["held_packets_now"] == book["secondary_packets_now"] == 0


def test_numbers_of_acks_may_differ() -> None:
    book = play(
        OPENING
        + """
        P b A 1 ack 90 =>
        S   A 1 ack 30 =>
        S   A 1 ack 60 =>
        S   A 1 ack 90 => b
        S   A 1 ack 90 =>
        P c A 1 ack 60 => c
        P d A 1 ack 90 => d
        tick 9         =>
    """
    )
    assert book["secondary_packets_now"] == 0


def test_an_ack_behind_the_wrap_is_above_the_floor_before_it() -> None:
    frames = Frames()
    assert frames.primary(packets.tcp(seq=1000, ack=16)) == []
    assert frames.secondary(packets.tcp(seq=1000, ack=0xFFFFFFF0)) == []
    assert frames.secondary(packets.tcp(seq=1000, ack=16)) == [1]


@pytest.mark.parametrize("padding", [6, 46])
def test_padding_behind_an_ack_is_no_data(padding: int) -> None:
    frames = Frames()
    assert frames.primary(packets.tcp(seq=1000, ack=500, padding=padding)) == []
    assert frames.secondary(packets.tcp(seq=1000, ack=500)) == [1]
    assert frames.secondary(packets.tcp(seq=1000, ack=500, payload=b"data", padding=padding)) == []
    assert frames.primary(packets.tcp(seq=1000, ack=500, payload=b"data")) == [2]


@pytest.mark.parametrize("number", [90_000, 4_000_000_000])
def test_used_ports_do_not_release_different_bytes(number: int) -> None:
    """A cursor that stays behind takes the new connection's bytes for old ones."""
    play(
        OPENING
        + TALK
        + f"""
        P c SA {number} ack 1                         =>
        S   SA {number} ack 1                         => c
        P d {number + 1}+10 ack 1                     =>
        S   {number + 1}+10!{number + 5} ack 1        => !content
    """
    )


def test_datagrams_are_not_taken_newest_first() -> None:
    play("""
        P a udp one =>
        P b udp two =>
        P c udp one =>
        S   udp one => a
        S   udp one => c
        S   udp two => b
    """)
    play("""
        P a udp one =>
        P b udp two =>
        checkpoint  => a b
    """)


def test_a_checkpoint_moves_the_cursor() -> None:
    play(
        OPENING
        + """
        P b 1+10 ack 1          =>
        S   1+10!3 ack 1        => !content
        checkpoint synchronised => b
        S   1+10!3 ack 1        =>
        P c 11+10 ack 1         =>
        S   11+10 ack 1         => c
        P d 1+10 ack 1          => d
    """
    )


def test_a_frame_of_no_length_is_dropped_and_the_next_is_compared() -> None:
    frames = Frames()
    assert frames.primary(b"") == frames.secondary(b"") == []
    assert frames.comparator.dropped == [1]
    assert frames.primary(packets.udp(payload=b"next")) == []
    assert frames.secondary(packets.udp(payload=b"next")) == [2]
    counters = frames.comparator.counters()
    assert (counters["malformed_primary"], counters["malformed_secondary"]) == (1, 1)


@pytest.mark.parametrize("whole", [packets.tcp(payload=b"data"), packets.udp(payload=b"data"), packets.icmp()])
def test_nothing_is_read_behind_the_end_of_a_cut_frame(whole: bytes) -> None:
    frames = Frames()
    for length in range(len(whole)):
        assert frames.primary(whole[:length]) == []
        assert frames.secondary(whole[:length]) == []
    assert frames.comparator.counters()["malformed_primary"] == len(whole)


@pytest.mark.parametrize("offset", [0, 4, 15])
def test_a_data_offset_that_points_nowhere_is_refused(offset: int) -> None:
    frame = bytearray(packets.tcp(payload=b"data"))
    frame[14 + 20 + 12] = offset << 4
    frames = Frames()
    assert frames.primary(bytes(frame)) == []
    assert frames.comparator.dropped == [1]


def ipv6(payload: bytes) -> bytes:
    """A TCP segment over IPv6, without checksums, which nobody looks at."""
    addresses = IPv6Address("2001:db8::2").packed + IPv6Address("2001:db8::9").packed
    segment = struct.pack("!HHIIHHHH", 80, 5000, 1000, 500, 5 << 12 | 0x10, 500, 0, 0) + payload
    return packets.ethernet(struct.pack("!IHBB", 6 << 28, len(segment), 6, 64) + addresses + segment, 0x86DD)


def tagged(payload: bytes) -> bytes:
    return packets.tcp(seq=1000, ack=500, payload=payload, tag=7)


@pytest.mark.parametrize("build", [ipv6, tagged])
def test_ipv6_and_vlan_are_compared(build: Callable[[bytes], bytes]) -> None:
    frames = Frames()
    assert frames.primary(build(b"equal")) == []
    assert frames.secondary(build(b"equal")) == [1]
    other = Frames()
    other.primary(build(b"equal"))
    assert other.secondary(build(b"other")) == []
    assert other.divergences == 1


def test_the_same_ports_in_two_vlans_are_two_connections() -> None:
    frames = Frames()
    assert frames.primary(packets.tcp(seq=1000, ack=500, payload=b"one", tag=7)) == []
    assert frames.secondary(packets.tcp(seq=1000, ack=500, payload=b"two", tag=8)) == []
    assert frames.divergences == 0
