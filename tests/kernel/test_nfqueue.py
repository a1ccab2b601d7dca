"""Held packets: real NFQUEUE, real 64 KB segments, both firewall variants."""

import os
import random
import socket
import struct

import pytest

from colo_bridge.config import QueueConfig
from colo_bridge.errors import OperatorError
from colo_bridge.kernel import bridge, firewall, links, nfqueue_messages
from colo_bridge.kernel.bridge import Hook
from colo_bridge.kernel.family import Family
from colo_bridge.kernel.firewall import Diversion, Tables
from colo_bridge.kernel.nfqueue import PacketQueue
from tests.kernel import rig
from tests.kernel.rig import Host, ident_of, receive_from, until

pytestmark = pytest.mark.namespace


def divert(backend: str, *, bypass: bool = False, port: str = "p0") -> None:
    for family in Family:
        bridge.set_hook(Hook("br0", family), True)
        opened = firewall.open_firewall(Tables(backend, family))
        opened.place(Diversion(port, True, 7, bypass, firewall.tag_of("g1", "net0")))


def held(queue: PacketQueue, count: int) -> list[tuple[int, bytes, bool]]:
    """The next packets: id, content, truncated."""
    packets = []
    for _ in range(count):
        received = receive_from(queue)
        assert received, f"only {len(packets)} of {count} packets came"
        packet_id, start, end, truncated = received
        packets.append((packet_id, bytes(queue.buffer[start:end]), truncated))
    return packets


def test_one_queue_holds_both_families(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend)
    for frame, ethernet_type, segment in ((rig.udp(b"4"), 0x0800, 0), (rig.tcp6(bytes(60_000)), 0x86DD, 1_428)):
        host.primary.send(frame, segment=segment)
        ((packet_id, content, truncated),) = held(queue, 1)
        assert (content, truncated, queue.protocol) == (frame[14:], False, ethernet_type)
        assert host.client.silent()
        queue.accept(packet_id)
        queue.flush()
        assert host.client.receive() == frame
    queue.close()


def test_segments_of_64_kb_are_held_and_released_in_any_order(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend)
    sent = [rig.tcp(random.Random(ident).randbytes(60_000), ident=ident) for ident in range(20)]
    for segment in sent:
        host.primary.send(segment, segment=1_448)
    packets = held(queue, 20)
    assert [content for _, content, _ in packets] == [segment[14:] for segment in sent]
    assert not any(truncated for _, _, truncated in packets)
    assert queue.protocol == 0x0800
    assert queue.receive() is None
    assert host.client.silent()
    order = random.Random(1).sample(packets, 20)
    for packet_id, _, _ in order:
        queue.accept(packet_id)
    queue.flush()
    for _, content, _ in order:
        assert host.client.receive()[14:] == content
    queue.close()


def test_dropped_packets_never_leave(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend)
    for ident in range(10):
        host.primary.send(rig.udp(b"data", ident=ident))
    for packet_id, content, _ in held(queue, 10):
        (queue.drop if ident_of(content, 0) % 2 else queue.accept)(packet_id)
    queue.flush()
    assert [ident_of(host.client.receive()) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert host.client.silent()
    assert queue.counters()["waiting"] == 0
    queue.close()


def test_replaced_payload_leaves_in_its_place(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend)
    for ident in range(3):
        host.primary.send(rig.udp(b"before", ident=ident))
    first, second, third = held(queue, 3)
    queue.accept(first[0])
    queue.replace(second[0], second[1].replace(b"before", b"after!"))
    queue.accept(third[0])
    queue.flush()
    assert [host.client.receive()[42:48] for _ in range(3)] == [b"before", b"after!", b"before"]
    queue.close()


def test_thousands_of_verdicts_in_one_flush(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig(length=8_192))
    divert(backend)
    for ident in range(3_000):
        host.primary.send(rig.udp(b"x", ident=ident))
    for packet_id, _, _ in held(queue, 3_000):
        queue.accept(packet_id)
    queue.flush()
    assert [ident_of(host.client.receive()) for _ in range(3_000)] == list(range(3_000))
    queue.flush()
    assert host.client.silent()
    assert queue.counters()["verdict_errors"] == 0
    queue.close()


def test_verdict_for_an_unknown_packet_is_counted_and_harmless(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend)
    queue.accept(4_711)
    queue.flush()
    host.primary.send(rig.udp(b"data", ident=5))
    ((packet_id, content, _),) = held(queue, 1)
    assert ident_of(content, 0) == 5
    assert queue.counters()["verdict_errors"] == 1
    queue.accept(packet_id)
    queue.flush()
    assert ident_of(host.client.receive()) == 5
    queue.close()


def test_overflow_of_the_queue_is_counted_and_holds_the_rest(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig(length=16))
    divert(backend)
    for ident in range(40):
        host.primary.send(rig.udp(b"x", ident=ident))
    assert len(held(queue, 16)) == 16
    assert queue.receive() is None
    assert queue.counters()["queue_dropped"] == 24
    assert queue.counters()["waiting"] == 16
    assert host.client.silent()
    queue.close()


def test_full_queue_accepts_where_configured(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig(length=16, accept_when_full=True))
    divert(backend)
    for ident in range(40):
        host.primary.send(rig.udp(b"x", ident=ident))
    assert [ident_of(host.client.receive()) for _ in range(24)] == list(range(16, 40))
    assert host.client.silent()
    queue.close()


@pytest.mark.parametrize("bypass", [False, True])
def test_dead_daemon_blocks_unless_bypass_is_configured(backend, bypass):
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend, bypass=bypass)
    queue.close()
    host.primary.send(rig.udp(b"x", ident=9))
    arrived = host.client.receive(rig.PATIENCE if bypass else rig.SILENCE)
    assert (arrived is not None) is bypass


def test_full_socket_is_counted(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig(socket_buffer=1 << 18))
    divert(backend)
    for ident in range(40):
        host.primary.send(rig.tcp(bytes(60_000), ident=ident), segment=1_448)
    until(lambda: queue.counters()["socket_dropped"] > 0, "a drop")
    came = 0
    while queue.receive():
        came += 1
    assert came + queue.counters()["socket_dropped"] == 40
    host.primary.send(rig.udp(b"x", ident=77))
    assert ident_of(held(queue, 1)[0][1], 0) == 77
    queue.close()


def test_packet_longer_than_the_kernel_delivers_is_marked_as_cut(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend)
    for device in ("p1", "p0", "br0", "c0", "c1"):
        links.change(device, mtu=65_535)
    host.primary.send(rig.udp(bytes(65_535 - 28), ident=1))
    host.primary.send(rig.udp(bytes(65_531 - 28), ident=2))
    (_, cut, cut_truncated), (_, whole, whole_truncated) = held(queue, 2)
    assert (len(cut), cut_truncated) == (65_531, True)
    assert (len(whole), whole_truncated) == (65_531, False)
    queue.close()


def test_payload_that_imitates_attribute_headers_does_not_move_the_packet(backend):
    """Bytes of the packet never serve as an attribute, whatever was learned from earlier packets."""
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend)
    imitation = b"".join(struct.pack("=HH", 200 - at, 10) for at in range(0, 160, 4))
    for ident, data in enumerate([b"plain", imitation, bytes(500), imitation * 3]):
        host.primary.send(rig.udp(data, ident=ident))
        host.primary.send(rig.tcp(data, ident=ident), segment=1_448)
    for position, (_, content, _) in enumerate(held(queue, 8)):
        assert content[0] == 0x45
        assert ident_of(content, 0) == position // 2
        assert len(content) == int.from_bytes(content[2:4], "big")
    queue.close()


def test_second_binder_gets_a_clear_error():
    queue = PacketQueue(7, QueueConfig())
    with pytest.raises(OperatorError, match="queue 7 is taken"):
        PacketQueue(7, QueueConfig())
    assert queue.is_bound()
    queue.close()
    PacketQueue(7, QueueConfig()).close()


def test_without_privilege_the_error_says_so():
    def body() -> None:
        os.setuid(65_534)
        with pytest.raises(OperatorError, match="no permission"):
            PacketQueue(7, QueueConfig())

    assert not rig.in_child(body)


def test_lost_binding_is_noticed_and_made_again(backend):
    host, queue = Host(), PacketQueue(7, QueueConfig())
    divert(backend)
    with socket.socket(fileno=socket.dup(queue.fileno())) as same:
        same.send(nfqueue_messages.command(7, bind=False))
    assert not queue.is_bound()
    queue.rebind()
    assert queue.is_bound()
    host.primary.send(rig.tcp(bytes(60_000), ident=3), segment=1_448)
    ((_, content, truncated),) = held(queue, 1)
    assert (len(content), truncated) == (60_040, False)
    queue.close()
