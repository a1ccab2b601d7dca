"""Both sides together, in a world where everything fails: never two services, nothing is held for ever, one goes on."""

import pytest

from colo_bridge.membership.actions import Traffic
from colo_bridge.membership.primary_state import PrimaryState
from colo_bridge.membership.secondary import SecondaryState
from tests.membership.trouble import trouble
from tests.membership.world import PRIMARY_TIMEOUT, SECONDARY_TIMEOUT, Kind, World

PROTECTED = (PrimaryState.PROTECTED, SecondaryState.STANDBY)


def protected(kind: Kind, seed: int = 0, **options) -> World:
    world = World(seed, kind, faults=False, **options)
    world.run(1.0)
    world.primary.checkpoint()
    world.run(1.0)
    assert states(world) == PROTECTED
    return world


def states(world: World) -> tuple[PrimaryState, SecondaryState]:
    return world.primary.membership.state, world.secondary.membership.state


def cut(world: World) -> None:
    world.to_primary.cut()
    world.to_secondary.cut()


def heal(world: World) -> None:
    world.to_primary.heal()
    world.to_secondary.heal()


def speakers(world: World) -> int:
    passes = world.primary.is_alive and world.primary.membership.traffic is Traffic.PASS
    return passes + (world.secondary.is_alive and world.secondary.membership.state is SecondaryState.LIVE)


@pytest.mark.parametrize("automatic", [False, True], ids=["by hand", "by itself"])
@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_there_are_never_two_services(kind, automatic):
    events, seen = trouble(kind, automatic, range(30), 150.0)
    assert events > 50_000
    assert seen[PrimaryState.SOLO] and seen[PrimaryState.CLOSED] and seen["live"] and seen["refused to operators"]
    if kind is not Kind.NONE:
        assert seen[PrimaryState.YIELDED]
        assert seen["won"] and seen["refused"] and seen["GiveBack"]


@pytest.mark.parametrize("seed", range(40))
def test_of_two_sides_that_ask_at_once_one_wins(seed):
    world = protected(Kind.TOKEN, seed, automatic=True)
    cut(world)
    world.run(world.random.uniform(0, 8))
    world.secondary.failover(fenced=False, accept_loss=True)
    world.primary.say("solo", world.primary.clock)
    world.run(30.0)
    assert speakers(world) == 1


def test_what_was_won_once_can_be_won_by_the_other_side_later():
    world = protected(Kind.TOKEN, automatic=True)
    world.secondary.crash()
    world.run(20.0)
    assert world.primary.membership.state is PrimaryState.SOLO
    world.secondary.start()
    world.run(1.0)
    assert states(world) == (PrimaryState.SOLO, SecondaryState.UNSYNCHRONISED)
    world.primary.checkpoint()
    world.run(1.0)
    assert states(world) == PROTECTED
    world.primary.crash()
    world.run(20.0)
    assert world.secondary.membership.state is SecondaryState.LIVE


@pytest.mark.parametrize("solo", [False, True])
def test_without_an_arbiter_nothing_leaves_that_the_secondary_does_not_know_of(solo):
    world = protected(Kind.NONE, solo=solo)
    cut(world)
    world.run(1.0)
    # The cut is not noticed yet.
    world.primary.say("solo", world.primary.clock)
    world.run(2.0)
    world.primary.say("drain", world.primary.clock)
    assert world.primary.membership.state is PrimaryState.LOST
    assert not world.primary.has_passed
    world.primary.switch_off()
    world.secondary.failover(fenced=True, accept_loss=False)
    assert world.secondary.membership.state is SecondaryState.LIVE


@pytest.mark.parametrize("accept_loss", [False, True])
def test_what_the_arbiter_allowed_the_primary_the_secondary_reckons_with(accept_loss):
    world = protected(Kind.TOKEN)
    cut(world)
    world.run(2.5)
    world.primary.say("solo", world.primary.clock)
    world.run(1.0)
    assert world.primary.has_passed
    world.primary.switch_off()
    world.secondary.failover(fenced=True, accept_loss=accept_loss)
    assert (world.secondary.membership.state is SecondaryState.LIVE) is accept_loss


def test_an_operators_solo_is_at_once_while_the_secondary_hears_of_it():
    world = protected(Kind.NONE)
    world.primary.say("solo", world.primary.clock)
    world.run(0.1)
    assert world.primary.membership.state is PrimaryState.SOLO
    assert world.secondary.membership.risks(world.secondary.clock)


def test_without_an_arbiter_nobody_goes_live_by_itself():
    world = protected(Kind.NONE, automatic=True)
    world.primary.crash()
    world.run(100.0)
    world.secondary.failover(fenced=False, accept_loss=True)
    assert world.secondary.membership.state is SecondaryState.ALONE
    world.primary.switch_off()
    world.secondary.failover(fenced=True, accept_loss=False)
    assert world.secondary.membership.state is SecondaryState.ALONE
    world.secondary.failover(fenced=True, accept_loss=True)
    assert world.secondary.membership.state is SecondaryState.LIVE


def test_a_failover_at_once_needs_no_loss_to_be_accepted():
    world = protected(Kind.NONE)
    world.run(60.0)
    world.primary.switch_off()
    world.run(SECONDARY_TIMEOUT - 0.5)
    world.secondary.failover(fenced=True, accept_loss=False)
    assert world.secondary.membership.state is SecondaryState.LIVE


def test_a_secondary_that_stood_still_knows_that_the_primary_may_have_gone_solo():
    """What it hears when it goes on is old, and comes all at once."""
    world = protected(Kind.NONE)
    world.secondary.sleep(10.0)
    world.run(9.9)
    assert world.primary.membership.state is PrimaryState.SOLO
    world.primary.switch_off()
    world.run(0.5)
    world.secondary.failover(fenced=True, accept_loss=False)
    assert world.secondary.membership.state is not SecondaryState.LIVE


def test_a_primary_that_comes_back_yields():
    world = protected(Kind.TOKEN, automatic=True)
    cut(world)
    world.primary.sleep(20.0)
    world.run(19.0)
    assert world.secondary.membership.state is SecondaryState.LIVE
    world.run(10.0)
    assert world.primary.membership.state is PrimaryState.CLOSED
    heal(world)
    world.run(2.0)
    assert world.primary.membership.state is PrimaryState.YIELDED
    world.primary.crash()
    world.primary.start()
    cut(world)
    world.run(60.0)
    assert world.primary.membership.state is PrimaryState.YIELDED


def test_a_link_that_comes_and_goes_ends_in_solo():
    world = protected(Kind.NONE)
    world.in_colo = False
    for _ in range(8):
        cut(world)
        world.run(3.0)
        heal(world)
        world.run(0.5)
    assert world.primary.membership.state is PrimaryState.SOLO


def test_while_the_replicas_are_not_in_colo_nothing_is_held_for_ever():
    world = World(0, Kind.NONE, faults=False)
    world.run(SECONDARY_TIMEOUT - 0.5)
    assert states(world) == (PrimaryState.UNSYNCHRONISED, SecondaryState.UNSYNCHRONISED)
    world.run(1.0)
    assert world.primary.membership.state is PrimaryState.SOLO
    world.primary.checkpoint()
    world.run(1.0)
    assert states(world) == PROTECTED


def test_a_primary_whose_guest_is_gone_lets_the_secondary_take_over():
    world = protected(Kind.TOKEN, automatic=True)
    world.run(30.0)
    world.primary.guest_dies()
    world.run(PRIMARY_TIMEOUT + 2.0)
    assert states(world) == (PrimaryState.YIELDED, SecondaryState.LIVE)


@pytest.mark.parametrize("kind", [Kind.TOKEN, Kind.FENCE])
def test_a_secondary_whose_guest_is_gone_asks_nobody(kind):
    """A fence would switch off the side that is well."""
    world = protected(kind, automatic=True)
    world.secondary.guest_dies()
    cut(world)
    world.run(60.0)
    assert states(world) == (PrimaryState.SOLO, SecondaryState.ALONE)
    assert (world.secondary.membership.counters.arbiter_asked, world.primary.is_alive) == (0, True)
    world.secondary.guest_starts()
    world.run(60.0)
    assert world.secondary.membership.counters.arbiter_asked == 0


def test_a_primary_whose_guest_is_gone_does_not_stop_an_operator():
    world = protected(Kind.TOKEN)
    world.primary.guest_dies()
    world.run(1.0)
    assert states(world) == (PrimaryState.CLOSED, SecondaryState.ALONE)
    world.secondary.failover(fenced=False, accept_loss=False)
    world.run(1.0)
    assert states(world) == (PrimaryState.YIELDED, SecondaryState.LIVE)


def test_a_primary_whose_guest_is_started_again_begins_anew():
    world = protected(Kind.NONE)
    world.primary.guest_dies()
    world.run(20.0)
    assert world.primary.membership.state is PrimaryState.CLOSED
    world.primary.guest_starts()
    world.run(1.0)
    assert world.primary.membership.state is PrimaryState.UNSYNCHRONISED
    world.primary.checkpoint()
    world.run(1.0)
    assert states(world) == PROTECTED
