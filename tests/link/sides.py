"""Two conversations, the bytes between them, and what they did."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from colo_bridge.link.protocol.actions import Action, Closed, Packets, Send, Timing
from colo_bridge.link.protocol.conversation import CONTROL, Conversation
from colo_bridge.link.protocol.messages import VERSION, Hello, Role
from colo_bridge.wire.framing import encode

TIMING = Timing(interval=1.0, timeout=4.0, greeting=5.0, patience=60.0)
PRIMARY = Hello(VERSION, Role.PRIMARY, "host-a", "i1", "web", "d1", CONTROL, "s1", 0, 30.0)
SECONDARY = Hello(VERSION, Role.SECONDARY, "host-b", "i2", "web", "d1", CONTROL, "", 0, 0.0)


def packet(contents: bytes) -> bytes:
    """As it travels: a virtio-net header, then this Ethernet frame."""
    return encode(bytes(12) + contents, 12)


def sent(actions: list[Action]) -> bytes:
    return b"".join(action.data for action in actions if isinstance(action, Send))


def feed(conversation: Conversation, data: bytes, now: float = 0.0, cuts: tuple[int, ...] = ()) -> list:
    """The actions, with the Ethernet frames of packets themselves; packets of one cutting stand together."""
    found: list = []
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(bounds):
        room = conversation.room()
        assert end - begin <= len(room)
        room[: end - begin] = data[begin:end]
        for action in conversation.received(end - begin, now):
            if isinstance(action, Packets):
                found += [bytes(conversation.buffer[body:stop]) for _, body, stop in action.frames]
            else:
                found.append(action)
    return found


def greeted(
    stream: str = CONTROL, primary: Hello = PRIMARY, secondary: Hello = SECONDARY
) -> tuple[Conversation, Conversation]:
    """The primary's side, which listens, and the secondary's, which dials; both established."""
    listens, dials = Conversation(TIMING, 0.0), Conversation(TIMING, 0.0)
    feed(listens, sent(dials.begin(replace(secondary, stream=stream))))
    feed(dials, sent(listens.accept(replace(primary, stream=stream), 0.0)))
    return listens, dials


def ending(actions: list) -> Closed:
    assert isinstance(actions[-1], Closed)
    return actions[-1]
