"""Two hosts with their memberships, a link that fails in every way, an arbiter, and operators; time is simulated.

What is modelled, and as bad as it may get:

- Link: each direction is cut and healed by itself; what is under way then comes late, in order.  A side that hears
  nothing for two seconds ends the session, the secondary begins a new one.
- Daemons: killed and started again (what they record stays, but for a reboot), stopped for a while with all that comes
  waiting for them.  Their clocks differ.
- Hypervisor: in COLO or not; checkpoints that fail at every step; either guest dies, and another one is started.
- Arbiter: slow, sometimes refusing for no reason, sometimes doing what is asked while it is killed for taking too long.
  Either a test-and-set with a holder, or a fence that switches the other host off.
- Operators: any verb at any time.  They say `fenced` only of a host that they have switched off for good.
"""

import enum
import heapq
import itertools
from collections import Counter
from dataclasses import dataclass
from random import Random

from colo_bridge.errors import OperatorError
from colo_bridge.membership.actions import Announce, AskArbiter, GiveBack, GoLive, RequestCheckpoint, Traffic
from colo_bridge.membership.primary import PrimaryMembership
from colo_bridge.membership.primary_state import PrimaryPolicy, PrimaryState
from colo_bridge.membership.secondary import SecondaryMembership, SecondaryPolicy, SecondaryState

TICK = 0.1
BEAT = 0.25
SILENCE = 2.0
SECONDARY_TIMEOUT = 5.0
PRIMARY_TIMEOUT = 4.0
NEVER = 1e9
"""Announced by a primary that does not go solo by itself."""
ARBITER_TIMEOUT = 3.0


class Kind(enum.Enum):
    NONE = "none"
    TOKEN = "token"
    FENCE = "fence"


class World:
    """The clock, what is due, and what must never be."""

    def __init__(self, seed, kind, *, solo=True, automatic=False, faults=True):
        self.random = Random(seed)
        self.now = 0.0
        self.events = 0
        self.seen = Counter()
        self.faults = faults
        self.in_colo = True
        self._due = []
        self._order = itertools.count()
        self.arbiter = Arbiter(self, kind)
        self.primary = Primary(self, PrimaryPolicy(SECONDARY_TIMEOUT, solo, kind is not Kind.NONE, retry=2.0))
        self.secondary = Secondary(self, SecondaryPolicy(PRIMARY_TIMEOUT, automatic, kind is not Kind.NONE, retry=2.0))
        self.sides = (self.primary, self.secondary)
        self.to_secondary = Direction(self, self.secondary)
        self.to_primary = Direction(self, self.primary)
        for side in self.sides:
            side.start()

    def after(self, seconds, action):
        heapq.heappush(self._due, (self.now + seconds, next(self._order), action))

    def run(self, seconds):
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, action = heapq.heappop(self._due)
            action()
            self.events += 1
            self.check()
        self.now = end

    def chance(self, of_one):
        return self.faults and self.random.random() < of_one

    def check(self):
        primary, secondary = self.primary, self.secondary
        speaks = primary.membership.traffic is Traffic.PASS and primary.is_alive
        is_live = secondary.membership.state is SecondaryState.LIVE and secondary.is_alive
        assert not (speaks and is_live), "two services"
        if self.arbiter.kind is Kind.TOKEN:
            assert not speaks or self.arbiter.holder is primary or secondary.is_off
            assert not is_live or self.arbiter.holder is secondary or primary.is_off
        if self.arbiter.kind is Kind.NONE:
            assert not is_live or primary.is_off
        primary.check()


class Direction:
    """One way of the link: whatever is sent arrives in order, unless it is cut; then it waits."""

    def __init__(self, world, receiver):
        self.world = world
        self.receiver = receiver
        self.is_cut = False
        self._waiting = []
        self._last = 0.0

    def send(self, message):
        if self.is_cut:
            self._waiting.append(message)
            return
        delay = 0.001 if not self.world.chance(0.01) else self.world.random.uniform(0, 3.0)
        self._last = max(self._last + 1e-9, self.world.now + delay)
        self.world.after(self._last - self.world.now, lambda: self._arrive(message))

    def _arrive(self, message):
        if self.is_cut:
            self._waiting.append(message)
        else:
            self.receiver.when_awake(lambda: self.receiver.take(message))

    def cut(self):
        self.is_cut = True

    def heal(self):
        self.is_cut = False
        waiting, self._waiting = self._waiting, []
        # A connection that nobody holds any more brings nothing after a while.
        for message in waiting[-20:]:
            self.send(message)


class Arbiter:
    """Carries out one command of each side at a time; `holder` is who may go on alone."""

    def __init__(self, world, kind):
        self.world = world
        self.kind = kind
        self.holder = None

    def work(self, side):
        """The next command in the side's queue."""
        life, world = side.life, self.world
        action = side.commands[0]
        asks = isinstance(action, AskArbiter)
        slow = world.chance(0.1)
        effect = world.random.uniform(0, 4.0 if slow else 0.2)
        end = min(effect + world.random.uniform(0, 2.0 if slow else 0.2), ARBITER_TIMEOUT)
        answers = []
        if not world.chance(0.05) and (asks or effect < end):
            world.after(effect, lambda: answers.append(self._decide(side, asks, life)))
        world.after(end, lambda: self._ended(side, asks, life, end < ARBITER_TIMEOUT and any(answers)))

    def _decide(self, side, asks, life):
        if side.life != life:
            # A command dies with its daemon.
            return False
        if not asks:
            self.holder = None if self.holder is side else self.holder
            return True
        if self.kind is Kind.FENCE:
            self.world.seen["fenced"] += 1
            side.other.crash(reboots=True)
            return True
        if self.holder is None:
            self.holder = side
        return self.holder is side

    def _ended(self, side, asks, life, won):
        if side.life != life:
            return
        del side.commands[0]
        if side.commands:
            self.work(side)
        if asks:
            self.world.seen["won" if won else "refused"] += 1
            side.when_awake(lambda: side.act(side.membership.arbiter_answered(won, side.clock)))


@dataclass
class Hello:
    session: int


@dataclass
class Welcome:
    session: int


@dataclass
class Goodbye:
    session: int
    live: bool = False


@dataclass
class Barrier:
    session: int
    epoch: int


@dataclass
class Echo:
    session: int
    epoch: int


@dataclass
class Live:
    session: int


@dataclass
class FromPrimary:
    session: int
    heard: float
    """The newest time that the secondary had put into what came from it, while the replicas were compared."""
    is_synchronised: bool
    alone: int
    has_guest: bool


@dataclass
class FromSecondary:
    session: int
    sent: float
    alone_heard: int


class Side:
    """What both daemons have in common."""

    def __init__(self, world, policy):
        self.world = world
        self.policy = policy
        self.is_alive = False
        self.is_off = False
        """By an operator's hand, for good."""
        self.life = 0
        self.recorded = False
        self._rate = 1 + world.random.uniform(-1e-5, 1e-5)
        self._offset = world.random.uniform(0, 1e6)
        self._asleep_until = 0.0
        self.slept = 0.0

    @property
    def clock(self):
        return self._offset + self.world.now * self._rate

    def start(self):
        if self.is_off or self.is_alive:
            return
        self.is_alive = True
        self.life += 1
        self.session = None
        self.commands = []
        self._inbox = []
        self.heard_at = 0.0
        self._last_beat = 0.0
        self.begin()
        self._loop(self.life)

    def crash(self, reboots=False):
        self.is_alive = False
        self.life += 1
        self._asleep_until = 0.0
        if reboots:
            self.recorded = False

    def switch_off(self):
        self.crash(reboots=True)
        self.is_off = True

    def sleep(self, seconds):
        self._asleep_until = max(self._asleep_until, self.world.now + seconds)
        self.slept += seconds

    def when_awake(self, action):
        if not self.is_alive:
            return
        if self.world.now < self._asleep_until or self._inbox:
            self._inbox.append(action)
        else:
            action()

    def _loop(self, life):
        if self.life != life:
            return
        if self.world.now >= self._asleep_until:
            inbox, self._inbox = self._inbox, []
            for action in inbox:
                action()
            self._turn()
        self.world.after(TICK, lambda: self._loop(life))

    def _turn(self):
        if self.session is not None and self.world.now - self.heard_at > SILENCE:
            self.end_session("silence")
        self.act(self.membership.tick(self.clock))
        if self.world.now - self._last_beat >= BEAT:
            self._last_beat = self.world.now
            self.beat()

    def end_session(self, why, live=False):
        if self.session is not None:
            self.send(Goodbye(self.session, live))
            self.session = None
            self.lost(why)

    def take(self, message):
        if not self.is_alive:
            return
        if isinstance(message, Hello | Welcome):
            self.greeted(message)
        elif message.session == self.session:
            self.heard_at = self.world.now
            self.hear(message)

    def act(self, actions):
        self.remember()
        for action in actions:
            self.world.seen[type(action).__name__] += 1
            if isinstance(action, AskArbiter | GiveBack):
                self.commands.append(action)
                if len(self.commands) == 1:
                    self.world.arbiter.work(self)
            else:
                self.perform(action)

    def say(self, verb, *arguments, **options):
        """An operator's word."""
        self.world.seen[verb] += 1
        try:
            self.act(getattr(self.membership, verb)(*arguments, **options))
        except OperatorError:
            self.world.seen["refused to operators"] += 1


class Primary(Side):
    has_guest = True
    has_passed = False
    """Since the replicas were last compared."""

    def begin(self):
        self.membership = PrimaryMembership(self.policy, self.clock, yielded=self.recorded)
        self._heard_protected = 0.0
        self.epoch = self.life * 1_000_000
        self._held_since = self.world.now
        self.slept = 0.0
        self._was = None

    @property
    def other(self):
        return self.world.secondary

    def send(self, message):
        self.world.to_secondary.send(message)

    def remember(self):
        state = self.membership.state
        self.recorded = self.membership.yielded
        if not self._holds():
            self._held_since = None
        elif self._held_since is None:
            self._held_since = self.world.now
            self.slept = 0.0
        if state is self._was:
            return
        self._was = state
        self.world.seen[state] += 1
        if state is PrimaryState.PROTECTED:
            self.has_passed = False
        if self.membership.traffic is Traffic.PASS:
            self.has_passed = True
        self.beat()

    def beat(self):
        if self.session is not None:
            membership = self.membership
            says = (membership.is_synchronised, membership.alone, self.has_guest)
            self.send(FromPrimary(self.session, self._heard_protected, *says))

    def greeted(self, hello):
        self.end_session("another session")
        self.session = hello.session
        self._heard_protected = 0.0
        self.heard_at = self.world.now
        self.send(Welcome(self.session))
        self.act(self.membership.secondary_joined(self.clock))
        self.beat()

    def hear(self, message):
        match message:
            case FromSecondary(_, sent, alone_heard):
                if self.membership.state is PrimaryState.PROTECTED or not self.has_guest:
                    self._heard_protected = sent
                self.act(self.membership.secondary_knows(alone_heard, self.clock))
            case Echo(_, epoch) if epoch == self.epoch:
                self.act(self.membership.checkpoint_done(self.clock))
                self.act(self.membership.comparing(self.clock))
            case Live() | Goodbye(_, True):
                self.act(self.membership.peer_is_live("it said so", self.clock))
                if isinstance(message, Goodbye):
                    self.session = None
                    self.lost("it has gone live")
            case Goodbye():
                self.session = None
                self.lost("it said goodbye")

    def lost(self, why):
        self.act(self.membership.secondary_lost(why, self.clock))

    def colo_ended(self):
        self.act(self.membership.secondary_lost("COLO has ended", self.clock, link_is_up=self.session is not None))

    def guest_dies(self):
        self.has_guest = False
        self.when_awake(self._look_at_guest)

    def guest_starts(self):
        self.has_guest = True
        self.when_awake(self._look_at_guest)

    def _look_at_guest(self):
        membership = self.membership
        self.act(membership.guest_found(self.clock) if self.has_guest else membership.guest_lost("killed", self.clock))
        self.beat()

    def perform(self, action):
        if isinstance(action, RequestCheckpoint):
            self.world.after(0.05, self.checkpoint)
        elif isinstance(action, Announce):
            self.beat()

    def checkpoint(self):
        """As far as the secondary; it fails now and then."""
        is_possible = self.is_alive and self.session is not None and self.has_guest and self.world.in_colo
        if is_possible and not self.world.chance(0.1):
            self.epoch += 1
            self.send(Barrier(self.session, self.epoch))

    def check(self):
        """Nothing is held for longer than the time-outs."""
        if not self.is_alive or self._held_since is None:
            return
        # A question may wait for one that was asked before, and for what was given back in between.
        bound = SECONDARY_TIMEOUT + (3 * ARBITER_TIMEOUT if self.membership.state is PrimaryState.ASKING else 0)
        assert self.world.now - self._held_since <= bound + self.slept + 3 * TICK, "held for too long"

    def _holds(self):
        return self.membership.traffic is Traffic.COMPARE and self.membership.state is not PrimaryState.PROTECTED


class Secondary(Side):
    has_guest = True
    hears_guest = True
    """By what its hypervisor has said, as far as that was read."""
    has_state = False
    """Of the primary's guest, since it was started."""

    def begin(self):
        self.membership = SecondaryMembership(self.policy, self.clock, live=self.recorded, guest_is_there=False)
        self.hears_guest = self.has_guest
        if self.has_guest:
            self.membership.guest_found(self.clock)
        self._dialled = None
        self._committed = self._accepts_loss = self._is_without_guest = False
        self._was = None

    @property
    def other(self):
        return self.world.primary

    def send(self, message):
        self.world.to_primary.send(message)

    def remember(self):
        self.recorded = self.membership.state is SecondaryState.LIVE
        if self.membership.state not in (SecondaryState.ASKING, SecondaryState.LIVE):
            self._accepts_loss = False
        if self.membership.state is not self._was:
            self._was = self.membership.state
            self.world.seen[self._was] += 1

    def beat(self):
        if self.session is None:
            self._dialled = next(self.world._order)
            self.send(Hello(self._dialled))
        elif self.membership.state is SecondaryState.LIVE:
            self.send(Live(self.session))
        else:
            self.send(FromSecondary(self.session, self.clock, self.membership.alone_heard))

    def greeted(self, welcome):
        if welcome.session == self._dialled and self.session is None:
            self.session = welcome.session
            self.heard_at = self.world.now
            self._committed = False
            self._joined()
            self.beat()

    def _joined(self):
        self._is_without_guest = False
        patience = SECONDARY_TIMEOUT if self.other.policy.solo else NEVER
        self.act(self.membership.primary_joined(patience, self.clock))

    def hear(self, message):
        match message:
            case FromPrimary():
                self.told(message)
            case Barrier(session, epoch) if self.has_guest and not self.world.chance(0.1):
                self._committed = self.has_state = True
                if self.membership.state is not SecondaryState.LIVE:
                    self.send(Echo(session, epoch))
            case Goodbye():
                self.session = None
                self.lost("it said goodbye")

    def told(self, message):
        """What the primary says of itself."""
        if message.has_guest and self._is_without_guest:
            self._joined()
        if message.alone != self.membership.alone_heard:
            self.membership.primary_is_solo(message.alone)
            self.beat()
        if not message.has_guest:
            self.lost("its guest is gone")
            self.membership.primary_heard(message.heard, guest_is_gone=True)
            self._is_without_guest = True
            return
        if self._committed or not message.is_synchronised:
            self.act(self.membership.synchronised(message.is_synchronised, self.clock))
        self.membership.primary_heard(message.heard)

    def lost(self, why):
        self.act(self.membership.primary_lost(why, self.clock))

    def colo_ended(self):
        """What the primary says of itself counts until there is another checkpoint."""
        self._committed = False

    def perform(self, action):
        if isinstance(action, GoLive):
            self.world.seen["live"] += 1
            assert self.hears_guest, "there is no guest"
            assert self._accepts_loss or self.has_state, "the guest knows nothing, and nobody was asked"
            assert self._accepts_loss or not self.other.has_passed, "output is lost, and nobody was asked"
            self.end_session("it has gone live", live=True)

    def guest_dies(self):
        """With COLO, on both sides."""
        self.has_guest = self.world.in_colo = False
        self.when_awake(lambda: self._look_at_guest(False))
        self.other.when_awake(self.other.colo_ended)

    def guest_starts(self):
        self.has_guest = True
        self.when_awake(lambda: self._look_at_guest(True))

    def _look_at_guest(self, is_there):
        membership, self.hears_guest = self.membership, is_there
        if not is_there:
            self._committed = self.has_state = False
        self.act(membership.guest_found(self.clock) if is_there else membership.guest_lost("killed", self.clock))

    def failover(self, fenced, accept_loss):
        """An operator's word."""
        self._accepts_loss |= accept_loss
        self.say("failover", fenced=fenced, accept_loss=accept_loss, now=self.clock)
        self.remember()
