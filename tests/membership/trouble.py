"""Random trouble for two sides, and how all must end."""

from collections import Counter

from colo_bridge.membership.actions import Traffic
from colo_bridge.membership.primary_state import PrimaryState
from colo_bridge.membership.secondary import SecondaryState
from tests.membership.world import Kind, World


class Trouble:
    """Random events, some every second."""

    def __init__(self, world: World):
        self.world = world
        self.random = world.random
        self._what = [
            (6, self.cut),
            (9, self.heal),
            (3, self.colo),
            (6, self.checkpoint),
            (2, self.crash),
            (4, self.start),
            (2, self.sleep),
            (3, self.primary_operator),
            (3, self.secondary_operator),
            (1, self.world.primary.guest_dies),
            (2, self.world.primary.guest_starts),
            (1, self.world.secondary.guest_dies),
            (3, self.world.secondary.guest_starts),
            (0.15, self.switch_off),
            (0.3, self.change_of_mind),
        ]
        world.after(self.random.expovariate(1.0), self.happen)

    def happen(self):
        if not self.world.faults:
            return
        weights = [weight for weight, _ in self._what]
        self.random.choices(self._what, weights)[0][1]()
        self.world.after(self.random.expovariate(1.0), self.happen)

    def directions(self):
        both = [self.world.to_primary, self.world.to_secondary]
        return both if self.random.random() < 0.6 else [self.random.choice(both)]

    def cut(self):
        for direction in self.directions():
            direction.cut()

    def heal(self):
        for direction in self.directions():
            direction.heal()

    def colo(self):
        self.world.in_colo = not self.world.in_colo or self.random.random() < 0.5
        if not self.world.in_colo:
            for side in self.world.sides:
                side.when_awake(side.colo_ended)

    def checkpoint(self):
        self.world.primary.when_awake(self.world.primary.checkpoint)

    def crash(self):
        self.random.choice(self.world.sides).crash()

    def start(self):
        for side in self.world.sides:
            side.start()

    def sleep(self):
        side = self.random.choice(self.world.sides)
        if side.is_alive:
            side.sleep(self.random.uniform(0, 15))

    def primary_operator(self):
        side = self.world.primary
        verb = self.random.choice(["solo", "resume", "protect", "drain"])
        side.when_awake(lambda: side.say(verb, side.clock))

    def secondary_operator(self):
        self.failover(self.world.primary.is_off)

    def failover(self, fenced):
        side, accept_loss = self.world.secondary, self.random.random() < 0.5
        side.when_awake(lambda: side.failover(fenced, accept_loss))

    def change_of_mind(self):
        """The primary is to go on alone, and a little later its host is off and the secondary is to."""
        self.cut()
        self.world.after(self.random.uniform(0, 3), self.primary_operator)
        self.world.after(self.random.uniform(2, 6), self.switch_primary_off)

    def switch_primary_off(self):
        self.world.primary.switch_off()
        self.start()
        self.failover(fenced=True)

    def switch_off(self):
        """A host, and the other one goes on by an operator's word."""
        side = self.random.choice(self.world.sides)
        side.switch_off()
        self.start()
        if side is self.world.primary:
            self.failover(fenced=True)
        else:
            primary = self.world.primary
            primary.when_awake(lambda: primary.say("solo", primary.clock, fenced=True))


def quiet(world: World, is_cut: bool) -> None:
    """No more trouble; the link is whole, or cut for good."""
    world.faults = False
    world.in_colo = True
    for direction in (world.to_primary, world.to_secondary):
        direction.cut() if is_cut else direction.heal()
    for side in world.sides:
        side.start()
    for side in world.sides:
        side.guest_starts()
    for _ in range(40):
        world.run(1.0)
        world.primary.when_awake(world.primary.checkpoint)


def check_end(world: World, is_cut: bool, automatic: bool) -> None:
    primary, secondary = world.primary, world.secondary
    states = (primary.membership.state, secondary.membership.state)
    if not primary.is_alive or not secondary.is_alive:
        return
    if states[1] is SecondaryState.LIVE and world.arbiter.kind is Kind.TOKEN:
        assert primary.membership.traffic is Traffic.BLOCK
        assert is_cut or states[0] is PrimaryState.YIELDED
    elif is_cut:
        assert states[0] in (PrimaryState.SOLO, PrimaryState.DRAINED, PrimaryState.CLOSED, PrimaryState.YIELDED)
        # What a secondary has won whose daemon was killed before it heard of that, waits for an operator.
        is_free = world.arbiter.holder is not secondary
        if world.arbiter.kind is Kind.TOKEN and automatic and is_free and not primary.membership.yielded:
            assert primary.membership.traffic is Traffic.PASS
    elif world.arbiter.kind is not Kind.FENCE:
        chosen = (PrimaryState.SOLO, PrimaryState.DRAINED, PrimaryState.YIELDED)
        assert states == (PrimaryState.PROTECTED, SecondaryState.STANDBY) or states[0] in chosen


def trouble(kind: Kind, automatic: bool, seeds: range, seconds: float) -> tuple[int, Counter]:
    events, seen = 0, Counter()
    for seed in seeds:
        world = World(seed, kind, solo=seed % 4 != 0, automatic=automatic)
        Trouble(world)
        world.run(seconds)
        quiet(world, is_cut=seed % 2 == 0)
        if seed % 4:
            check_end(world, seed % 2 == 0, automatic)
        events += world.events
        seen += world.seen
    return events, seen
