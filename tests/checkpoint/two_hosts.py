"""Two hosts in miniature: two hypervisors with a guest each, two daemons, and a link, each as late as it likes.

What is real: `Replica`, `PrimaryEpoch` and `SecondaryEpoch`. Everything else is a model: whatever is on its way (a
hypervisor's event or answer, a packet or a barrier on a stream) stays there until chance takes it out; only what
travels on the same way stays in order. Each packet knows how often its guest's state was copied, which the daemons do
not.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from colo_bridge.checkpoint.epochs import (
    Action,
    Begun,
    Drain,
    Fence,
    Forget,
    Parted,
    PauseStream,
    ReadGuest,
    Renew,
    RequestCheckpoint,
    ResumeStream,
    SendBarrier,
    Suspended,
    Synchronised,
    Wanted,
)
from colo_bridge.checkpoint.primary_epoch import PrimaryEpoch
from colo_bridge.checkpoint.replica import STANDING, News, Replica
from colo_bridge.checkpoint.secondary_epoch import SecondaryEpoch

NICS = ("net0", "net1")
STREAMS = ("control", *NICS)
MOST_QUEUED = 8
"""Packets on a stream; more are lost."""


class Violation(AssertionError):
    """What must never be."""


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    at: int
    copies: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a hypervisor that was asked."""

    status: str
    migration: str
    copies: int
    gone_on: bool = False
    """Before it answered."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Of a fence: `asked` is False until the hypervisor has answered."""

    epoch: int
    asked: bool


@dataclass(frozen=True, slots=True)
class Packet:
    copies: int
    """Of the guest that sent it, or got it."""
    late: bool
    """It was read by a daemon that had not yet heard of the copy before it: found out by the daemon itself, later."""


@dataclass(frozen=True, slots=True)
class Barrier:
    epoch: int


@dataclass(frozen=True, slots=True)
class Request:
    reason: str


@dataclass(slots=True)
class Qemu:
    """One hypervisor: `out` is on its way to its client, `asked` counts questions that it has not answered."""

    status: str = "running"
    migration: str = "colo"
    copies: int = 1
    out: deque[Event | Answer] = field(default_factory=deque)
    asked: int = 0
    client: bool = False
    exit_due: bool = False

    @property
    def running(self) -> bool:
        return self.status == "running"

    def emit(self, name: str, now: int) -> None:
        if self.client:
            self.out.append(Event(name, now, self.copies))

    def stop(self, status: str, now: int) -> None:
        """What stands still already says nothing."""
        was_running, self.status = self.running, status
        if was_running:
            self.emit("STOP", now)

    def go_on(self, now: int) -> None:
        self.status = "running"
        self.emit("RESUME", now)

    def answer(self) -> None:
        self.asked -= 1
        self.out.append(Answer(self.status, self.migration, self.copies))


class Session:
    """One connection of the link: what was sent to each side, for each stream."""

    def __init__(self) -> None:
        self.dead = False
        self.to: dict[str, dict[str, deque[Packet | Barrier | Request]]] = {
            side: {stream: deque() for stream in STREAMS} for side in ("primary", "secondary")
        }


class Host(ABC):
    """One daemon and its hypervisor; the two kinds differ in their machine and in what its actions mean."""

    name: str
    other: str

    def __init__(self, qemu: Qemu, counts: Counter[str], chance: random.Random) -> None:
        self.qemu = qemu
        self.counts = counts
        self.chance = chance
        self.now = 0
        self.guest: deque[Packet] = deque()
        """What its guest has sent and nobody has read."""
        self.session: Session | None = None
        self.is_up = False
        self.start()

    def start(self) -> None:
        """The daemon begins: it knows nothing."""
        self.replica = Replica()
        self.machine: PrimaryEpoch | SecondaryEpoch = self.make()
        self.reads = True
        self.paused: set[str] = set()
        self.known: int | None = None
        """Copies that the daemon has heard of; None: it hears nothing."""
        self.late_up_to = 0
        self.inbox: deque[Event | Marker] = deque()
        self.replies: deque[Answer] = deque()
        self.monitor: Generator[None, Any, None] | None = None
        self.waits_for_answer = False
        self.session, self.is_up = None, False

    @abstractmethod
    def make(self) -> PrimaryEpoch | SecondaryEpoch: ...

    # The hypervisor's client.

    def connect(self) -> None:
        if self.monitor is None:
            self.qemu.client, self.qemu.asked = True, 0
            self.qemu.out.clear()
            self.inbox.clear()
            self.replies.clear()
            self.monitor = self.follow()
            next(self.monitor)

    def notice_loss(self) -> None:
        """The connection is found to be closed, after all that had come."""
        if self.monitor is not None and not self.qemu.client and not self.qemu.out and not self.inbox:
            self.lose()

    def lose(self) -> None:
        self.monitor, self.known = None, None
        self.inbox.clear()
        self.replies.clear()
        self.tell(self.replica.lost())

    def receive(self) -> None:
        """One message of the hypervisor."""
        if self.monitor is not None and self.qemu.out:
            message = self.qemu.out.popleft()
            if isinstance(message, Answer):
                gone_on = any(isinstance(item, Event) and item.name == "RESUME" for item in self.inbox)
                self.replies.append(replace(message, gone_on=gone_on))
            else:
                self.inbox.append(message)

    def handle(self) -> None:
        """Go on with what has come."""
        if self.monitor is None:
            return
        if self.waits_for_answer:
            if self.replies:
                self.monitor.send(self.replies.popleft())
            elif not self.qemu.client and not self.qemu.out:
                self.lose()
        elif self.inbox:
            self.monitor.send(self.inbox.popleft())

    def follow(self) -> Generator[None, Any, None]:
        """As `Monitor` does."""
        replica = self.replica
        first = yield from self.ask()
        self.known = first.copies
        self.tell(replica.connected(first.status, first.migration))
        while True:
            event = yield
            if isinstance(event, Marker):
                if not event.asked:
                    yield from self.ask()
                    self.inbox.append(Marker(event.epoch, True))
                else:
                    self.perform(self.machine.fenced(event.epoch))
                continue
            assert self.known is not None
            if event.name == "STOP":
                self.tell(replica.stopped())
                read_up_to = self.now
                answer = yield from self.ask()
                self.tell(replica.status("running" if answer.gone_on else answer.status, float(read_up_to)))
            elif event.name == "RESUME":
                self.known = max(self.known, event.copies)
                self.tell(replica.resumed(float(event.at)))
                answer = yield from self.ask()
                self.tell(replica.migration(answer.migration))
            else:
                self.tell(replica.exited())

    def ask(self) -> Generator[None, Any, Answer]:
        self.qemu.asked += 1
        self.waits_for_answer = True
        answer = yield
        self.waits_for_answer = False
        assert isinstance(answer, Answer)
        return answer

    def tell(self, news: News | None) -> None:
        if news is not None:
            self.counts[f"{self.name} {news.name.lower()}"] += 1
            if news is News.RESUMED and self.known is not None and self.known <= self.late_up_to:
                raise Violation(f"the {self.name} counts copy {self.known} and has read too late for {self.late_up_to}")
            self.perform(self.machine.told(news))

    # The link.

    def up(self, session: Session) -> None:
        self.down()
        self.session, self.is_up = session, True
        self.paused.clear()

    def down(self) -> None:
        if self.session is not None:
            self.session, self.is_up = None, False
            self.paused.clear()
            self.perform(self.machine.link_down())

    def put(self, stream: str, item: Packet | Barrier | Request) -> None:
        if self.session is not None and not self.session.dead:
            queue = self.session.to[self.other][stream]
            if len(queue) < MOST_QUEUED or not isinstance(item, Packet):
                queue.append(item)

    def take(self, stream: str) -> None:
        """One item of a stream, if it can be taken."""
        if self.session is None or stream in self.paused or not self.session.to[self.name][stream]:
            return
        item = self.session.to[self.name][stream].popleft()
        if isinstance(item, Barrier):
            self.perform(self.machine.barrier(stream, item.epoch))
        elif isinstance(item, Request):
            assert isinstance(self.machine, PrimaryEpoch)
            self.perform(self.machine.requested(item.reason))
        else:
            self.got(stream, item)

    @abstractmethod
    def got(self, nic: str, packet: Packet) -> None: ...

    # The guest.

    def send(self) -> None:
        if self.qemu.running:
            self.guest.append(Packet(self.qemu.copies, False))

    def read(self) -> None:
        if self.reads and self.guest:
            self.sent(self.guest.popleft())

    def drain(self) -> None:
        while self.guest:
            self.sent(self.guest.popleft())

    @abstractmethod
    def sent(self, packet: Packet) -> None: ...

    def seen(self, packet: Packet) -> Packet:
        """As it is when it is read now."""
        late = self.known != packet.copies
        if late and not (self.monitor is not None and self.known is not None):
            # Whoever hears nothing may not believe anything.
            return packet
        if late:
            self.late_up_to = max(self.late_up_to, packet.copies)
        return Packet(packet.copies, late)

    # What the machine asks for.

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendBarrier(epoch):
                    for stream in STREAMS:
                        self.put(stream, Barrier(epoch))
                case PauseStream(nic):
                    self.paused.add(nic)
                case ResumeStream(nic):
                    self.paused.discard(nic)
                case Fence(epoch):
                    self.fence(epoch)
                case Begun() | Suspended() | Parted():
                    self.counts[f"{self.name} {type(action).__name__.lower()}"] += 1
                case _:
                    self.carry_out(action)

    def fence(self, epoch: int) -> None:
        if self.monitor is not None:
            self.inbox.append(Marker(epoch, False))

    @abstractmethod
    def carry_out(self, action: Action) -> None: ...


class Primary(Host):
    name, other = "primary", "secondary"

    def start(self) -> None:
        super().start()
        self.held: set[int] = set()
        self.mirror: deque[Packet] = deque()
        self.wanted = False

    def make(self) -> PrimaryEpoch:
        self.epochs = PrimaryEpoch(NICS, True)
        return self.epochs

    def up(self, session: Session) -> None:
        super().up(session)
        self.perform(self.epochs.link_up(False))

    def tell(self, news: News | None) -> None:
        if news is News.STOPPED:
            self.drain()
            self.mirror_all()
            self.reads = False
        if news is News.RESUMED:
            self.wanted = False
        super().tell(news)
        if news not in (None, News.STOPPED, News.PAUSED):
            self.reads = self.replica.phase not in STANDING or news is News.GOES_ON

    def input(self) -> None:
        """Something comes for the guest."""
        if self.qemu.running:
            self.mirror.append(Packet(self.qemu.copies, False))

    def mirror_one(self) -> None:
        if self.reads and self.mirror:
            self.put(self.chance.choice(NICS), self.seen(self.mirror.popleft()))

    def mirror_all(self) -> None:
        self.reads = True
        while self.mirror:
            self.mirror_one()

    def sent(self, packet: Packet) -> None:
        if not self.seen(packet).late:
            self.held.add(packet.copies)

    def got(self, nic: str, packet: Packet) -> None:
        if not self.epochs.accepts[nic]:
            self.counts["stale"] += 1
            return
        if packet.late:
            self.counts["compared late"] += 1
            return
        self.counts["compared"] += 1
        if self.held - {packet.copies} or packet.copies != self.known:
            raise Violation(f"a packet of state {packet.copies} is compared with those of {self.held}, in {self.known}")

    def carry_out(self, action: Action) -> None:
        match action:
            case Renew(synchronised, nic):
                assert synchronised
                assert nic is None
                self.renew()
            case Wanted():
                self.wanted = True
            case Forget():
                self.held.clear()
            case _:
                raise AssertionError(action)

    def renew(self) -> None:
        assert self.known is not None
        if any(copies >= self.known for copies in self.held):
            raise Violation(f"packets of states {self.held} are released by the copy {self.known}")
        self.counts["renewed"] += 1
        self.held.clear()


class Secondary(Host):
    name, other = "secondary", "primary"

    def make(self) -> SecondaryEpoch:
        self.epochs = SecondaryEpoch(NICS, True)
        return self.epochs

    def up(self, session: Session) -> None:
        super().up(session)
        self.perform(self.epochs.link_up())

    def sent(self, packet: Packet) -> None:
        if self.epochs.sends:
            self.put(self.chance.choice(NICS), self.seen(packet))

    def got(self, nic: str, packet: Packet) -> None:
        if not self.epochs.delivers[nic]:
            self.counts["discarded"] += 1
        elif packet.late:
            self.counts["delivered late"] += 1
        elif packet.copies != self.known:
            raise Violation(f"what came to the primary in state {packet.copies} is delivered in state {self.known}")
        else:
            self.counts["delivered"] += 1

    def carry_out(self, action: Action) -> None:
        match action:
            case Drain():
                self.drain()
            case ReadGuest(on):
                self.reads = on
            case Synchronised():
                self.counts["synchronised"] += 1
            case RequestCheckpoint(reason):
                self.put("control", Request(reason))
            case _:
                raise AssertionError(action)


class World:
    """Both hosts; `step` lets chance do one thing, `settle` lets everything arrive and nothing else go wrong."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.now = 0
        self.copies = 1
        self.p = Primary(Qemu(), self.counts, self.chance)
        self.s = Secondary(Qemu(), self.counts, self.chance)
        self.hosts: tuple[Host, Host] = (self.p, self.s)
        self.in_colo = True
        self.checkpoint: Generator[None, None, None] | None = None
        self.due: list[Host] = []
        """Whose session is to come up."""
        self.session: Session | None = None
        # Some worlds are slow in one thing, some in another.
        self.weights = [(what, weight * self.chance.choice((0.1, 1, 1, 1, 8))) for what, weight in self._ordinary()]
        trouble = self.chance.choice((0, 0.05, 0.2, 1))
        self.weights += [(what, weight * trouble) for what, weight in self._troubles()]
        self.weights += [(self.ask_by_itself, self.chance.choice((0.1, 0.5, 3)))]

    def _ordinary(self) -> list[tuple[Callable[[], None], int]]:
        each = [
            (call, weight)
            for host in self.hosts
            for call, weight in (
                (host.receive, 20),
                (host.handle, 20),
                (host.send, 3),
                (host.read, 8),
                (partial(self.answer, host), 20),
                (partial(self.take, host), 60),
                (host.connect, 2),
                (host.notice_loss, 5),
                (partial(self.notice_cut, host), 2),
            )
        ]
        links = [(self.dial, 2), (self.come_up, 5), (self.p.input, 3), (self.p.mirror_one, 8)]
        return [*each, *links, (self.go_on_with_checkpoint, 4), (self.ask, 10)]

    def _troubles(self) -> list[tuple[Callable[[], None], float]]:
        hosts = [
            (partial(call, host), weight)
            for host in self.hosts
            for call, weight in (
                (self.break_monitor, 0.2),
                (self.restart, 0.1),
                (self.operator_stops, 0.3),
                (self.operator_continues, 1),
            )
        ]
        return [*hosts, (self.cut, 0.3), (self.fail, 0.2), (self.rejoin, 1)]

    def run(self, steps: int) -> None:
        calls, weights = zip(*self.weights, strict=True)
        for call in self.chance.choices(calls, weights, k=steps):
            self.tick()
            call()

    def tick(self) -> None:
        self.now += 1
        self.p.now = self.s.now = self.now

    def settle(self, rounds: int = 1_000) -> bool:
        """Nothing goes wrong any more and everything has its turn, until all is compared and delivered again.

        A pause takes longer than an answer.
        """
        calls = [call for call, _ in self._ordinary() if call != self.go_on_with_checkpoint]
        for number in range(rounds):
            if self.works():
                return True
            self.rejoin()
            for host in self.hosts:
                self.operator_continues(host)
            for call in calls * 6:
                self.tick()
                call()
            if number % 4 == 0:
                self.go_on_with_checkpoint()
            if number % 100 == 0:
                self.ask_by_itself()
        return False

    def works(self) -> bool:
        epochs = self.s.epochs
        return self.in_colo and self.p.epochs.comparing and epochs.synchronised and all(epochs.delivers.values())

    # The hypervisors.

    def answer(self, host: Host) -> None:
        if host.qemu.client and host.qemu.asked:
            host.qemu.answer()

    def ask(self) -> None:
        """The primary's daemon asks for the checkpoint that it wants."""
        if self.p.wanted and self.p.replica.can_be_asked:
            self.ask_by_itself()

    def ask_by_itself(self) -> None:
        if self.in_colo and self.checkpoint is None:
            self.counts["checkpoints"] += 1
            self.checkpoint = self.copy()

    def go_on_with_checkpoint(self) -> None:
        if self.checkpoint is not None and next(self.checkpoint, self) is self:
            self.checkpoint = None

    def copy(self) -> Generator[None, None, None]:
        """The secondary stops, then the primary; then both go on, whoever is first."""
        p, s = self.p.qemu, self.s.qemu
        s.stop("colo", self.now)
        yield
        p.stop("colo", self.now)
        yield
        self.copies += 1
        for qemu in self.chance.sample((p, s), 2):
            yield
            qemu.copies = self.copies
            qemu.go_on(self.now)

    def fail(self) -> None:
        """COLO ends, perhaps in the middle of a checkpoint."""
        if self.in_colo:
            self.counts["failures"] += 1
            self.in_colo, self.checkpoint = False, self.leave_colo()

    def leave_colo(self) -> Generator[None, None, None]:
        """Each hypervisor notices, and later it is told that it is alone."""
        for host in self.chance.sample(self.hosts, 2):
            yield
            host.qemu.emit("COLO_EXIT", self.now)
        for host in self.chance.sample(self.hosts, 2):
            yield
            host.qemu.stop("finish-migrate", self.now)
            yield
            host.qemu.migration = "completed"
            host.qemu.go_on(self.now)

    def rejoin(self) -> None:
        """The secondary's hypervisor is started anew, and the primary migrates to it."""
        if not self.in_colo and self.checkpoint is None:
            self.in_colo, self.checkpoint = True, self.migrate()

    def migrate(self) -> Generator[None, None, None]:
        p, s = self.p.qemu, self.s.qemu
        self.break_monitor(self.s)
        s.status, s.migration = "inmigrate", "active"
        yield
        p.stop("finish-migrate", self.now)
        yield
        self.copies += 1
        for qemu in self.chance.sample((p, s), 2):
            yield
            qemu.migration = "colo"
            qemu.copies = self.copies
            qemu.go_on(self.now)

    def operator_stops(self, host: Host) -> None:
        if host.qemu.running:
            host.qemu.stop("paused", self.now)

    def operator_continues(self, host: Host) -> None:
        if host.qemu.status == "paused":
            host.qemu.go_on(self.now)

    # The daemons and what they are connected by.

    def break_monitor(self, host: Host) -> None:
        """What was not received yet may be lost."""
        qemu = host.qemu
        qemu.client = False
        for _ in range(self.chance.randint(0, len(qemu.out))):
            qemu.out.pop()

    def restart(self, host: Host) -> None:
        self.counts["restarts"] += 1
        if host.session is not None:
            host.session.dead = True
        host.qemu.client = False
        host.qemu.out.clear()
        host.start()

    def take(self, host: Host) -> None:
        host.take(self.chance.choice(STREAMS))

    def cut(self) -> None:
        if self.session is not None:
            self.session.dead = True

    def notice_cut(self, host: Host) -> None:
        if host.session is not None and host.session.dead:
            host.down()

    def dial(self) -> None:
        """The secondary has noticed that the link is down; the primary perhaps not."""
        if self.s.session is None and (self.session is None or self.session.dead):
            self.session = Session()
            self.due = list(self.chance.sample(self.hosts, 2))

    def come_up(self) -> None:
        if self.due and self.session is not None:
            host = self.due.pop()
            if not self.session.dead:
                self.counts["links"] += 1
                host.up(self.session)


TROUBLES, STEPS = 6, 1_500
"""Times of trouble in one life, and steps of each."""


def live(seed: int) -> World:
    """A life in which trouble and quiet take turns; at the end of each quiet time everything must work again."""
    world = World(seed)
    try:
        for _ in range(TROUBLES):
            world.run(STEPS)
            if not world.settle():
                raise Violation("the replicas are not compared again")
    except Violation as violation:
        violation.add_note(f"seed {seed}, at {world.now}")
        raise
    return world
