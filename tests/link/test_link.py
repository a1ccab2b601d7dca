"""Both ends on real sockets: packets, barriers, refusals, silence, reconnects, bounds."""

import asyncio
import errno
import ipaddress
import logging
import re
import socket
import struct
import time
from pathlib import Path

import pytest
import uvloop

from colo_bridge.errors import OperatorError
from colo_bridge.link import address, server
from colo_bridge.link.address import Address
from colo_bridge.link.client import LinkClient
from colo_bridge.link.connection import dial
from colo_bridge.link.end import LinkEnd
from colo_bridge.link.protocol.actions import Ending, Timing
from colo_bridge.link.protocol.messages import (
    Barrier,
    CheckpointRequest,
    Failover,
    Heartbeat,
    Standing,
    Statistics,
    encode,
)
from colo_bridge.link.server import LinkServer
from colo_bridge.link.session import LinkSettings
from colo_bridge.wire.framing import encode as framed
from tests.link.ends import HERE, SETTINGS, Owner, linked, other, packet, running, until
from tests.link.sides import PRIMARY, SECONDARY


def run(test):
    """An async test on the daemon's event loop."""

    def wrapped(caplog):
        caplog.set_level(logging.INFO)
        uvloop.run(asyncio.wait_for(test(caplog), 60))

    wrapped.__name__ = test.__name__
    return wrapped


def lines(caplog, text: str) -> list[str]:
    return [record.message for record in caplog.records if text in record.message]


def sending(link, nic, *contents):
    for each in contents:
        assert link.put(nic, packet(each))
    link.flush(nic)


# Packets, messages and barriers.


@run
async def test_packets_arrive_in_order_and_unchanged_both_ways(caplog):
    contents = [bytes([n]) * (1 + 997 * n % 65_000) for n in range(200)]
    async with linked() as ends:
        sending(ends.client, "net0", *contents)
        sending(ends.server, "net1", *contents)
        await until(lambda: len(ends.primary.told) == 200 and len(ends.secondary.told) == 200)
        assert ends.primary.told == [("net0", each) for each in contents]
        assert ends.secondary.told == [("net1", each) for each in contents]


@run
async def test_neither_side_paces_or_delays_what_it_sends(caplog):
    async with linked() as ends:
        sockets = [end._session.streams["net0"]._socket for end in (ends.server, ends.client)]
        for each in sockets:
            assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"reno"
            assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@run
async def test_an_end_that_hangs_up_hears_of_it_and_keeps_its_numbers(caplog):
    async with linked() as ends:
        sending(ends.client, "net0", b"counted")
        before = ends.client.statistics()["sent_bytes"]
        await ends.client.close("it has better things to do")
        assert [str(closed.error) for closed in ends.secondary.downs] == ["it has better things to do"]
        assert ends.client.statistics()["sent_bytes"] >= before > 0


@run
async def test_a_barrier_stands_between_the_packets_of_two_epochs_on_every_stream(caplog):
    async with linked() as ends:
        for nic in SETTINGS.nics:
            sending(ends.client, nic, b"old")
        ends.client.barrier(1)
        for nic in SETTINGS.nics:
            sending(ends.client, nic, b"new")
        await until(lambda: len(ends.primary.told) == 7)
        told = ends.primary.told
        for nic in SETTINGS.nics:
            of_nic = [each for each in told if isinstance(each, tuple) and each[0] == nic]
            assert of_nic == [(nic, b"old"), (nic, 1), (nic, b"new")]
        assert ("control", 1) in told


@run
async def test_messages_arrive_in_order_both_ways(caplog):
    async with linked() as ends:
        standing = Standing(True, 0, True, 5)
        ends.server.send(standing)
        ends.server.send(Failover("solo"))
        await until(lambda: ends.secondary.told == [standing, Failover("solo")])
        ends.client.send(Statistics({"packets": 3}))
        ends.client.send(CheckpointRequest("a pause was missed"))
        ends.client.send(Failover("the operator said so"))
        wanted = [CheckpointRequest("a pause was missed"), Failover("the operator said so")]
        await until(lambda: ends.primary.told == [Statistics({"packets": 3}), *wanted])


@run
async def test_an_epoch_that_grew_while_the_streams_greeted_is_told_by_a_barrier(caplog):
    class Growing(Owner):
        def link_up(self, peer):
            self.own = other(self.own, epoch=5)
            super().link_up(peer)

    async with running() as ends:
        ends.client._owner = growing = Growing(SECONDARY)
        await until(lambda: {(stream, 5) for stream in ("control", *SETTINGS.nics)} <= set(ends.primary.told))
        assert growing.peer is not None


@run
async def test_messages_of_a_side_that_is_ahead_wait_until_the_link_is_up(caplog):
    """Up to a limit."""
    async with running() as ends:
        await ends.client.close()
        hello = other(SECONDARY, identity="host-c")
        control = await dial(address.resolve(ends.server.address), None)
        control.send(encode(hello))
        await until(lambda: ends.server._session is not None)
        session = ends.server._session.name
        control.send(encode(Failover("early")))
        nics = [await dial(address.resolve(ends.server.address), None) for _ in SETTINGS.nics]
        for connection, nic in zip(nics, SETTINGS.nics, strict=True):
            connection.send(encode(other(hello, stream=nic, session=session)))
        await until(lambda: ends.primary.told == [Failover("early")])
        for connection in (control, *nics):
            connection.close()
        await until(lambda: ends.primary.downs)
        control = await dial(address.resolve(ends.server.address), None)
        control.send(encode(hello))
        await until(lambda: ends.server._session is not None)
        control.send(65 * encode(Failover("early")))
        await until(lambda: lines(caplog, "more than 64 messages came before"))
        control.close()


# Refusals.


@run
async def test_who_does_not_fit_does_not_end_the_session_that_there_is(caplog):
    async with linked() as ends:
        wrong = ends.dialling(owner=Owner(other(SECONDARY, configuration="d2")))
        wrong.start()
        await until(lambda: wrong.counters.refused)
        await wrong.close()
        assert ends.up()


@run
async def test_a_second_secondary_is_refused_while_the_first_is_there(caplog):
    async with linked() as ends:
        second = ends.dialling(owner=Owner(other(SECONDARY, identity="host-c")))
        second.start()
        await until(lambda: lines(caplog, "the link to 127"))
        assert "another secondary, host-b, is connected" in lines(caplog, "says: ")[0]
        assert ends.up()
        await ends.client.close()
        await until(lambda: second.up)
        await second.close()


@run
async def test_who_comes_back_takes_the_place_of_its_old_session(caplog):
    async with linked() as ends:
        again = ends.dialling(owner=Owner(SECONDARY))
        again.start()
        await until(lambda: again.up)
        assert "host-b connected anew" in str(ends.primary.downs[0].error)
        await ends.client.close()
        await again.close()


@run
async def test_a_stream_without_its_session_is_refused(caplog):
    async with running() as ends:
        connection = await dial(address.resolve(ends.server.address), None)
        connection.send(encode(other(SECONDARY, stream="net0", session="guessed")))
        await until(lambda: lines(caplog, "a stream belongs to no session of this side"))
        connection.close()


@run
async def test_garbage_is_sent_away_and_the_link_stays(caplog):
    async with linked() as ends:
        connection = await dial(address.resolve(ends.server.address), None)
        connection.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await asyncio.get_running_loop().sock_recv(connection, 1_000)
        assert b'"type": "goodbye"' in answer
        connection.close()
        assert ends.up()


@run
async def test_strangers_are_bounded_in_number_and_time(caplog):
    async with running() as ends:
        resolved = address.resolve(ends.server.address)
        strangers = [await dial(resolved, None) for _ in range(server.MOST_STRANGERS + 6)]
        await until(lambda: ends.server.counters.refused >= 6)
        await until(ends.up)
        await until(lambda: not ends.server._strangers)
        for stranger in strangers:
            stranger.close()
        assert lines(caplog, "no greeting came within 2 s")


# The end, and what comes after it.


@run
async def test_a_stop_is_told_and_after_it_the_secondary_dials_again(caplog):
    async with linked() as ends:
        await ends.server.close("the daemon was stopped")
        await until(lambda: ends.secondary.downs)
        assert str(ends.secondary.downs[0].error) == "the other side says: the daemon was stopped"
        assert not ends.client.up
        assert not ends.client.put("net0", packet(b"lost"))
        listen = Address("127.0.0.1", ends.server.address.port)
        ends.server = LinkServer(listen, SETTINGS, ends.primary)
        ends.server.start()
        await until(ends.up)
        assert ends.client.counters.connections == 2


@run
async def test_a_greeting_that_comes_while_this_end_is_closed_changes_nothing(caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = LinkClient(Address("127.0.0.1", silent.getsockname()[1]), SETTINGS, Owner(SECONDARY))
        client.start()
        await until(lambda: client._session is not None)
        (stream,) = client._session.streams.values()
        closing = asyncio.create_task(client.close())
        await until(client._task.done)
        client.established(stream, PRIMARY)
        assert not client.up
        await closing


@run
async def test_a_refused_connection_is_one_line_however_often_it_is_tried(caplog):
    async with linked() as ends:
        await ends.server.close()
        await until(lambda: ends.client.counters.refused > 3)
        assert len(lines(caplog, "connection refused")) == 1


@run
async def test_one_stream_that_ends_takes_the_whole_link_with_it(caplog):
    async with linked() as ends:
        stream = ends.server._session.streams["net1"]
        stream._socket.shutdown(socket.SHUT_RDWR)
        await until(lambda: ends.primary.downs and ends.secondary.downs)
        await until(ends.up)
        assert ends.server.counters.connections == 2


@run
async def test_a_silent_other_side_is_lost_though_its_kernel_answers(caplog):
    """As with a process that is stopped: its sockets stay open and nobody speaks."""
    async with linked() as ends:
        ends.client._timer.cancel()
        for stream in ends.client._session.streams.values():
            stream.pause()
        before = asyncio.get_running_loop().time()
        await until(lambda: ends.primary.downs)
        assert ends.primary.downs[0].ending is Ending.LOST
        assert "nothing was heard for 1 s" in str(ends.primary.downs[0].error)
        assert 0.8 < asyncio.get_running_loop().time() - before < 5


@run
async def test_a_nics_stream_that_carries_nothing_more_ends_the_link_though_control_lives(caplog):
    """As behind a firewall that has forgotten this one connection."""
    async with linked() as ends:
        ends.client._session.streams["net1"].tick = lambda: None
        await until(lambda: ends.primary.downs and ends.secondary.downs)
        for owner in (ends.primary, ends.secondary):
            assert "nothing was heard on the stream of net1 for 1 s" in str(owner.downs[0].error)
        await until(ends.up)


@run
async def test_who_was_asleep_itself_reads_first_and_then_judges(caplog):
    patience = SETTINGS.timing.timeout
    async with running(settings=LinkSettings((), SETTINGS.timing)) as ends:
        await ends.client.close()
        connection = await dial(address.resolve(ends.server.address), None)
        connection.send(encode(SECONDARY))
        await until(lambda: ends.server.up)
        connection.send(encode(Heartbeat()))
        time.sleep(1.5 * patience)
        await asyncio.sleep(patience / 4)
        assert ends.server.up
        await until(lambda: ends.primary.downs)
        connection.close()


@run
async def test_heartbeats_keep_a_silent_link_up(caplog):
    async with linked() as ends:
        await asyncio.sleep(2 * SETTINGS.timing.timeout)
        assert (ends.primary.downs, ends.secondary.downs) == ([], [])


@run
async def test_a_half_made_session_does_not_stay(caplog):
    patient = LinkSettings(SETTINGS.nics, Timing(interval=0.1, timeout=10.0, greeting=2.0))
    async with running(settings=patient) as ends:
        await ends.client.close()
        connection = await dial(address.resolve(ends.server.address), None)
        connection.send(encode(SECONDARY))
        await until(lambda: lines(caplog, "not all of its streams came within 2 s"))
        connection.close()
        ends.client = ends.dialling()
        ends.client.start()
        await until(ends.up)


@run
async def test_a_violation_is_told_to_both(caplog):
    async with linked() as ends:
        ends.client._session.streams["net0"].outgoing.add(struct.pack("!II", 1 << 30, 12))
        ends.client.flush("net0")
        await until(lambda: ends.primary.downs and ends.secondary.downs)
        for owner in (ends.primary, ends.secondary):
            assert "a message of 1073741824 bytes is announced" in str(owner.downs[0].error)


@run
async def test_after_a_disconnect_nothing_more_is_handed_over(caplog):
    class Leaving(Owner):
        def link_barrier(self, stream, epoch):
            super().link_barrier(stream, epoch)
            if stream == "net0":
                ends.server.disconnect("enough")

    async with running() as ends:
        ends.server._owner = leaving = Leaving(PRIMARY)
        await until(ends.up)
        for name in ("net1", "control"):
            ends.server._session.streams[name].pause()
        net0 = ends.client._session.streams["net0"]
        net0.outgoing.add(encode(Barrier(1)) + framed(packet(b"late"), 12))
        net0.flush()
        await until(lambda: leaving.downs)
        assert leaving.told == [("net0", 1)]


@run
async def test_what_is_wrong_on_a_paused_stream_is_told_when_it_goes_on(caplog):
    async with linked() as ends:
        stream = ends.server._session.streams["net0"]
        stream._reading = False
        data = framed(packet(b"kept"), 12) + struct.pack("!II", 1 << 30, 12)
        stream.conversation.room()[: len(data)] = data
        stream._perform(stream.conversation.received(len(data), 0.0))
        ends.server.barrier(1)
        assert ends.server.up
        stream.resume()
        await until(lambda: ends.primary.downs)
        assert ends.primary.told == [("net0", b"kept")]
        assert ends.primary.downs[0].ending is Ending.VIOLATION


# What is told of it.


@run
async def test_what_travels_is_counted_while_the_link_is_up_and_afterwards(caplog):
    contents = [bytes(1 + 997 * n % 65_000) for n in range(100)]
    async with linked() as ends:
        sending(ends.client, "net0", *contents)
        ends.client.barrier(1)
        sending(ends.server, "net1", *contents[:40])
        await until(lambda: len(ends.primary.told) == 103 and len(ends.secondary.told) == 40)
        here, there = ends.server.statistics(), ends.client.statistics()
        assert (here["received_packets"], there["sent_packets"]) == (100, 100)
        assert (here["sent_packets"], there["received_packets"]) == (40, 40)
        least = sum(20 + len(each) for each in contents)
        assert least <= here["received_bytes"] <= there["sent_bytes"] < least + 10_000
        assert (here["connections"], here["queued_bytes"]) == (1, 0)
        ends.server.disconnect("counted")
        await until(lambda: ends.server.counters.connections == 2 and ends.up())
        assert ends.server.statistics()["received_packets"] == ends.server.counters.received_packets == 100


@run
async def test_what_is_dropped_is_counted_at_once(caplog):
    async with linked(settings=SMALL) as ends:
        ends.client.pause("net0")
        while ends.server.put("net0", packet(bytes(60_000))):
            ends.server.flush("net0")
        statistics = ends.server.statistics()
        assert (statistics["dropped_packets"], statistics["dropped_bytes"]) == (1, 60_012)
        assert statistics["queued_bytes"] >= SMALL.queue_bytes


@run
async def test_who_is_there_since_when_and_when_it_was_last_heard(caplog):
    async with running() as ends:
        link = ends.server
        assert (link.peer, link.since, link.heard) == (None, None, None)
        before = time.monotonic()
        await until(ends.up)
        assert link.peer == SECONDARY
        came_up, heard = link.since, link.heard
        assert before <= came_up <= time.monotonic()
        await until(lambda: link.heard > heard)
        assert link.since == came_up
        await ends.client.close()
        await until(lambda: not link.up)
        went_down, heard = link.since, link.heard
        assert came_up < went_down <= time.monotonic()
        assert came_up < heard <= went_down
        await asyncio.sleep(0.3)
        assert (link.peer, link.since, link.heard) == (None, went_down, heard)


@run
async def test_the_owner_is_told_with_the_new_state_at_hand(caplog):
    seen = []

    class Looking(Owner):
        def link_up(self, peer):
            super().link_up(peer)
            seen.append((ends.server.peer is peer, ends.server.since))

        def link_down(self, closed):
            super().link_down(closed)
            seen.append((ends.server.peer is None, ends.server.since, ends.server.statistics()["connections"]))

    async with running() as ends:
        ends.server._owner = Looking(PRIMARY)
        await until(ends.up)
        ends.server.disconnect("enough")
        (there, came_up), (gone, went_down, connections) = seen
        assert (there, gone, connections) == (True, True, 1)
        assert came_up < went_down


# Bounds.

SMALL = LinkSettings(("net0",), Timing(interval=0.1, timeout=10.0, greeting=2.0), queue_bytes=1 << 20)


@run
async def test_to_a_slow_side_nothing_waits_beyond_the_limit_and_what_is_dropped_is_counted(caplog):
    async with linked(settings=SMALL) as ends:
        ends.client._session.streams["net0"].pause()
        stream = ends.server._session.streams["net0"]
        accepted = 0
        for _ in range(1_000):
            accepted += ends.server.put("net0", packet(bytes(60_000)))
            ends.server.flush("net0")
            assert stream.outgoing.queued_bytes < (1 << 20) + 70_000
        assert ends.server.full("net0")
        assert accepted < 1_000
        ends.client._session.streams["net0"].resume()
        await until(lambda: len(ends.secondary.told) == accepted)
        await until(lambda: ends.primary.rooms == 1)
        assert sending(ends.server, "net0", b"goes on") is None
        await until(lambda: ("net0", b"goes on") in ends.secondary.told)
        ends.server.disconnect("counted")
        assert ends.server.counters.dropped_packets == 1_000 - accepted
        assert ends.server.counters.dropped_bytes == (1_000 - accepted) * 60_012


@run
async def test_a_slow_side_delays_no_heartbeat(caplog):
    async with linked(settings=LinkSettings(("net0",), SETTINGS.timing, queue_bytes=1 << 20)) as ends:
        ends.client._session.streams["net0"].pause()
        while ends.server.put("net0", packet(bytes(60_000))):
            ends.server.flush("net0")
        await asyncio.sleep(2 * SETTINGS.timing.timeout)
        assert ends.up()


def patient(patience: float) -> LinkSettings:
    """Nothing but a stream that stands still ends this link."""
    return LinkSettings(("net0",), Timing(interval=0.1, timeout=30.0, patience=patience), queue_bytes=1 << 20)


def fill(link: LinkEnd) -> None:
    while link.put("net0", packet(bytes(60_000))):
        link.flush("net0")


@run
async def test_a_side_that_takes_nothing_is_lost_though_it_speaks(caplog):
    async with linked(settings=patient(1.0)) as ends:
        deaf = ends.client._session.streams["net0"]
        asyncio.get_running_loop().remove_reader(deaf._descriptor)
        deaf.read = lambda: None
        fill(ends.server)
        before = time.monotonic()
        await until(lambda: ends.primary.downs)
        assert "the other side took nothing on the stream of net0 for 1 s" in str(ends.primary.downs[0].error)
        assert time.monotonic() - before > 0.8


@run
async def test_a_side_that_takes_little_is_waited_for(caplog):
    async with linked(settings=patient(2.0)) as ends:
        fill(ends.server)
        end = time.monotonic() + 5.0
        while time.monotonic() < end:
            ends.client.pause("net0")
            await asyncio.sleep(0.4)
            ends.client.resume("net0")
            taken = len(ends.secondary.told)
            await until(lambda taken=taken: len(ends.secondary.told) > taken)
            fill(ends.server)
        assert ends.up()
        assert ends.primary.downs == []


# Addresses.


def link_local() -> list[str]:
    """Of this machine, if it has one."""
    table = Path("/proc/net/if_inet6")
    rows = [line.split() for line in table.read_text().splitlines()] if table.exists() else []
    return [f"{ipaddress.ip_address(bytes.fromhex(row[0]))}%{row[5]}" for row in rows if row[0].startswith("fe80")]


@pytest.mark.parametrize("host", ["::1", "::ffff:127.0.0.1", *link_local()[:1]])
def test_the_link_comes_up_over_ipv6(host):
    async def main():
        async with linked(listen=Address(host, 0), insecure=True) as ends:
            sending(ends.client, "net0", b"one")
            await until(lambda: ends.primary.told == [("net0", b"one")])

    uvloop.run(asyncio.wait_for(main(), 60))


def test_the_scope_of_a_link_local_address_gets_as_far_as_the_kernel():
    """Which says that nobody is there; without a scope it takes no such address at all."""

    async def main():
        with pytest.raises(OSError) as refused:
            await dial(address.resolve(Address("fe80::1%lo", 9)), None)
        assert refused.value.errno != errno.EINVAL

    uvloop.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("text", ["host-a:9000", "192.0.2.1:0", "[2001:db8::1]:9000"])
def test_an_address_reads_as_it_is_written(text):
    assert str(address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:65536", "2001:db8::1:9", "[::1]", "a:b:1"])
def test_anything_else_is_refused(text):
    with pytest.raises(OperatorError, match="is no address of the link"):
        address.parse(text)


@pytest.mark.parametrize("numeric", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_plain_tcp_is_for_this_host(numeric):
    address.check_plain(numeric, insecure=False)
    assert not address.is_elsewhere(numeric)


@pytest.mark.parametrize("numeric", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "::ffff:192.0.2.1"])
def test_elsewhere_it_has_to_be_insisted_on(numeric):
    with pytest.raises(OperatorError, match="needs TLS"):
        address.check_plain(numeric, insecure=False)
    address.check_plain(numeric, insecure=True)
    assert address.is_elsewhere(numeric)


def test_without_tls_both_sides_warn_of_each_session_and_of_no_try(caplog, monkeypatch):
    monkeypatch.setattr(address, "is_elsewhere", lambda _: True)

    async def main():
        async with linked() as ends:
            assert len(lines(caplog, "has no TLS")) == 2
            ends.server.disconnect("to dial again")
            await until(lambda: ends.server.counters.connections == 2 and ends.up())
            assert len(lines(caplog, "has no TLS")) == 4
            await ends.server.close()
            await until(lambda: ends.client.counters.refused > 3)
            assert len(lines(caplog, "has no TLS")) == 4

    uvloop.run(asyncio.wait_for(main(), 60))
    where = f"at {HERE.host}:\\d+", f"to {HERE.host}:\\d+"
    for place, line in zip(where, sorted(lines(caplog, "has no TLS")[:2]), strict=True):
        assert re.fullmatch(f"the link {place} has no TLS on its way to 127.0.0.1: whoever is on the way can .*", line)


@pytest.mark.parametrize("numeric", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_a_wildcard_address_without_tls_is_refused_whatever_is_said(numeric):
    with pytest.raises(OperatorError, match="without TLS"):
        address.check_plain(numeric, insecure=True)
    with pytest.raises(OperatorError, match="without TLS"):
        LinkServer(Address(numeric, 0), SETTINGS, Owner(PRIMARY), insecure=True)


def test_a_port_that_is_taken_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperatorError, match=f"cannot listen at 127.0.0.1:{port}"):
            LinkServer(Address("127.0.0.1", port), SETTINGS, Owner(PRIMARY))


def test_two_that_are_to_listen_later_cannot_have_the_same_port():
    first = LinkServer(Address("127.0.0.1", 0), SETTINGS, Owner(PRIMARY))
    with pytest.raises(OperatorError, match="cannot listen"):
        LinkServer(first.address, SETTINGS, Owner(PRIMARY))
    first._listener.close()


def test_an_unknown_host_is_one_sentence():
    with pytest.raises(OperatorError, match=r"host nowhere\.invalid is not known"):
        address.resolve(Address("nowhere.invalid", 1))
