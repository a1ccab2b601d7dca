"""Frames that no guest should send, while a client is served: counted, kept from it, and no disturbance."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv6Address
from random import Random
from typing import Any

import pytest
from pyroute2 import netns

from colo_bridge.lab import daemon, workload
from colo_bridge.lab.layout import (
    CLIENT_ADDRESS,
    CLIENT_IPV6_ADDRESS,
    CLIENT_MAC,
    GUEST_ADDRESS,
    GUEST_IPV6_ADDRESS,
    Role,
)
from tests import packets
from tests.lab.helpers import lab, wait_until

MARK = bytes.fromhex("02cbbadbad01")
"""Source address of every bad frame: so a capture tells them from what the service sends."""
TO_CLIENT = bytes.fromhex(CLIENT_MAC.replace(":", ""))
IPV4, IPV6, ARP, VLAN, QINQ, UNKNOWN = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x88B5
TCP, UDP = 6, 17
GARBAGE_FRAMES = 1000
BYTES = 300_000_000
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23


def frame(body: bytes, ethertype: int = IPV4) -> bytes:
    return TO_CLIENT + MARK + ethertype.to_bytes(2, "big") + body


def ipv4(protocol: int, body: bytes, fragment: int = 0) -> bytes:
    return packets.ipv4(GUEST_ADDRESS, CLIENT_ADDRESS, protocol, body, fragment=fragment)


def ipv6(following: int, body: bytes) -> bytes:
    addresses = IPv6Address(GUEST_IPV6_ADDRESS).packed + IPv6Address(CLIENT_IPV6_ADDRESS).packed
    return struct.pack("!IHBB", 6 << 28, len(body), following, 64) + addresses + body


def tagged(inner: bytes, tag: int) -> bytes:
    return frame(struct.pack("!HH", 7, IPV4) + inner, tag)


SOUND = ipv4(UDP, struct.pack("!HHHH", 9, 9, 28, 0) + bytes(20))
DATAGRAM = struct.pack("!HHHH", 9, 9, 128, 1) + bytes(120)
FRAGMENTS = {
    "IPv4": [frame(ipv4(UDP, DATAGRAM[:64], 0x2000)), frame(ipv4(UDP, DATAGRAM[64:], 8))],
    "IPv6": [
        frame(ipv6(44, struct.pack("!BBHI", UDP, 0, bits, 77) + part), IPV6)
        for bits, part in ((1, DATAGRAM[:64]), (64, DATAGRAM[64:]))
    ],
}

_TRANSPORT = {
    "TCP data offset beyond the packet": (TCP, bytes(12) + b"\xf0\x10" + bytes(6)),
    "TCP data offset below its header": (TCP, bytes(12) + b"\x40\x10" + bytes(6)),
    "TCP header cut off": (TCP, bytes(12)),
    "UDP length beyond the packet": (UDP, struct.pack("!HHHH", 9, 9, 1000, 0) + bytes(20)),
    "UDP length below its header": (UDP, struct.pack("!HHHH", 9, 9, 7, 0) + bytes(20)),
}
MALFORMED = {
    **{f"IPv4, {what}": frame(ipv4(protocol, body)) for what, (protocol, body) in _TRANSPORT.items()},
    **{f"IPv6, {what}": frame(ipv6(protocol, body), IPV6) for what, (protocol, body) in _TRANSPORT.items()},
    "IPv6, extension header beyond the packet": frame(ipv6(60, b"\x11\x09" + bytes(14)), IPV6),
    "IPv6, extension header cut off": frame(ipv6(60, b"\x11"), IPV6),
    "IPv6, extension headers without an end": frame(ipv6(60, b"\x3c\x00" + bytes(6)), IPV6),
}
"""What an IP stack on the way lets pass."""
MALFORMED_IP = {
    "total length beyond the frame": frame(SOUND[:-4]),
    "header of four words": frame(b"\x44" + SOUND[1:]),
    "IP version 9": frame(b"\x95" + SOUND[1:]),
    "17 octets in all": frame(SOUND[:3]),
    "IPv6 length beyond the frame": frame(ipv6(59, bytes(20))[:-4], IPV6),
    "IPv6 header cut off": frame(ipv6(59, b"")[:39], IPV6),
    "IPv4 that is called IPv6": frame(SOUND, IPV6),
}
TAGGED = {
    "vlan": tagged(SOUND, VLAN),
    "qinq": tagged(SOUND, QINQ),
}
"""By the name of the kernel's counter."""
NOT_IP = {"ARP": frame(packets.arp(GUEST_ADDRESS, CLIENT_ADDRESS)[14:], ARP), "unknown": frame(bytes(46), UNKNOWN)}


class Capture:
    """What arrives at cb-client with the mark."""

    def __init__(self) -> None:
        self._socket = packet_socket(Role.CLIENT)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        _only_marked(self._socket)

    def frames(self, seconds: float) -> Iterator[bytes]:
        """All that comes until nothing came for so long."""
        while select.select([self._socket], [], [], seconds)[0]:
            yield self._socket.recv(1 << 16)

    def close(self) -> None:
        self._socket.close()


def packet_socket(role: Role) -> socket.socket:
    """An AF_PACKET socket at eth0 of a namespace: only a thread that ends enters it."""

    def inside() -> socket.socket:
        netns.setns(role.namespace)
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        made.bind(("eth0", 0))
        return made

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(inside).result()


def _only_marked(listener: socket.socket) -> None:
    """A classic BPF program: accept where octets 6 to 9 of the frame are those of MARK (linux/filter.h)."""
    load_word, jump_if_equal, give_back = 0x20, 0x15, 0x06
    instructions = [
        (load_word, 0, 0, 6),
        (jump_if_equal, 0, 1, int.from_bytes(MARK[:4], "big")),
        (give_back, 0, 0, 0xFFFF),
        (give_back, 0, 0, 0),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in instructions))
    header = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
    # What arrived before the filter was there.
    while select.select([listener], [], [], 0)[0]:
        listener.recv(1 << 16)


def send(role: Role, *frames: bytes) -> None:
    with packet_socket(role) as wire:
        for one in frames:
            wire.send(one)


class Watched:
    """A service under way, the daemon's numbers since it began, and the client's capture."""

    def __init__(self, before: dict[str, Any], capture: Capture) -> None:
        self._before = before
        self._capture = capture

    def counted(self, name: str, where: str = "counters") -> int:
        return int(daemon.status()[where].get(name, 0) - self._before[where].get(name, 0))

    def arrived(self, expected: int = 0) -> set[bytes]:
        """Marked frames at the client: as many as are expected, or whatever comes within a moment."""
        found: set[bytes] = set()
        deadline = time.monotonic() + 5
        while len(found) < expected and time.monotonic() < deadline:
            found |= set(self._capture.frames(0.05))
        return found | set(self._capture.frames(0.2))


@contextmanager
def served() -> Iterator[Watched]:
    """A GET and a PUT run during this block; both have to end right, without unequal bytes."""
    before, capture = daemon.status(), Capture()
    try:
        with ThreadPoolExecutor(2) as pool:
            transfers = [pool.submit(_transfer, operation) for operation in ("get", "put")]
            wait_until(lambda: _moved(before) > 1_000_000, 10, "the transfers are under way")
            yield Watched(before, capture)
            assert _all_right(transfers)
    finally:
        capture.close()
    after = daemon.status()
    for reason in ("content", "control", "datagram"):
        assert after["divergences"][reason] == before["divergences"][reason], after["last_divergence"]
    # A check that comes late on a busy machine is said, and believed again when it has come.
    wait_until(lambda: daemon.status()["state"] == "protected", 5, "protected")


def _transfer(operation: str) -> dict[str, Any]:
    return workload.client([operation, "--bytes", str(BYTES), "--verify", "--timeout", "30"])


def _moved(before: dict[str, Any]) -> int:
    return int(daemon.status()["counters"]["primary_bytes"] - before["counters"]["primary_bytes"])


def _all_right(transfers: list[Future[dict[str, Any]]]) -> bool:
    reports = [transfer.result() for transfer in transfers]
    assert all(report["correct"] for report in reports), reports
    return True


def _reached(watched: Watched, count: int, name: str, where: str = "counters") -> Callable[[], bool]:
    return lambda: watched.counted(name, where) == count


@pytest.fixture(scope="class")
def dropping() -> Iterator[None]:
    # What only one replica sends costs a checkpoint after the timeout: a short one.
    with lab("--set", "compare.timeout=1.0"):
        workload.start_service()
        yield


@pytest.mark.usefixtures("dropping")
class TestPrimary:
    def test_malformed_packets_are_counted_and_dropped(self) -> None:
        with served() as watched:
            send(Role.PRIMARY, *MALFORMED.values())
            wait_until(_reached(watched, len(MALFORMED), "malformed_primary"), 5, "all are counted")
            assert watched.counted("dropped_packets") == len(MALFORMED)
            assert watched.arrived() == set()

    def test_tagged_frames_are_counted_by_the_kernel_and_dropped(self) -> None:
        with served() as watched:
            send(Role.PRIMARY, *TAGGED.values())
            for kind in TAGGED:
                wait_until(_reached(watched, 1, f"primary_discarded_{kind}", "kernel"), 5, f"{kind} is counted")
            assert watched.arrived() == set()

    def test_what_is_not_ip_passes(self) -> None:
        with served() as watched:
            send(Role.PRIMARY, *NOT_IP.values())
            assert watched.arrived(expected=len(NOT_IP)) == set(NOT_IP.values())

    def test_malformed_ip_reaches_nobody(self) -> None:
        """The bridge's own hooks drop it ahead of our rule."""
        with served() as watched:
            send(Role.PRIMARY, *MALFORMED_IP.values())
            assert watched.arrived() == set()

    @pytest.mark.parametrize("family", FRAGMENTS)
    def test_fragments_leave_once_both_have_sent_them(self, family: str) -> None:
        fragments = FRAGMENTS[family]
        with served() as watched:
            send(Role.PRIMARY, *fragments)
            send(Role.SECONDARY, *fragments)
            assert watched.arrived(expected=2) == set(fragments)
            assert watched.counted("malformed_primary") == 0

    @pytest.mark.parametrize("family", FRAGMENTS)
    def test_a_fragment_of_the_primary_alone_waits_for_a_checkpoint(self, family: str) -> None:
        first = FRAGMENTS[family][0]
        with served() as watched:
            send(Role.PRIMARY, first)
            # Looked at in this order: what has left when no checkpoint was done yet has left too early.
            seen = watched.arrived()
            assert not seen or watched.counted("checkpoints_done")
            assert seen | watched.arrived(expected=1 - len(seen)) == {first}
            assert watched.counted("timeout", "divergences")
            assert watched.counted("released_by_checkpoint_packets")

    def test_garbage(self) -> None:
        """Of 1,000 frames of random octets only what is not IP passes."""
        frames = garbage(11)
        passing = {one for one in frames if int.from_bytes(one[12:14], "big") not in (IPV4, IPV6, VLAN, QINQ)}
        with served() as watched:
            for some in slices(frames):
                send(Role.PRIMARY, *some)
                expected = passing.intersection(some)
                assert watched.arrived(expected=len(expected)) == expected
            for kind, ethertype in (("vlan", VLAN), ("qinq", QINQ)):
                sent = sum(one[12:14] == ethertype.to_bytes(2, "big") for one in frames)
                wait_until(_reached(watched, sent, f"primary_discarded_{kind}", "kernel"), 5, f"{kind} is counted")

    def test_garbage_behind_ipv6_headers(self) -> None:
        """What is not malformed was sent by the primary alone: it leaves by a checkpoint, or never."""
        frames = ipv6_garbage(13)
        with served() as watched:
            send(Role.PRIMARY, *frames)
            wait_until(lambda: watched.counted("malformed_primary") > GARBAGE_FRAMES / 8, 5, "the malformed ones count")
            wait_until(lambda: watched.counted("released_by_checkpoint_packets"), 10, "the others leave")
            assert watched.arrived() < set(frames)


@pytest.mark.usefixtures("dropping")
class TestSecondary:
    def test_malformed_frames_are_counted(self) -> None:
        bad = [*MALFORMED.values(), *MALFORMED_IP.values()]
        with served() as watched:
            send(Role.SECONDARY, *bad)
            wait_until(_reached(watched, len(bad), "malformed_secondary"), 5, "all are counted")
            assert watched.counted("rewriter_malformed") == len(bad)
            assert watched.arrived() == set()

    def test_what_is_not_compared_reaches_nobody(self) -> None:
        with served() as watched:
            send(Role.SECONDARY, *TAGGED.values(), *NOT_IP.values())
            wait_until(_reached(watched, len(NOT_IP), "not_ip_thrown_away"), 5, "what is not IP is counted")
            for kind in TAGGED:
                wait_until(_reached(watched, 1, f"secondary_discarded_{kind}", "kernel"), 5, f"{kind} is counted")
            assert watched.counted("malformed_secondary") == 0
            assert watched.arrived() == set()

    def test_fragments_of_the_secondary_alone_reach_nobody(self) -> None:
        with served() as watched:
            send(Role.SECONDARY, *FRAGMENTS["IPv4"], *FRAGMENTS["IPv6"])
            wait_until(lambda: watched.counted("timeout", "divergences"), 5, "the primary's silence is noticed")
            assert watched.arrived() == set()

    def test_garbage(self) -> None:
        frames = garbage(12)
        malformed = 0
        with served() as watched:
            for some in slices(frames):
                send(Role.SECONDARY, *some)
                malformed += sum(int.from_bytes(one[12:14], "big") == IPV4 or _is_broken_ipv6(one) for one in some)
                wait_until(_reached(watched, malformed, "malformed_secondary"), 5, "all malformed ones are counted")
            assert watched.counted("not_ip_thrown_away") > GARBAGE_FRAMES / 8
            assert watched.arrived() == set()

    def test_garbage_behind_ipv6_headers(self) -> None:
        with served() as watched:
            send(Role.SECONDARY, *ipv6_garbage(14))
            wait_until(lambda: watched.counted("malformed_secondary") > GARBAGE_FRAMES / 8, 5, "malformed ones count")
            wait_until(lambda: watched.counted("timeout", "divergences"), 5, "the primary's silence is noticed")
            assert watched.arrived() == set()

    def test_nothing_of_it_comes_back_to_a_guest(self) -> None:
        with served() as watched, packet_socket(Role.PRIMARY) as primary:
            _only_marked(primary)
            send(Role.SECONDARY, *MALFORMED.values(), *TAGGED.values(), *NOT_IP.values(), *FRAGMENTS["IPv4"])
            assert watched.arrived() == set()
            assert not select.select([primary], [], [], 0)[0]


def test_tagged_frames_of_the_primary_pass_where_configured() -> None:
    with lab("--set", "compare.timeout=1.0", "--set", "compare.tagged=pass"):
        workload.start_service()
        with served() as watched:
            send(Role.PRIMARY, *TAGGED.values(), *MALFORMED.values())
            send(Role.SECONDARY, *TAGGED.values(), *MALFORMED.values())
            wait_until(_reached(watched, len(MALFORMED), "malformed_primary"), 5, "all are counted")
            wait_until(_reached(watched, len(MALFORMED), "malformed_secondary"), 5, "all are counted")
            assert watched.arrived(expected=len(TAGGED)) == {_untagged(one) for one in TAGGED.values()}


def slices(frames: list[bytes], size: int = 100) -> Iterator[list[bytes]]:
    """Fewer at a time than a device's backlog takes while its processor is busy: the kernel drops the rest."""
    for first in range(0, len(frames), size):
        yield frames[first : first + size]


def garbage(seed: int) -> list[bytes]:
    """1,500 random octets behind the addresses; every other Ethernet type is one that somebody reads."""
    random = Random(seed)
    known = (IPV4, IPV6, VLAN, QINQ)
    return [
        frame(random.randbytes(1486), known[number // 2 % 4] if number % 2 else random.randrange(0x600, 0x10000))
        for number in range(GARBAGE_FRAMES)
    ]


def _is_broken_ipv6(one: bytes) -> bool:
    """By its version or its length."""
    length = int.from_bytes(one[18:20], "big")
    return int.from_bytes(one[12:14], "big") == IPV6 and (one[14] >> 4 != 6 or 54 + length > len(one))


def ipv6_garbage(seed: int) -> list[bytes]:
    """Sound IPv6 headers, then headers that mean something, then random octets."""
    random = Random(seed)
    following = (0, TCP, UDP, 43, 44, 50, 51, 58, 59, 60, 135, 255)
    return [
        frame(ipv6(random.choice(following), random.randbytes(random.randrange(1, 1400))), IPV6)
        for _ in range(GARBAGE_FRAMES)
    ]


def _untagged(one: bytes) -> bytes:
    """A packet socket is shown a frame without its tag, which comes beside it."""
    return one[:12] + one[16:] if int.from_bytes(one[12:14], "big") in (VLAN, QINQ) else one
