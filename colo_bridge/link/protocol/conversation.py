"""One stream of the link, seen from one side: greeting, then packets and messages until it is closed.

    state        event                              next         actions
    -----------  ---------------------------------  -----------  ---------------------------------
    GREETING     begin (who dials)                  GREETING     Send(hello)
    GREETING     hello (who dials)                  ESTABLISHED  Established
    GREETING     hello (who listens)                DECIDING     Greeted: the owner accepts or refuses
    DECIDING     accept                             ESTABLISHED  Send(hello), Established
    ESTABLISHED  packets; messages                  ESTABLISHED  Packets; Arrived
    ESTABLISHED  tick                               ESTABLISHED  Send(heartbeat)
    ESTABLISHED  pause; resume                      ESTABLISHED  -
    any          silence, too long a pause, the     CLOSED       Send(goodbye) where it helps, Closed
                 end, what is wrong

1. Any cutting of the bytes gives the same actions. Nothing that comes in raises an error: what is wrong closes the
   stream, and `Closed` says whose fault it was.
2. Packets travel on the streams of the NICs alone, messages on the control stream; barriers and heartbeats travel on
   all of them. What only one of the two sides has to say the other one may not.
3. Epochs only grow. Nothing acknowledges a barrier but a barrier: the one of the same epoch that comes back, behind all
   that its sender had sent before.
4. Each stream proves by itself that it is alive: what is between the hosts may forget one connection and keep the
   others. Whatever comes is a sign, and without any for `timeout` the stream is lost. A heartbeat is one for a stream
   that is idle; where something waits to be sent none is: it could not pass that, and would be no better.
5. While this side has paused a stream, what the other one sent waits unread: no silence is counted then, and the other
   side may find its queue full. But a pause that lasts for `patience` ends the stream, and so does a side that takes
   nothing for as long of what waits for it, whatever it says meanwhile; one that takes anything, however slowly, is
   waited for.

Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

import enum

from colo_bridge.errors import ColoBridgeError, InternalError, OperatorError, PeerError
from colo_bridge.link.protocol.actions import (
    Action,
    Arrived,
    Closed,
    Ending,
    Established,
    Greeted,
    Packets,
    Send,
    Timing,
)
from colo_bridge.link.protocol.greeting import judge
from colo_bridge.link.protocol.messages import (
    Barrier,
    CheckpointRequest,
    Failover,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Moved,
    Presence,
    Role,
    Standing,
    Statistics,
    Unknown,
    decode,
    encode,
)
from colo_bridge.wire.framing import Frame, FrameDecoder, FramingError

CONTROL = "control"
"""Name of the stream that is no NIC's."""
VNET_HEADER_BYTES = 12
_MESSAGES_AT_ONCE = 6
"""Of the largest, that the buffer has room for: more takes the processor's cache, less a system call for each."""
_WORDS = 8
_PACKET = _WORDS + VNET_HEADER_BYTES
"""Between the beginning of a packet's frame and its Ethernet header."""
_TLS_HANDSHAKE = 0x16
"""First byte of a connection that begins with TLS (RFC 8446, 5.1)."""


_MESSAGES = CheckpointRequest | Failover | Presence | Standing | Statistics | Moved
"""Of the control stream alone."""
_SENDERS: dict[type[Message], Role] = {
    **dict.fromkeys((CheckpointRequest, Presence, Statistics), Role.SECONDARY),
    **dict.fromkeys((Standing, Moved), Role.PRIMARY),
}
"""Of those that only one side sends."""


class State(enum.Enum):
    GREETING = "greeting"
    DECIDING = "deciding"
    ESTABLISHED = "established"
    CLOSED = "closed"


class Conversation:
    """Write to `room()`, tell `received`, and carry out the actions; see the table above."""

    def __init__(self, timing: Timing, now: float) -> None:
        self.state = State.GREETING
        self.unknown_messages = 0
        """Of types that only a newer version knows: ignored."""
        self.own: Hello | None = None
        self.peer: Hello | None = None
        self._timing = timing
        self._decoder = FrameDecoder(vnet_header=True, messages=_MESSAGES_AT_ONCE)
        self.heard = now
        """When anything last came; at first, when there was nothing yet that could."""
        self._began = self._sent = now
        self._paused: float | None = None
        self._taken: int | None = None
        self._took = now
        self._own_epoch = self._peer_epoch = 0

    @property
    def buffer(self) -> bytearray:
        return self._decoder.buffer

    def room(self) -> memoryview:
        """Where the next bytes of the stream belong: never empty."""
        return self._decoder.room()

    # What this side does.

    def begin(self, own: Hello) -> list[Action]:
        """For the side that dials."""
        self.own = own
        return [Send(encode(own))]

    def accept(self, own: Hello, now: float) -> list[Action]:
        """Answer a greeting, on the side that listens; refuses it after all if the two do not fit."""
        if self.state is not State.DECIDING or self.peer is None:
            raise InternalError(f"a stream was accepted while {self.state.value}")
        self.own = own
        try:
            judge(own, self.peer)
        except OperatorError as error:
            return self.refuse(error)
        return [Send(encode(own)), self._establish(own, self.peer, now)]

    def refuse(self, error: ColoBridgeError) -> list[Action]:
        return self._close(Ending.REFUSED, error)

    def send(self, message: Message, now: float) -> bytes:
        """The bytes of a message; raises InternalError if this is not the time or the place for it."""
        if self.state is not State.ESTABLISHED or not self._belongs(message, self.own):
            raise InternalError(f"{type(message).__name__} on a stream that is {self.state.value}")
        match message:
            case Barrier(epoch) if epoch <= self._own_epoch:
                raise InternalError(f"a barrier of epoch {epoch} behind one of epoch {self._own_epoch}")
            case Barrier(epoch):
                self._own_epoch = epoch
        self._sent = now
        return encode(message)

    def pause(self, now: float) -> None:
        """What comes is not read until `resume`."""
        self._paused = now

    def resume(self) -> None:
        """All that has come meanwhile is read before the next `tick`."""
        self._paused = None

    def close(self, reason: str) -> list[Action]:
        """End it in order."""
        return self._close(Ending.ENDED, PeerError(reason))

    # What comes in.

    def received(self, count: int, now: float) -> list[Action]:
        """`count` more bytes are in the room."""
        actions: list[Action] = []
        packets: list[Frame] = []
        if self.state is State.CLOSED:
            return actions
        self.heard = now
        carries_packets = self._carries_packets()
        try:
            for frame in self._decoder.frames(count):
                # Fast path: a packet, where packets belong.
                if carries_packets and frame[1] - frame[0] == _PACKET:
                    packets.append(frame)
                    continue
                if packets:
                    actions.append(Packets(packets))
                    packets = []
                actions += self._take(frame, now)
                if self._is_closed():
                    return actions
                carries_packets = self._carries_packets()
        except FramingError as error:
            wrong: list[Action] = self._close(Ending.VIOLATION, self._no_frame(error))
        else:
            wrong = []
        return [*actions, Packets(packets), *wrong] if packets else actions + wrong

    def ended(self, error: ColoBridgeError | None = None) -> list[Action]:
        """Nothing more will come; the `error` that broke the connection, if one did."""
        error = error or PeerError("the other side closed the connection")
        if self.state is State.GREETING and not error.hint:
            error = PeerError(f"{error.problem} before it had greeted", "its log says why")
        return self._close(Ending.ENDED, error, tell=False)

    def tick(self, now: float, taken: int | None = None) -> list[Action]:
        """To be called several times per heartbeat interval, when all that has come was taken, but for a pause.

        `taken`: a number that changes as the other side takes what is sent; None: nothing waits to be sent.
        """
        if self.state is State.CLOSED:
            return []
        if taken != self._taken:
            self._taken, self._took = taken, now
        if lost := self._lost(now) if self.state is State.ESTABLISHED else self._late(now):
            return self._close(Ending.LOST, lost)
        is_due = self.state is State.ESTABLISHED and now - self._sent >= self._timing.interval
        return [Send(self.send(Heartbeat(), now))] if is_due and taken is None else []

    def _late(self, now: float) -> PeerError | None:
        greeting = self._timing.greeting
        return PeerError(f"no greeting came within {greeting:g} s") if now - self._began >= greeting else None

    def _lost(self, now: float) -> PeerError | None:
        """Why nothing can be expected of the other side any more, if that is so."""
        timing = self._timing
        where = "" if self.own is None or self._is_control() else f" on the stream of {self.own.stream}"
        if self._paused is None and now - self.heard >= timing.timeout:
            return PeerError(f"nothing was heard{where} for {timing.timeout:g} s")
        if self._paused is not None and now - self._paused >= timing.patience:
            why = "a checkpoint that one side has made does not end on the other"
            return PeerError(f"nothing was read{where} for {timing.patience:g} s", why)
        if self._taken is not None and now - self._took >= timing.patience:
            return PeerError(f"the other side took nothing{where} for {timing.patience:g} s")
        return None

    def _take(self, frame: Frame, now: float) -> list[Action]:
        """Of one frame that is no packet in its place."""
        first, body, end = frame
        if body - first != _WORDS:
            return self._misplaced(body - first - _WORDS)
        try:
            message = decode(memoryview(self.buffer)[body:end])
        except OperatorError as error:
            return self._close(Ending.REFUSED, error)
        except PeerError as error:
            return self._close(Ending.VIOLATION, error)
        if isinstance(message, Goodbye):
            return self._told(message)
        if self.state is State.ESTABLISHED:
            return self._in_order(message)
        if self.state is State.GREETING and isinstance(message, Hello):
            return self._greeted(message, now)
        return self._wrong(f"{_described(message)} came before the greeting was over")

    def _misplaced(self, header_length: int) -> list[Action]:
        if header_length != VNET_HEADER_BYTES:
            return self._wrong(
                f"a packet came with {header_length} bytes of virtio-net header, not {VNET_HEADER_BYTES}"
            )
        return self._wrong("a packet came on the control stream" if self._is_control() else "a packet came too early")

    def _greeted(self, peer: Hello, now: float) -> list[Action]:
        self.peer = peer
        if self.own is None:
            self.state = State.DECIDING
            return [Greeted(peer)]
        try:
            judge(self.own, peer)
        except OperatorError as error:
            return self.refuse(error)
        return [self._establish(self.own, peer, now)]

    def _establish(self, own: Hello, peer: Hello, now: float) -> Established:
        self.state = State.ESTABLISHED
        self._own_epoch, self._peer_epoch = own.epoch, peer.epoch
        self.heard = self._sent = now
        return Established(peer)

    def _in_order(self, message: Message | Unknown) -> list[Action]:
        """A message of an established stream."""
        match message:
            case Unknown():
                return self._newer(message)
            case _ if not self._belongs(message, self.peer):
                return self._wrong(f"{_described(message)} came where it does not belong")
            case Heartbeat():
                return []
            case Barrier(epoch) if epoch <= self._peer_epoch:
                return self._wrong(f"a barrier of epoch {epoch} came behind one of epoch {self._peer_epoch}")
            case Barrier(epoch):
                self._peer_epoch = epoch
        return [Arrived(message)]

    def _newer(self, message: Unknown) -> list[Action]:
        assert self.own is not None
        assert self.peer is not None
        if self.peer.version.minor <= self.own.version.minor:
            return self._wrong(f"a message of the unknown type {message.kind} came")
        self.unknown_messages += 1
        return []

    def _told(self, goodbye: Goodbye) -> list[Action]:
        ending = Ending.ENDED if self.state is State.ESTABLISHED else Ending.REFUSED
        return self._close(ending, PeerError(f"the other side says: {goodbye.reason}"), tell=False)

    # What belongs where.

    def _is_closed(self) -> bool:
        return self.state is State.CLOSED

    def _is_control(self) -> bool:
        return self.own is not None and self.own.stream == CONTROL

    def _carries_packets(self) -> bool:
        return self.state is State.ESTABLISHED and not self._is_control()

    def _belongs(self, message: Message, sender: Hello | None) -> bool:
        if isinstance(message, Barrier | Heartbeat):
            return True
        only_from = _SENDERS.get(type(message))
        if only_from is not None and sender is not None and sender.role is not only_from:
            return False
        return self._is_control() and isinstance(message, _MESSAGES)

    # The end.

    def _no_frame(self, error: FramingError) -> PeerError:
        if self.state is State.GREETING and self.buffer[0] == _TLS_HANDSHAKE:
            return PeerError("the other side speaks TLS and this one does not", "configure the same on both hosts")
        return PeerError(error.problem, "is the other end colo-bridge?")

    def _wrong(self, problem: str) -> list[Action]:
        return self._close(Ending.VIOLATION, PeerError(problem))

    def _close(self, ending: Ending, error: ColoBridgeError, tell: bool = True) -> list[Action]:
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        goodbye: list[Action] = [Send(encode(Goodbye(str(error))))] if tell else []
        return [*goodbye, Closed(ending, error)]


def _described(message: Message | Unknown) -> str:
    return f"a message of type {message.kind}" if isinstance(message, Unknown) else f"a {type(message).__name__}"
