"""The state machine of one stream: any cutting gives the same, anything wrong ends it with one clear sentence."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colo_bridge.errors import InternalError, OperatorError, PeerError
from colo_bridge.link.protocol.actions import Arrived, Closed, Ending, Established, Greeted, Send
from colo_bridge.link.protocol.conversation import Conversation, State
from colo_bridge.link.protocol.messages import (
    VERSION,
    Barrier,
    CheckpointRequest,
    Failover,
    Goodbye,
    Heartbeat,
    Moved,
    Presence,
    Role,
    Standing,
    Statistics,
    Version,
    encode,
)
from colo_bridge.wire.framing import encode as framed
from tests.link.sides import PRIMARY, SECONDARY, TIMING, ending, feed, greeted, packet, sent

CUTS = st.lists(st.integers(0, 2_000), max_size=20).map(tuple)
UNKNOWN = framed(b'{"type": "weather"}', 0)


def listening() -> Conversation:
    return Conversation(TIMING, 0.0)


# Greeting.


def test_both_sides_greet_and_learn_of_each_other():
    listens, dials = listening(), listening()
    assert feed(listens, sent(dials.begin(SECONDARY))) == [Greeted(SECONDARY)]
    answer = listens.accept(PRIMARY, 0.0)
    assert answer == [Send(encode(PRIMARY)), Established(SECONDARY)]
    assert feed(dials, sent(answer)) == [Established(PRIMARY)]
    assert (listens.state, dials.state) == (State.ESTABLISHED, State.ESTABLISHED)


@pytest.mark.parametrize(
    ("primary", "secondary", "problem"),
    [
        (PRIMARY, replace(SECONDARY, guest="db"), "the primary is for guest web, the secondary for db"),
        (PRIMARY, replace(SECONDARY, configuration="d2"), "the primary's digest is d1, the secondary's d2"),
        (PRIMARY, replace(SECONDARY, role=Role.PRIMARY), "both sides of the link are the primary"),
        (replace(PRIMARY, role=Role.SECONDARY), SECONDARY, "both sides of the link are the secondary"),
        (PRIMARY, replace(SECONDARY, identity="host-a"), "both sides of the link have the identity host-a"),
        (
            PRIMARY,
            replace(SECONDARY, version=Version(3, 0)),
            r"version 3\.0 of the link's protocol came to a side that speaks 2\.0",
        ),
    ],
)
def test_who_does_not_fit_is_refused_and_both_sides_say_the_same(primary, secondary, problem):
    listens, dials = listening(), listening()
    actions = feed(listens, sent(dials.begin(secondary)))
    if actions == [Greeted(secondary)]:
        actions = listens.accept(primary, 0.0)
    here, there = ending(actions), ending(feed(dials, sent(actions)))
    assert (here.ending, there.ending) == (Ending.REFUSED, Ending.REFUSED)
    assert isinstance(here.error, OperatorError)
    for closed in (here, there):
        with pytest.raises((OperatorError, PeerError), match=problem):
            raise closed.error


def test_the_side_that_dials_looks_too():
    dials = listening()
    dials.begin(SECONDARY)
    actions = feed(dials, encode(replace(PRIMARY, configuration="d2")))
    assert ending(actions).ending is Ending.REFUSED
    assert b"configurations differ" in sent(actions)


def test_another_minor_version_is_welcome():
    newer = replace(SECONDARY, version=Version(VERSION.major, 9))
    listens, dials = greeted(secondary=newer)
    assert (listens.state, dials.state) == (State.ESTABLISHED, State.ESTABLISHED)


def test_its_unknown_messages_are_ignored_and_counted():
    listens, _ = greeted(secondary=replace(SECONDARY, version=Version(VERSION.major, 9)))
    assert feed(listens, UNKNOWN + UNKNOWN + encode(Failover("x"))) == [Arrived(Failover("x"))]
    assert listens.unknown_messages == 2


def test_those_of_our_own_version_are_not():
    listens, _ = greeted()
    assert "unknown type weather" in str(ending(feed(listens, UNKNOWN)).error)


def test_silence_instead_of_a_greeting_is_not_waited_for():
    listens = listening()
    assert listens.tick(4.9) == []
    assert "no greeting came within 5 s" in str(ending(listens.tick(5.0)).error)


@pytest.mark.parametrize("data", [encode(Heartbeat()), encode(Barrier(1)), UNKNOWN, packet(b"x"), encode(PRIMARY) * 2])
def test_whoever_speaks_before_the_greeting_is_over_is_sent_away(data):
    listens = listening()
    assert ending(feed(listens, data)).ending is Ending.VIOLATION


def test_tls_to_a_side_without_it_is_recognised():
    closed = ending(feed(listening(), bytes.fromhex("1603010200010001fc0303")))
    assert "the other side speaks TLS and this one does not" in str(closed.error)


def test_an_http_client_is_sent_away():
    assert ending(feed(listening(), b"GET / HTTP/1.0\r\n\r\n")).ending is Ending.VIOLATION


# Packets and barriers.


@given(st.lists(st.binary(max_size=30) | st.just(None), max_size=30), CUTS)
def test_any_cutting_gives_the_same_packets_and_barriers_in_their_order(contents, cuts):
    _, dials = greeted("net0")
    stream, wanted = b"", []
    for epoch, each in enumerate(contents, start=1):
        stream += encode(Barrier(epoch)) if each is None else packet(each)
        wanted.append(Arrived(Barrier(epoch)) if each is None else each)
    assert feed(dials, stream, cuts=cuts) == wanted


def test_packets_right_behind_the_greeting_are_packets():
    listens, dials = listening(), listening()
    feed(listens, sent(dials.begin(replace(SECONDARY, stream="net0"))))
    answer = listens.accept(replace(PRIMARY, stream="net0"), 0.0)
    assert feed(dials, sent(answer) + packet(b"one"))[1:] == [b"one"]


def test_what_came_whole_before_something_wrong_is_delivered():
    _, dials = greeted("net0")
    actions = feed(dials, packet(b"one") + b"\xff" * 8)
    assert actions[0] == b"one"
    assert ending(actions).ending is Ending.VIOLATION


@pytest.mark.parametrize(
    ("stream", "data", "problem"),
    [
        ("control", packet(b"x"), "a packet came on the control stream"),
        ("net0", framed(bytes(30), 10), "10 bytes of virtio-net header, not 12"),
        ("net0", framed(bytes(5), 12), "5 bytes of virtio-net header, not 12"),
        ("net0", encode(Failover("x")), "a Failover came where it does not belong"),
        ("control", encode(PRIMARY), "a Hello came where it does not belong"),
        ("net0", encode(Barrier(1)) * 2, "a barrier of epoch 1 came behind one of epoch 1"),
        ("control", encode(Barrier(0)), "a barrier of epoch 0 came behind one of epoch 0"),
        ("control", framed(b"", 0), "no JSON"),
        ("control", framed(b" " * 20_000, 0), "a message of 20000 bytes came"),
        ("net0", b"\0\1\xff\xff\0\0\0\0", "are allowed (is the other end colo-bridge?)"),
    ],
)
def test_what_is_wrong_ends_the_stream_with_a_sentence_for_both_sides(stream, data, problem):
    listens, dials = greeted(stream)
    actions = feed(dials, data)
    assert ending(actions).ending is Ending.VIOLATION
    assert isinstance(ending(actions).error, PeerError)
    assert problem in str(ending(actions).error)
    assert problem in str(ending(feed(listens, sent(actions))).error)


def test_a_barrier_and_the_one_that_answers_it():
    listens, dials = greeted()
    assert feed(dials, listens.send(Barrier(3), 0.0)) == [Arrived(Barrier(3))]
    assert feed(listens, dials.send(Barrier(3), 0.0)) == [Arrived(Barrier(3))]


def test_epochs_go_on_where_the_greeting_says():
    listens, dials = greeted(secondary=replace(SECONDARY, epoch=7))
    assert feed(listens, dials.send(Barrier(8), 0.0)) == [Arrived(Barrier(8))]
    assert "behind one of epoch 8" in str(ending(feed(listens, encode(Barrier(7)))).error)


@pytest.mark.parametrize("message", [Barrier(0), PRIMARY, Goodbye("x")])
def test_we_send_nothing_that_the_other_side_would_refuse(message):
    listens, _ = greeted()
    with pytest.raises(InternalError):
        listens.send(message, 0.0)


def test_we_send_nothing_but_barriers_heartbeats_and_packets_on_a_nics_stream():
    listens, _ = greeted("net0")
    assert listens.send(Barrier(1), 0.0) == encode(Barrier(1))
    assert listens.send(Heartbeat(), 0.0) == encode(Heartbeat())
    with pytest.raises(InternalError):
        listens.send(Failover(""), 0.0)


def test_nothing_is_accepted_that_did_not_greet():
    with pytest.raises(InternalError):
        listening().accept(PRIMARY, 0.0)


@pytest.mark.parametrize(
    ("sender", "message"),
    [
        (Role.SECONDARY, CheckpointRequest("a pause was missed")),
        (Role.SECONDARY, Presence(7, 0)),
        (Role.SECONDARY, Statistics({"packets": 3})),
        (Role.PRIMARY, Standing(True, 0, True, 7)),
        (Role.PRIMARY, Moved("net0", True, ())),
    ],
)
def test_what_only_one_side_has_to_say_the_other_one_may_not(sender, message):
    listens, dials = greeted()
    says, hears = (dials, listens) if sender is Role.SECONDARY else (listens, dials)
    assert feed(hears, says.send(message, 0.0)) == [Arrived(message)]
    with pytest.raises(InternalError):
        hears.send(message, 0.0)
    name = type(message).__name__
    assert f"a {name} came where it does not belong" in str(ending(feed(says, encode(message))).error)


@pytest.mark.parametrize("message", [Failover("it is gone")])
def test_these_both_sides_send_at_any_time(message):
    listens, dials = greeted()
    assert feed(listens, dials.send(message, 0.0)) == [Arrived(message)]
    assert feed(dials, listens.send(message, 0.0)) == [Arrived(message)]


# Heartbeats and the end.


STREAMS = pytest.mark.parametrize("stream", ["control", "net0"])


@STREAMS
def test_heartbeats_keep_an_idle_stream_alive(stream):
    listens, dials = greeted(stream)
    for second in range(1, 60):
        assert feed(dials, sent(listens.tick(second)), second) == []
        assert feed(listens, sent(dials.tick(second)), second) == []
    assert (listens.state, dials.state) == (State.ESTABLISHED, State.ESTABLISHED)


@pytest.mark.parametrize(("stream", "where"), [("control", ""), ("net0", " on the stream of net0")])
def test_silence_is_a_loss(stream, where):
    listens, dials = greeted(stream)
    assert not any(isinstance(action, Closed) for action in listens.tick(3.9))
    actions = listens.tick(4.0)
    closed = ending(actions)
    assert (closed.ending, str(closed.error)) == (Ending.LOST, f"nothing was heard{where} for 4 s")
    goodbye = sent(actions)
    assert str(ending(feed(dials, goodbye)).error) == f"the other side says: nothing was heard{where} for 4 s"


@pytest.mark.parametrize("data", [packet(b"x"), packet(b"x")[:5], encode(Barrier(1)), encode(Heartbeat())])
def test_whatever_comes_is_a_sign_of_life(data):
    listens, _ = greeted("net0")
    feed(listens, data, 3.0)
    assert sent(listens.tick(6.9)) == encode(Heartbeat())
    assert ending(listens.tick(7.0)).ending is Ending.LOST


@STREAMS
def test_where_something_waits_to_be_sent_no_heartbeat_is_put_behind_it(stream):
    listens, _ = greeted(stream)
    assert listens.tick(3.0, taken=0) == []
    assert sent(listens.tick(3.1)) == encode(Heartbeat())


def test_a_paused_stream_lasts_on_both_sides_though_one_of_them_can_send_nothing():
    listens, dials = greeted("net0")
    listens.pause(0.0)
    for second in range(1, 60):
        assert feed(dials, sent(listens.tick(second)), second) == []
        assert dials.tick(second, taken=0) == []
    assert (listens.state, dials.state) == (State.ESTABLISHED, State.ESTABLISHED)


def test_what_came_in_a_pause_is_heard_when_it_is_read():
    listens, _ = greeted("net0")
    listens.pause(1.0)
    listens.tick(30.0)
    listens.resume()
    feed(listens, encode(Heartbeat()), 31.0)
    assert sent(listens.tick(31.0)) == encode(Heartbeat())


def test_if_nothing_came_in_a_pause_the_stream_is_lost_after_it():
    listens, _ = greeted("net0")
    listens.pause(1.0)
    listens.tick(30.0)
    listens.resume()
    assert str(ending(listens.tick(30.1)).error) == "nothing was heard on the stream of net0 for 4 s"


def test_a_pause_that_does_not_end_is_a_loss():
    listens, dials = greeted("net0")
    listens.pause(2.0)
    assert not any(isinstance(action, Closed) for action in listens.tick(61.9))
    actions = listens.tick(62.0)
    assert ending(actions).ending is Ending.LOST
    for closed in (ending(actions), ending(feed(dials, sent(actions)))):
        assert "nothing was read on the stream of net0 for 60 s (a checkpoint that" in str(closed.error)


@STREAMS
def test_a_side_that_takes_nothing_is_lost_whatever_it_says(stream):
    listens, _ = greeted(stream)
    for second in range(1, 61):
        feed(listens, encode(Heartbeat()), second)
        assert listens.tick(second, taken=7) == []
    feed(listens, encode(Heartbeat()), 61.0)
    closed = ending(listens.tick(61.0, taken=7))
    assert closed.ending is Ending.LOST
    assert "the other side took nothing" in str(closed.error)


def test_a_side_that_takes_little_is_waited_for_and_so_is_one_for_which_nothing_waits():
    listens, _ = greeted("net0")
    for second in range(1, 500):
        feed(listens, encode(Heartbeat()), second)
        listens.tick(second, taken=second // 50 if second < 300 else None)
    assert listens.state is State.ESTABLISHED


def test_each_pause_has_a_time_of_its_own():
    listens, _ = greeted("net0")
    for begin in (0.0, 50.0, 100.0):
        listens.pause(begin)
        listens.tick(begin + 50)
        listens.resume()
        feed(listens, packet(b"x"), begin + 50)
    assert listens.state is State.ESTABLISHED


def test_other_messages_are_a_sign_of_life_and_save_a_heartbeat():
    listens, dials = greeted()
    data = dials.send(Failover("x"), 0.9)
    assert dials.tick(1.8) == []
    feed(listens, data, 3.0)
    assert sent(listens.tick(6.9)) == encode(Heartbeat())


def test_a_side_that_stops_says_so():
    listens, dials = greeted()
    actions = listens.close("the daemon was stopped")
    assert ending(actions).ending is Ending.ENDED
    closed = ending(feed(dials, sent(actions)))
    assert (closed.ending, str(closed.error)) == (Ending.ENDED, "the other side says: the daemon was stopped")


def test_after_the_end_there_is_nothing():
    listens, _ = greeted()
    assert ending(listens.ended()).ending is Ending.ENDED
    assert (listens.ended(), listens.tick(100.0), listens.close("x"), feed(listens, b"\xff" * 20)) == ([], [], [], [])


@settings(max_examples=300)
@given(st.sampled_from(["greeting", "control", "net0"]), st.lists(st.binary(max_size=60), max_size=6), CUTS, st.data())
def test_no_garbage_does_more_than_end_the_stream(where, garbage, cuts, data):
    """Between pieces that are right, so that it gets deep."""
    conversation = listening() if where == "greeting" else greeted(where)[0]
    right = [packet(b"x"), encode(Barrier(1)), encode(Heartbeat()), UNKNOWN, encode(SECONDARY), framed(b"{}", 0)]
    stream = b""
    for piece in garbage:
        stream += data.draw(st.sampled_from([*right, b""])) + piece
    actions = feed(conversation, stream, cuts=cuts)
    closed = [action for action in actions if isinstance(action, Closed)]
    assert len(closed) == (conversation.state is State.CLOSED)
    assert closed in ([], actions[-1:])
