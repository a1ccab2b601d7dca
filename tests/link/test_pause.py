"""A stream that is paused hands over nothing, wherever the pause comes, and keeps all that stands behind it."""

import asyncio
import socket
from dataclasses import replace
from itertools import pairwise

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from colo_bridge.link.protocol.messages import Barrier, encode
from colo_bridge.link.session import LinkSettings
from colo_bridge.link.stream import Stream
from tests.link.ends import SETTINGS, Owner, PausingOwner, linked, packet, running, until
from tests.link.sides import PRIMARY, greeted
from tests.link.sides import packet as travelling
from tests.link.test_link import run, sending

BARRIER = None
"""Among the contents of packets."""


class Pausing:
    """Pauses its stream at each barrier, and at each packet that begins with P."""

    def __init__(self) -> None:
        self.told: list = []

    def packets(self, stream, buffer, frames):
        batch = [bytes(buffer[body:end]) for _, body, end in frames]
        self.told += batch
        if any(each[:1] == b"P" for each in batch):
            stream.pause()

    def arrived(self, stream, message):
        self.told.append(BARRIER)
        stream.pause()

    def closed(self, stream, closed):
        pass


async def told_between_pauses(contents, cuts) -> list[list]:
    """What was told up to each pause, when these contents came, cut like this."""
    here, there = socket.socketpair()
    there.setblocking(False)
    owner = Pausing()
    stream = Stream(there, greeted("net0")[1], owner, 1 << 20)
    data = b"".join(encode(Barrier(1 + n)) if each is BARRIER else travelling(each) for n, each in enumerate(contents))
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(bounds):
        here.sendall(data[begin:end])
        await turns()
    told = [owner.told[:]]
    for _ in contents:
        before = owner.told[:]
        stream.resume()
        assert owner.told == before, "nothing is handed over from within"
        await turns()
        told.append(owner.told[:])
    stream.close("that was all")
    here.close()
    await stream.released
    return told


async def turns():
    """Of the event loop, enough to read what is there."""
    for _ in range(4):
        await asyncio.sleep(0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"one", b"P", b"more of it", BARRIER]), max_size=12),
    st.lists(st.integers(0, 2_000), max_size=12),
)
def test_what_stands_behind_a_pause_waits_for_the_end_of_it_however_it_is_cut(contents, cuts):
    told = uvloop.run(told_between_pauses(contents, cuts))
    assert told[-1] == contents
    for before, after in pairwise(told):
        assert after[: len(before)] == before
        assert BARRIER not in after[len(before) : -1], "a barrier is the last that is told before a pause"
    first = told[0]
    assert BARRIER not in first[:-1]


@run
async def test_what_stands_behind_a_barrier_in_the_same_read_waits_for_the_daemon(caplog):
    async with running() as ends:
        owner = ends.server._owner = PausingOwner(PRIMARY)
        owner.link = ends.server
        await until(ends.up)
        net0 = ends.client._session.streams["net0"]
        net0.outgoing.add(encode(Barrier(1)) + travelling(b"behind") + encode(Barrier(2)) + travelling(b"later"))
        net0.flush()
        await until(lambda: owner.told == [("net0", 1)])
        sending(ends.client, "net1", b"of another stream")
        await until(lambda: ("net1", b"of another stream") in owner.told)
        ends.server.resume("net0")
        await until(lambda: owner.told[2:] == [("net0", b"behind"), ("net0", 2)])
        ends.server.resume("net0")
        await until(lambda: owner.told[4:] == [("net0", b"later")])


@run
async def test_a_pause_may_begin_when_the_link_comes_up(caplog):
    class Waiting(Owner):
        def link_up(self, peer):
            super().link_up(peer)
            ends.server.pause("net0")

    async with running() as ends:
        ends.server._owner = owner = Waiting(PRIMARY)
        await until(ends.up)
        sending(ends.client, "net0", b"waits")
        sending(ends.client, "net1", b"does not")
        await until(lambda: owner.told == [("net1", b"does not")])
        ends.server.resume("net0")
        await until(lambda: owner.told[1:] == [("net0", b"waits")])


@run
async def test_a_paused_stream_neither_times_out_nor_takes_more_than_the_buffers_hold(caplog):
    patience = SETTINGS.timing.timeout
    async with linked(settings=LinkSettings(("net0",), SETTINGS.timing, queue_bytes=1 << 20)) as ends:
        ends.server.pause("net0")
        accepted = 0
        while ends.client.put("net0", packet(bytes(60_000))):
            ends.client.flush("net0")
            accepted += 1
        assert ends.client.full("net0")
        await asyncio.sleep(2 * patience)
        assert ends.up()
        assert (ends.primary.told, ends.secondary.rooms) == ([], 0)
        ends.server.resume("net0")
        await until(lambda: ends.secondary.rooms == 1 and len(ends.primary.told) == accepted)


@run
async def test_a_pause_that_does_not_end_ends_the_link(caplog):
    timing = replace(SETTINGS.timing, patience=1.5)
    async with linked(settings=LinkSettings(("net0",), timing)) as ends:
        ends.server.pause("net0")
        sending(ends.client, "net0", b"waits")
        await until(lambda: ends.primary.downs and ends.secondary.downs)
        for owner in (ends.primary, ends.secondary):
            assert "nothing was read on the stream of net0 for 1.5 s" in str(owner.downs[0].error)
        await until(ends.up)
        assert ends.primary.told == []


@run
async def test_a_new_session_begins_without_a_pause(caplog):
    async with linked() as ends:
        ends.server.pause("net0")
        sending(ends.client, "net0", b"lost with its session")
        ends.server.disconnect("to dial again")
        await until(lambda: ends.server.counters.connections == 2 and ends.up())
        sending(ends.client, "net0", b"new")
        await until(lambda: ends.primary.told == [("net0", b"new")])


@run
async def test_while_the_link_is_down_there_is_nothing_to_pause(caplog):
    async with running() as ends:
        ends.server.pause("net0")
        ends.server.resume("net0")
        await until(ends.up)
        sending(ends.client, "net0", b"goes on")
        await until(lambda: ends.primary.told == [("net0", b"goes on")])


@run
async def test_a_paused_stream_that_breaks_ends_the_link_and_hands_over_nothing(caplog):
    async with linked() as ends:
        ends.server.pause("net0")
        sending(ends.client, "net0", b"waits")
        ends.server._session.streams["net0"]._socket.shutdown(socket.SHUT_WR)
        sending(ends.server, "net0", b"cannot leave")
        await until(lambda: ends.primary.downs)
        assert str(ends.primary.downs[0].error) == "broken pipe"
        assert ends.primary.told == []
