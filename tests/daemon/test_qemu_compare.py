"""`colo-bridge compare` as QEMU and a checkpoint manager meet it: real processes, real sockets."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.packets import arp, ethernet, tcp, udp, virtio
from tests.peers import SECONDS, Compare, Peer, comparing, connect, wait_for

DO_CHECKPOINT, CHECKPOINT_DONE = b"DO_CHECKPOINT", b"COLO_CHECKPOINT"
LARGEST = 4_096 + 65_536


def data(text: bytes, *, at: int = 0, port: int = 5000) -> bytes:
    return tcp(dport=port, seq=1_000 + at, ack=500, flags="P", payload=text)


def diverge(compare: Compare) -> bytes:
    """Make the replicas differ; the frame that is held because of it."""
    compare.primary.send(data(b"one"))
    assert compare.out_after_primary() == []
    compare.secondary.send(data(b"two"))
    assert compare.out_after_secondary() == []
    return data(b"one")


# Frames.


@pytest.mark.parametrize("size", [0, 10, 12, 20])
def test_virtio_headers_are_skipped_by_the_comparison_and_leave_with_the_frame(size):
    with comparing("--vnet-hdr") as compare:
        ours, theirs = b"\1" * size + data(b"same"), b"\2" * size + data(b"same")
        compare.primary.send(ours, header_length=size)
        compare.secondary.send(theirs, header_length=size)
        assert compare.out.receive() == ours
        assert compare.out.header_length == size


def test_frames_of_64_kilobytes():
    frame = data(bytes(range(256)) * 255)
    with comparing("--vnet-hdr") as compare:
        compare.primary.send(virtio(frame, segment_size=1_448), header_length=12)
        compare.secondary.send(virtio(frame), header_length=12)
        assert compare.out.receive() == virtio(frame, segment_size=1_448)


@pytest.mark.parametrize("options", [(), ("--vnet-hdr",)])
def test_an_empty_frame_is_dropped_and_counted(options):
    """QEMU's comparator ends the whole process over it."""
    with comparing(*options) as compare:
        compare.primary.send(b"", arp())
        assert compare.out.receive() == arp()
        compare.secondary.send(b"", data(b"same"))
        compare.primary.send(data(b"same"))
        assert compare.out.receive() == data(b"same")
        counters = compare.counters()
        assert counters["malformed_primary"] == counters["malformed_secondary"] == 1
        assert "socket_protocol_errors" not in counters


TRUNCATED = {
    "within the Ethernet header": arp()[:13],
    "within the IPv4 header": data(b"text")[:20],
    "IPv4 header longer than the packet": ethernet(b"\x4f" + data(b"")[15:34]),
    "within the TCP header": data(b"text")[:50],
    "TCP header longer than the packet": data(b"")[:46] + b"\xf0\x10" + data(b"")[48:],
    "within the TCP payload": data(b"text")[:-1],
    "within the UDP header": udp(payload=b"x")[:40],
    "IPv4 length below its header": data(b"text")[:16] + b"\0\x0a" + data(b"text")[18:],
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_truncated_frame_is_dropped_and_counted(name):
    """QEMU's comparator reads past the end of some of these."""
    with comparing() as compare:
        compare.secondary.send(TRUNCATED[name])
        assert compare.out_after_secondary() == []
        compare.primary.send(TRUNCATED[name])
        assert compare.out_after_primary() == []
        counters = compare.counters()
        assert counters["malformed_primary"] == counters["malformed_secondary"] == 1
        assert compare.notified() == []


def test_a_virtio_header_longer_than_its_frame():
    with comparing("--vnet-hdr") as compare:
        compare.primary.send(arp(), header_length=0xFFFFFFFF)
        assert compare.out_after_primary() == []
        assert compare.counters()["malformed_primary"] == 1


@pytest.mark.parametrize("length", [LARGEST + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_oversized_frame_ends_that_connection_only(length):
    with comparing() as compare:
        compare.primary.send(data(b"held"))
        compare.primary.socket.sendall(struct.pack("!I", length) + bytes(100))
        with pytest.raises((EOFError, ConnectionResetError)):
            compare.primary.receive()
        compare.secondary.send(data(b"held"))
        assert compare.out.receive() == data(b"held")
        compare.primary = compare.connect("primary-in")
        assert compare.out_after_primary() == []
        assert compare.counters()["socket_protocol_errors"] == 1
        complaints = [line for line in compare.log().splitlines() if " ERROR " in line]
        assert len(complaints) == 1
        assert f"primary-in: closed: a message of {length} bytes" in complaints[0]


def test_the_largest_frame_is_none_too_many():
    frame = arp() + bytes(LARGEST - len(arp()))
    with comparing() as compare:
        compare.primary.send(frame)
        assert compare.out.receive() == frame


# Checkpoints.


def test_a_manager_is_greeted():
    with comparing() as compare:
        compare.notify.send(b"COLO_USERSPACE_PROXY_INIT")
        assert compare.notify.receive() == b"COLO_COMPARE_GET_XEN_INIT"


def test_with_virtio_headers_the_manager_sends_their_length_and_gets_none():
    with comparing("--vnet-hdr") as compare:
        compare.notify.socket.sendall(struct.pack("!II", 25, 0) + b"COLO_USERSPACE_PROXY_INIT")
        answer = struct.pack("!I", 25) + b"COLO_COMPARE_GET_XEN_INIT"
        assert compare.notify.read(len(answer)) == answer


def test_a_divergence_is_reported_without_a_greeting_and_a_checkpoint_releases():
    with comparing() as compare:
        held = diverge(compare)
        assert compare.notify.receive() == DO_CHECKPOINT
        compare.notify.send(CHECKPOINT_DONE)
        assert compare.out.receive() == held
        compare.primary.send(data(b"next", at=3))
        compare.secondary.send(data(b"next", at=3))
        assert compare.out.receive() == data(b"next", at=3)
        assert compare.notified() == []


def test_a_manager_that_comes_later_is_asked():
    with comparing(connected=False) as compare:
        compare.primary, compare.secondary, compare.out = map(compare.connect, ("primary-in", "secondary-in", "out"))
        diverge(compare)
        wait_for(lambda: "nobody is connected to notify" in compare.log())
        compare.notify = compare.connect("notify")
        assert compare.notify.receive() == DO_CHECKPOINT


def test_a_manager_that_comes_back_is_asked_again_until_the_checkpoint_is_done():
    with comparing() as compare:
        held = diverge(compare)
        for _ in range(2):
            assert compare.notify.receive() == DO_CHECKPOINT
            compare.notify.close()
            compare.notify = compare.connect("notify")
        assert compare.notified() == [DO_CHECKPOINT]
        compare.notify.send(CHECKPOINT_DONE)
        assert compare.out.receive() == held
        compare.notify.close()
        compare.notify = compare.connect("notify")
        assert compare.notified() == []


def test_a_checkpoint_that_nobody_asked_for_releases_too():
    with comparing() as compare:
        compare.primary.send(data(b"alone"))
        assert compare.out_after_primary() == []
        compare.notify.send(CHECKPOINT_DONE)
        assert compare.out.receive() == data(b"alone")


def test_a_checkpoint_concerns_what_was_sent_before_it_though_not_yet_read():
    with comparing() as compare:
        assert compare.out_after_secondary() == compare.notified() == []
        compare.process.send_signal(signal.SIGSTOP)
        compare.notify.send(CHECKPOINT_DONE)
        compare.primary.send(data(b"before"))
        compare.secondary.send(data(b"stale", at=6))
        compare.process.send_signal(signal.SIGCONT)
        assert compare.out.receive() == data(b"before")
        compare.primary.send(data(b"after", at=6))
        assert compare.out_after_primary() == []
        compare.secondary.send(data(b"after", at=6))
        assert compare.out_after_secondary() == [data(b"after", at=6)]
        assert compare.notified() == []


def test_a_divergence_before_a_checkpoint_asks_for_no_other_one():
    with comparing() as compare:
        assert compare.out_after_secondary() == compare.notified() == []
        compare.process.send_signal(signal.SIGSTOP)
        compare.notify.send(CHECKPOINT_DONE)
        compare.primary.send(data(b"one"))
        compare.secondary.send(data(b"two"))
        compare.process.send_signal(signal.SIGCONT)
        assert compare.out.receive() == data(b"one")
        assert compare.notified() == []
        wait_for(lambda: "divergence (content)" in compare.log())


@pytest.mark.parametrize("message", [b"", b"COLO_CHECKPOINT\0", b"DO_CHECKPOINT", b"\xff" * 1000])
def test_an_unknown_message_is_counted(message):
    with comparing() as compare:
        compare.primary.send(data(b"alone"))
        compare.notify.send(message)
        assert compare.notified() == []
        assert compare.out_after_primary() == []
        assert compare.counters()["unknown_notifications"] == 1


def test_silence_of_one_replica_is_a_divergence():
    with comparing("--compare-timeout", "100") as compare:
        compare.primary.send(data(b"alone"))
        assert compare.notify.receive() == DO_CHECKPOINT
        assert "divergence (timeout) in 10.0.0.2:80 > 10.0.0.9:5000" in compare.log()


def test_without_a_notify_socket_what_diverged_stays_and_others_go_on():
    with comparing("--compare-timeout", "50", notify=False) as compare:
        diverge(compare)
        compare.secondary.send(data(b"other", port=5001))
        compare.primary.send(data(b"other", port=5001))
        assert compare.out.receive() == data(b"other", port=5001)
        wait_for(lambda: "there is no --notify: what diverged is never released" in compare.log())
        assert compare.counters()["held_packets_now"] == 1


# Clients that come and go.


@pytest.mark.parametrize("order", [("out", "notify", "secondary-in", "primary-in"), ("primary-in", "secondary-in")])
def test_clients_connect_in_any_order(order):
    with comparing(connected=False) as compare:
        peers = {name: compare.connect(name) for name in order}
        peers["primary-in"].send(data(b"same"))
        peers["secondary-in"].send(data(b"same"))
        if "out" not in peers:
            wait_for(lambda: compare.counters().get("released_packets") == 1)
            peers["out"] = compare.connect("out")
        assert peers["out"].receive() == data(b"same")


@pytest.mark.parametrize("name", ["primary-in", "secondary-in", "notify"])
def test_half_a_frame_is_forgotten_with_its_client(name):
    with comparing("--vnet-hdr") as compare:
        for part in (1, 4, 7, 8, 30):
            peer = {"primary-in": compare.primary, "secondary-in": compare.secondary, "notify": compare.notify}[name]
            peer.socket.sendall(peer.framed(data(b"half"))[:part])
            peer.close()
            again = compare.connect(name)
            if name == "primary-in":
                compare.primary = again
            elif name == "secondary-in":
                compare.secondary = again
            else:
                compare.notify = again
            assert compare.out_after_secondary() == []
            assert compare.notified() == []
        assert compare.counters()["socket_half_frames"] == 5
        assert "malformed_primary" not in compare.counters()


def test_what_is_held_outlives_every_client():
    with comparing() as compare:
        compare.primary.send(data(b"same"))
        assert compare.out_after_primary() == []
        for peer in compare.open:
            peer.close()
        compare.connect_all()
        compare.secondary.send(data(b"same"))
        assert compare.out.receive() == data(b"same")


def test_a_second_client_waits_until_the_first_has_gone():
    with comparing() as compare:
        second = compare.connect("primary-in")
        second.send(data(b"second"))
        compare.secondary.send(data(b"second"))
        assert compare.out_after_secondary() == []
        compare.primary.close()
        assert compare.out.receive() == data(b"second")


def test_a_client_that_goes_before_its_turn_is_no_trouble():
    with comparing() as compare:
        connect(compare.paths["primary-in"]).close()
        compare.primary.close()
        compare.primary = compare.connect("primary-in")
        assert compare.out_after_primary() == []


def test_a_frame_that_left_in_part_leaves_whole_to_the_next_reader():
    frames = [data(bytes((number & 0xFF,)) * 60_000, port=number) for number in range(1, 301)]
    with comparing() as compare:
        for frame in frames:
            compare.secondary.send(frame)
            compare.primary.send(frame)
        wait_for(lambda: compare.counters().get("released_packets") == len(frames))
        begun = [compare.out.receive()]
        compare.out.read(1_000)
        compare.out.close()
        compare.out = compare.connect("out")
        rest = compare.out_after_primary()
        assert rest == frames[len(frames) - len(rest) :]
        # What the kernel had taken whole went with the first reader.
        assert begun == frames[:1]
        assert 0 < len(rest) < len(frames)


# Clients that do not read.


def numbered(count: int, size: int = 60_000) -> list[bytes]:
    """Frames that pass from the primary, told apart by their number."""
    return [ethernet(number.to_bytes(4, "big") + bytes(size), 0x88CC) for number in range(count)]


def test_while_out_is_not_read_the_replicas_wait_and_nothing_is_lost():
    frames = numbered(2_000)
    with comparing() as compare:
        before = compare.resident_bytes()
        compare.primary.send(data(b"same"))
        writer = threading.Thread(target=compare.primary.send, args=frames)
        writer.start()
        wait_for(lambda: "bytes wait to be read: the replicas wait too" in compare.log())
        compare.secondary.send(data(b"same"))
        assert compare.resident_bytes() - before < 128 << 20
        assert writer.is_alive()
        left = [compare.out.receive() for _ in range(len(frames) + 1)]
        writer.join()
        assert [frame for frame in left if frame != data(b"same")] == frames
        assert data(b"same") in left
        assert compare.counters()["back_pressure"] >= 1
        assert compare.notified() == []


def test_another_reader_takes_what_the_first_one_left():
    frames = numbered(2_000)
    with comparing() as compare:
        writer = threading.Thread(target=compare.primary.send, args=frames)
        writer.start()
        wait_for(lambda: "the replicas wait too" in compare.log())
        compare.out.close()
        compare.out = compare.connect("out")
        left = [compare.out.receive()]
        while left[-1] != frames[-1]:
            left.append(compare.out.receive())
        writer.join()
        # What the kernel had taken for the first one went with it.
        assert left == frames[-len(left) :]
        assert len(left) > len(frames) - 100
        assert "out_lost_packets" not in compare.counters()


def test_answers_that_nobody_reads_are_bounded():
    question = struct.pack("!I", 25) + b"COLO_USERSPACE_PROXY_INIT"
    answer = struct.pack("!I", 25) + b"COLO_COMPARE_GET_XEN_INIT"
    with comparing() as compare:
        before = compare.resident_bytes()
        compare.notify.socket.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            while True:
                sent += compare.notify.socket.send(question * 1_000)
        assert compare.resident_bytes() - before < 8 << 20
        compare.notify.socket.settimeout(SECONDS)
        whole = sent // len(question)
        assert compare.notify.read(whole * len(answer)) == answer * whole


def test_packets_above_the_limit_are_dropped_counted_and_logged():
    with comparing("--max-queue", "2") as compare:
        compare.primary.send(*(data(b"x", port=port) for port in (1, 2, 3)))
        assert compare.out_after_primary() == []
        assert compare.counters()["held_limit_drops"] == 1
        wait_for(lambda: "held_limit_drops: 1 (1 more)" in compare.log())


# Where it listens.


def refused(*addresses: str) -> str:
    """The sentence with which the command ends."""
    words = [word for pair in zip(("--primary-in", "--secondary-in", "--out"), addresses, strict=True) for word in pair]
    finished = subprocess.run(
        [sys.executable, "-m", "colo_bridge", "compare", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 2, finished.stderr
    assert finished.stderr.count("colo-bridge: error: ") == 1
    return finished.stderr.splitlines()[-1]


def test_a_living_processs_socket_is_not_taken_from_it():
    with comparing() as compare:
        paths = [f"unix:{compare.paths[name]}2" for name in ("primary-in", "secondary-in")]
        assert "already running" in refused(*paths, f"unix:{compare.paths['out']}")
        assert not Path(compare.paths["primary-in"] + "2").exists()
        assert compare.out_after_primary() == []


def test_one_address_serves_one_purpose(tmp_path):
    assert "already running" in refused(f"unix:{tmp_path}/a", f"unix:{tmp_path}/b", f"unix:{tmp_path}/a")


def test_a_wrong_address_is_one_sentence():
    assert "is no address" in refused("unix", "unix:/nowhere/b", "unix:/nowhere/c")


def test_tcp_on_this_host(tmp_path):
    log = tmp_path / "log"
    words = [word for name in ("primary-in", "secondary-in", "out") for word in (f"--{name}", "tcp:127.0.0.1:0")]
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "colo_bridge", "compare", *words], stderr=file)
    try:
        wait_for(lambda: "out: listening" in log.read_text())
        ports = [int(line.rpartition(":")[2]) for line in log.read_text().splitlines() if "listening" in line]
        primary, secondary, out = (Peer(("127.0.0.1", port)) for port in ports)
        secondary.send(data(b"same"))
        primary.send(data(b"same"))
        assert out.receive() == data(b"same")
        process.terminate()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_tcp_for_other_hosts_has_to_be_insisted_on(tmp_path):
    addresses = "tcp:0.0.0.0:0", f"unix:{tmp_path}/b", f"unix:{tmp_path}/c"
    assert "say --insecure" in refused(*addresses)
    with comparing("--insecure", "--notify", "tcp:0.0.0.0:0", notify=False) as compare:
        assert compare.out_after_primary() == []
        assert "tcp:0.0.0.0:0 can be reached from other hosts" in compare.log()


@pytest.mark.parametrize("options", [("--compare-timeout", "0"), ("--compare-timeout", "x"), ("--max-queue", "-1")])
def test_a_wrong_number_is_refused(options):
    finished = subprocess.run(
        [sys.executable, "-m", "colo_bridge", "compare", *options], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2
    assert f"argument {options[0]}" in finished.stderr


# Life.


def test_it_needs_no_privileges(tmp_path):
    """Loaded first: the checkout may lie where only root may read."""
    program = (
        "import os, sys; import colo_bridge.cli.main as main, colo_bridge.daemon.qemu_compare\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main.main(sys.argv[1:]))"
    )
    tmp_path.chmod(0o755)
    os.chown(tmp_path, 65534, 65534)
    for parent in tmp_path.parents:
        if parent.owner() == "root" and parent.name.startswith("pytest"):
            parent.chmod(0o755)
    compare = Compare(tmp_path, command=(sys.executable, "-c", program))
    compare.connect_all()
    held = diverge(compare)
    assert compare.notify.receive() == DO_CHECKPOINT
    compare.notify.send(CHECKPOINT_DONE)
    assert compare.out.receive() == held
    assert compare.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_and_says_what_was_done(number):
    with comparing() as compare:
        compare.primary.send(data(b"same"), data(b"held", at=4))
        compare.secondary.send(data(b"same"))
        assert compare.out.receive() == data(b"same")
        compare.process.send_signal(number)
        assert compare.process.wait(SECONDS) == 0
        counters = compare.last_counters()
        assert (counters["primary_packets"], counters["released_packets"], counters["held_packets_now"]) == (2, 1, 1)
        # What is held was never equal: it does not leave.
        with pytest.raises((EOFError, ConnectionResetError)):
            compare.out.receive()
