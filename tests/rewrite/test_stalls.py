"""A TCP sender behind a lossy mirror: with the cures it always finishes, without them it often never does.

The client gets each octet once (from the primary), acknowledges it once, and answers nothing of what the
secondary repeats.  The secondary is the least of a TCP: a window, a timer, cumulative acknowledgements, and
like Linux an answer to every acknowledgement of what it has not sent.  Time is virtual, loss is seeded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from colo_bridge.rewrite import RewriteLimits, Rewriter
from tests.packets import Segment, read_tcp, tcp, timestamps
from tests.rewrite.trace import HEADER, TO_CLIENT, TO_GUEST, buffer

MODULUS = 1 << 32
CLIENT_NUMBER = 101
STEP = 0.0005
TIMEOUT = 0.2
LIMIT = 60.0
MSS, WINDOW = 10, 40


@dataclass
class Sender:
    """The secondary: octet 0 is its SYN, the last one its FIN."""

    initial: int
    length: int
    acknowledged: int = 0
    sent: int = 0
    timer: float = 0.0
    answers_owed: int = 0

    @property
    def end(self) -> int:
        return 1 + self.length + 1

    @property
    def finished(self) -> bool:
        return self.acknowledged == self.end

    def number(self, octet: int) -> int:
        return (self.initial + octet) % MODULUS

    def takes(self, segment: Segment) -> None:
        octet = (segment.ack - self.initial) % MODULUS
        if self.sent < octet < MODULUS // 2:
            self.answers_owed += 1
        elif self.acknowledged < octet <= self.sent:
            self.acknowledged = octet
            self.timer = 0.0

    def due(self, now: float) -> list[tuple[int, int]]:
        """From and to which octets to send now; empty segments are acknowledgements."""
        segments = [(self.sent, self.sent)] * self.answers_owed
        self.answers_owed = 0
        if self.acknowledged < self.sent and now - self.timer >= TIMEOUT and self.timer:
            segments.append((self.acknowledged, self._cut(self.acknowledged)))
            self.timer = now
        while (
            self.sent < self.end and (self.sent - self.acknowledged < WINDOW) and (self.acknowledged or not self.sent)
        ):
            segments.append((self.sent, self._cut(self.sent)))
            self.sent = segments[-1][1]
        self.timer = self.timer or now
        return segments

    def _cut(self, start: int) -> int:
        """The SYN and the FIN go alone."""
        if start == 0:
            return 1
        return min(start + MSS, 1 + self.length) if start < 1 + self.length else self.end


@dataclass
class World:
    random: Random
    loss: float
    cures: bool
    primary: int
    secondary: Sender
    released_at: float
    """From then on the client gets all that the primary has (a checkpoint that copied no state)."""
    now: float = 0.0
    client_has: int = 0
    to_secondary: list[bytearray] = field(default_factory=list)
    answers: int = 0

    def __post_init__(self) -> None:
        self.rewriter = Rewriter(RewriteLimits(), HEADER, cures=self.cures)

    def client_sends(self, flags: str, octets: int) -> None:
        ack = (self.primary + octets) % MODULUS if "A" in flags else None
        number = CLIENT_NUMBER - (flags == "S")
        frame = buffer(tcp(**TO_GUEST, seq=number, ack=ack, flags=flags, options=timestamps(self._clock, self._clock)))
        if self.rewriter.ingress(frame, HEADER, len(frame), False, self.now):
            self.to_secondary.append(frame)

    @property
    def _clock(self) -> int:
        return int(self.now * 1000) + 1

    def secondary_sends(self, start: int, end: int) -> None:
        flags = "A" + "S" * (start == 0) + "F" * (end == self.secondary.end and start < end)
        payload = bytes(min(end, 1 + self.secondary.length) - max(start, 1)) if start < end else b""
        frame = buffer(
            tcp(
                **TO_CLIENT,
                seq=self.secondary.number(start),
                ack=CLIENT_NUMBER,
                flags=flags,
                payload=payload,
                options=timestamps(self._clock + 5, self._clock),
            )
        )
        packet = self.rewriter.egress(frame, HEADER, len(frame), False, self.now)
        # What both have sent leaves; before the client's first answer the number is the secondary's own.
        assert start == 0 or packet.sequence == (self.primary + start) % MODULUS
        self.client_gets(end)
        self.answers += len(self.rewriter.ready)
        self.to_secondary += self.rewriter.ready
        self.rewriter.ready.clear()

    def client_gets(self, end: int) -> None:
        if end > self.client_has:
            self.client_has = end
            self.client_sends("A", end)

    def run(self) -> bool:
        """Whether the secondary finished in time."""
        # The opening comes through: what is learned there is another matter.
        self.client_sends("S", 0)
        self.to_secondary.clear()
        self.secondary_sends(0, 1)
        self.secondary.sent = 1
        while self.now < LIMIT and not self.secondary.finished:
            self.now += STEP if self.to_secondary else 20 * STEP
            arriving, self.to_secondary = self.to_secondary, []
            for frame in arriving:
                if self.random.random() >= self.loss:
                    self.secondary.takes(read_tcp(frame, HEADER))
            for start, end in self.secondary.due(self.now):
                self.secondary_sends(start, end)
            if self.now >= self.released_at:
                self.client_gets(self.secondary.end)
        return self.secondary.finished


def world(seed: int, *, cures: bool, loss: float = 0.1, checkpoint: bool = False) -> World:
    random = Random(seed)
    near_the_wrap = [0, MODULUS - 1, random.randrange(MODULUS), MODULUS - random.randrange(300)]
    secondary = Sender(random.choice(near_the_wrap), random.randrange(1, 400))
    released_at = random.random() * 0.01 if checkpoint else LIMIT
    return World(random, loss, cures, random.choice(near_the_wrap), secondary, released_at)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_sender_behind_a_lossy_mirror_finishes(checkpoint):
    for seed in range(150):
        one = world(seed, cures=True, checkpoint=checkpoint)
        assert one.run(), seed
        # At most one for each octet that was new and for each time-out.
        assert one.answers <= one.secondary.end + one.now / TIMEOUT + 1


def test_without_the_cures_it_stalls():
    finished = [world(seed, cures=False).run() for seed in range(20)]
    assert not all(finished)
    assert any(finished)


def test_without_the_cures_a_checkpoint_ahead_of_the_secondary_stalls_it():
    finished = [world(seed, cures=False, loss=0.0, checkpoint=True).run() for seed in range(20)]
    assert not all(finished)


def test_without_loss_no_time_out_is_waited_for():
    for seed in range(50):
        one = world(seed, cures=True, loss=0.0, checkpoint=bool(seed % 2))
        assert one.run()
        assert one.now < TIMEOUT + 0.05
