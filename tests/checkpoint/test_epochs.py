"""Each row of the two tables: what either side of the link does at a barrier, and at what its hypervisor does."""

from __future__ import annotations

import pytest

from colo_bridge.checkpoint.cause import Cause
from colo_bridge.checkpoint.epochs import (
    CHECKPOINTS,
    LEFT_COLO,
    Alignment,
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
    count_of,
    next_era,
)
from colo_bridge.checkpoint.primary_epoch import PrimaryEpoch
from colo_bridge.checkpoint.replica import News
from colo_bridge.checkpoint.secondary_epoch import SecondaryEpoch

NICS = ("net0", "net1")
STREAMS = ("control", *NICS)
ERA = CHECKPOINTS
NEVER = {"net0": False, "net1": False}
ALWAYS = {"net0": True, "net1": True}


def told(machine: PrimaryEpoch | SecondaryEpoch, *news: News) -> list[object]:
    return [action for each in news for action in machine.told(each)]


def barriers(machine: PrimaryEpoch | SecondaryEpoch, epoch: int) -> list[object]:
    return [action for stream in STREAMS for action in machine.barrier(stream, epoch)]


def aligned_primary() -> PrimaryEpoch:
    machine = PrimaryEpoch(NICS, True)
    told(machine, News.JOINED)
    assert machine.link_up(False) == [SendBarrier(ERA)]
    assert barriers(machine, ERA) == [Fence(ERA)]
    assert machine.fenced(ERA) == [Wanted("link")]
    return machine


def comparing_primary() -> PrimaryEpoch:
    machine = aligned_primary()
    assert told(machine, News.STOPPED, News.PAUSED, News.RESUMED) == [Begun(), Renew(True), SendBarrier(ERA + 1)]
    assert machine.accepts == NEVER
    assert barriers(machine, ERA + 1) == []
    assert (machine.accepts, machine.comparing) == (ALWAYS, True)
    return machine


def aligned_secondary() -> SecondaryEpoch:
    machine = SecondaryEpoch(NICS, True)
    told(machine, News.JOINED)
    assert machine.link_up() == []
    assert barriers(machine, ERA) == [Fence(ERA)]
    assert not machine.sends
    assert machine.fenced(ERA) == [SendBarrier(ERA)]
    assert machine.sends
    return machine


def synchronised_secondary() -> SecondaryEpoch:
    machine = aligned_secondary()
    assert told(machine, News.STOPPED) == [Drain(), ReadGuest(False)]
    assert told(machine, News.PAUSED) == []
    assert told(machine, News.RESUMED) == [Synchronised(), SendBarrier(ERA + 1), ReadGuest(True)]
    assert not machine.synchronised
    assert barriers(machine, ERA + 1) == [Begun()]
    assert (machine.delivers, machine.synchronised) == (ALWAYS, True)
    return machine


def test_numbers_of_an_era_count_its_checkpoints():
    assert next_era(0) == ERA
    assert next_era(ERA + 17) == 2 * ERA
    assert count_of(2 * ERA + 3) == 3


# The primary.


def test_what_the_secondary_sends_is_compared_from_the_first_checkpoint_of_an_era_on():
    comparing_primary()


@pytest.mark.parametrize("joined_first", [False, True])
def test_an_era_begins_once_the_link_is_up_and_the_hypervisor_in_colo(joined_first: bool):
    machine = PrimaryEpoch(NICS, True)
    if joined_first:
        assert told(machine, News.JOINED) == []
        assert machine.link_up(False) == [SendBarrier(ERA)]
    else:
        assert machine.link_up(False) == []
        assert told(machine, News.GOES_ON) == []
        assert told(machine, News.JOINED) == [SendBarrier(ERA)]
    assert machine.alignment is Alignment.BEGUN


def test_what_is_of_an_epoch_before_is_stale_and_what_is_ahead_waits():
    machine = comparing_primary()
    assert machine.barrier("net0", ERA + 2) == [PauseStream("net0")]
    assert machine.accepts == {"net0": False, "net1": True}
    assert not machine.comparing
    assert told(machine, News.STOPPED, News.PAUSED) == []
    assert told(machine, News.RESUMED) == [Renew(True), SendBarrier(ERA + 2), ResumeStream("net0")]
    assert machine.accepts == {"net0": True, "net1": False}
    # No news: comparison was in force all the time.
    assert machine.barrier("net1", ERA + 2) == []
    assert machine.comparing


@pytest.mark.parametrize("alignment", [Alignment.BEGUN, Alignment.FENCING])
def test_a_primary_that_stands_still_before_it_is_aligned_begins_anew(alignment: Alignment):
    machine = PrimaryEpoch(NICS, True)
    told(machine, News.JOINED)
    machine.link_up(False)
    if alignment is Alignment.FENCING:
        barriers(machine, ERA)
    assert machine.alignment is alignment
    assert told(machine, News.STOPPED, News.PAUSED) == []
    assert machine.fenced(ERA) == []
    assert barriers(machine, ERA) == []
    # What is held leaves all the same: the secondary has its state.
    assert told(machine, News.RESUMED) == [Renew(True), SendBarrier(2 * ERA)]
    assert machine.fenced(ERA) == []
    assert barriers(machine, 2 * ERA) == [Fence(2 * ERA)]
    assert machine.fenced(ERA) == []
    assert machine.fenced(2 * ERA) == [Wanted("link")]


def test_a_secondary_that_is_a_checkpoint_ahead_before_the_fence_is_reached_waits():
    machine = PrimaryEpoch(NICS, True)
    told(machine, News.JOINED)
    machine.link_up(False)
    assert barriers(machine, ERA) == [Fence(ERA)]
    assert machine.barrier("net1", ERA + 1) == [PauseStream("net1")]
    assert machine.fenced(ERA) == [Wanted("link")]
    assert told(machine, News.STOPPED, News.RESUMED) == [
        Begun(),
        Renew(True),
        SendBarrier(ERA + 1),
        ResumeStream("net1"),
    ]
    assert machine.accepts == {"net0": False, "net1": True}


@pytest.mark.parametrize(("news", "reason"), [(News.SPOILED, "spoiled"), (News.GOES_ON, "continued")])
def test_whatever_is_no_proven_checkpoint_begins_a_new_era(news: News, reason: str):
    machine = comparing_primary()
    machine.barrier("net1", ERA + 2)
    told(machine, News.STOPPED)
    assert told(machine, news) == [Suspended(reason), SendBarrier(2 * ERA), ResumeStream("net1")]
    assert (machine.accepts, machine.comparing) == (NEVER, False)
    # Late ones of the era before.
    assert barriers(machine, ERA + 2) == []
    assert machine.accepts == NEVER
    assert barriers(machine, 2 * ERA) == [Fence(2 * ERA)]
    assert machine.fenced(2 * ERA) == [Wanted(reason)]


def test_while_its_hypervisor_is_lost_a_primary_sends_what_belongs_to_no_era():
    machine = comparing_primary()
    assert told(machine, News.LOST) == [Parted(), SendBarrier(2 * ERA)]
    assert machine.alignment is Alignment.APART
    assert barriers(machine, 2 * ERA) == []
    assert told(machine, News.LOST) == []
    assert told(machine, News.JOINED) == [SendBarrier(3 * ERA)]


def test_a_secondary_that_has_lost_count_gets_a_new_era_and_a_checkpoint():
    machine = comparing_primary()
    assert machine.requested("its own words") == [Suspended("its own words"), SendBarrier(2 * ERA)]
    barriers(machine, 2 * ERA)
    assert machine.fenced(2 * ERA) == [Wanted("secondary")]


def test_a_secondary_that_has_left_colo_is_as_good_as_lost():
    machine = comparing_primary()
    assert machine.requested(LEFT_COLO) == [Parted(), SendBarrier(2 * ERA)]
    barriers(machine, 2 * ERA)
    assert machine.fenced(2 * ERA) == [Wanted(Cause.LEFT)]


@pytest.mark.parametrize("words", [cause.value for cause in Cause])
def test_no_other_words_of_the_secondarys_mean_anything(words: str):
    assert comparing_primary().requested(words)[0] == Suspended(words)


def test_a_secondary_that_has_lost_count_in_a_checkpoint_gets_its_era_behind_it():
    machine = comparing_primary()
    told(machine, News.STOPPED, News.PAUSED)
    assert machine.requested("its own words") == [Suspended("its own words"), SendBarrier(2 * ERA)]
    assert machine.alignment is Alignment.APART
    assert told(machine, News.RESUMED) == [Renew(True), SendBarrier(3 * ERA)]


def test_a_checkpoint_without_the_secondarys_barrier_is_suspended_as_well():
    machine = aligned_primary()
    assert told(machine, News.STOPPED, News.RESUMED)[0] == Begun()
    assert machine.requested("spoiled there") == [Suspended("spoiled there"), SendBarrier(2 * ERA)]


def test_a_checkpoint_that_does_not_end_suspends_the_comparison_until_the_next_one_that_does():
    machine = comparing_primary()
    told(machine, News.STOPPED, News.PAUSED)
    assert machine.failed("not resumed") == [Suspended("not resumed"), SendBarrier(2 * ERA)]
    assert told(machine, News.RESUMED) == [Renew(True), SendBarrier(3 * ERA)]
    barriers(machine, 3 * ERA)
    assert machine.fenced(3 * ERA) == [Wanted("failed")]


def test_a_secondary_that_counts_more_than_one_checkpoint_too_many_has_lost_count():
    machine = comparing_primary()
    assert machine.barrier("net0", ERA + 3) == [Suspended("secondary"), SendBarrier(2 * ERA)]


def test_another_link_begins_another_era():
    machine = comparing_primary()
    machine.barrier("net0", ERA + 2)
    assert machine.link_down() == []
    assert machine.accepts == NEVER
    assert told(machine, News.STOPPED, News.RESUMED) == [Renew(True)]
    assert machine.link_up(True) == [SendBarrier(2 * ERA)]
    assert machine.accepts == NEVER


# The secondary.


def test_what_the_primary_got_is_delivered_from_the_first_checkpoint_of_an_era_on():
    synchronised_secondary()


def test_a_secondary_that_stands_still_answers_when_it_has_gone_on():
    machine = SecondaryEpoch(NICS, True)
    machine.link_up()
    assert barriers(machine, ERA) == []
    assert told(machine, News.JOINED) == [ReadGuest(True), Fence(ERA)]
    assert told(machine, News.STOPPED) == [Drain(), ReadGuest(False)]
    assert machine.fenced(ERA) == []
    assert told(machine, News.RESUMED) == [Synchronised(), ReadGuest(True), Fence(ERA)]
    assert machine.fenced(ERA) == [SendBarrier(ERA)]


def test_before_a_barrier_everything_is_thrown_away_and_behind_it_the_stream_waits():
    machine = synchronised_secondary()
    told(machine, News.STOPPED, News.PAUSED)
    assert machine.delivers == NEVER
    assert machine.barrier("net1", ERA + 2) == [PauseStream("net1")]
    assert told(machine, News.RESUMED) == [
        Synchronised(),
        SendBarrier(ERA + 2),
        ReadGuest(True),
        ResumeStream("net1"),
    ]
    assert machine.delivers == {"net0": False, "net1": True}
    assert machine.barrier("net0", ERA + 2) == []
    assert machine.delivers == ALWAYS


def test_a_stream_that_is_behind_is_thrown_away_without_waiting():
    machine = aligned_secondary()
    for _ in range(2):
        told(machine, News.STOPPED, News.PAUSED, News.RESUMED)
    assert machine.barrier("net0", ERA + 1) == []
    assert machine.delivers == NEVER
    assert machine.barrier("net0", ERA + 2) == []
    assert machine.delivers == {"net0": True, "net1": False}


@pytest.mark.parametrize("news", [News.SPOILED, News.GOES_ON, News.LOST])
def test_whatever_is_no_proven_checkpoint_is_told_to_the_primary(news: News):
    machine = synchronised_secondary()
    machine.barrier("net0", ERA + 2)
    told(machine, News.STOPPED)
    *renewed, reading, request, suspended, going_on = told(machine, news)
    # Too late to be compared behind, but the guest has the primary's state.
    assert renewed == ([Synchronised()] if news is News.SPOILED else [])
    assert (reading, going_on) == (ReadGuest(True), ResumeStream("net0"))
    assert isinstance(request, RequestCheckpoint)
    assert suspended == Suspended(request.reason)
    assert (machine.sends, machine.delivers, machine.synchronised) == (False, NEVER, False)
    # A checkpoint that the primary counts before it has heard of it.
    assert barriers(machine, ERA + 2) == []
    assert told(machine, News.STOPPED, News.RESUMED)[-2:] == [Synchronised(), ReadGuest(True)]
    told(machine, News.JOINED)
    assert barriers(machine, 2 * ERA) == [Fence(2 * ERA)]


def test_a_new_era_that_one_stream_tells_of_ends_the_old_one_on_all():
    machine = synchronised_secondary()
    assert machine.barrier("net1", ERA + 2) == [PauseStream("net1")]
    assert machine.barrier("control", 2 * ERA) == [Suspended("the primary has begun anew"), ResumeStream("net1")]
    # Behind it the stream is still in the era before.
    assert machine.barrier("net0", ERA + 2) == []
    assert machine.barrier("net0", 2 * ERA) == []
    assert machine.barrier("net1", 2 * ERA) == [Fence(2 * ERA)]


def test_a_primary_that_counts_more_than_one_checkpoint_too_many_has_lost_count():
    machine = synchronised_secondary()
    requested, suspended = machine.barrier("net0", ERA + 3)
    assert isinstance(requested, RequestCheckpoint)
    assert isinstance(suspended, Suspended)


def test_another_link_begins_another_era_even_with_smaller_numbers():
    machine = synchronised_secondary()
    barriers(machine, 5 * ERA)
    assert machine.link_down() == []
    assert (machine.sends, machine.delivers, machine.synchronised) == (False, NEVER, False)
    # The primary's daemon was started anew.
    assert machine.link_up() == []
    assert barriers(machine, ERA) == [Fence(ERA)]
    assert machine.fenced(5 * ERA) == []
    assert machine.fenced(ERA) == [SendBarrier(ERA)]


# With a provider that copies nothing.


def test_without_a_copy_the_answer_to_a_barrier_begins_the_comparison():
    primary, secondary = PrimaryEpoch(NICS, False), SecondaryEpoch(NICS, False)
    assert secondary.link_up() == []
    assert (secondary.sends, secondary.delivers) == (True, ALWAYS)
    assert primary.link_up(False) == [Forget(), SendBarrier(ERA)]
    assert primary.accepts == NEVER
    assert barriers(secondary, ERA) == [Drain(), SendBarrier(ERA), Begun()]
    assert barriers(primary, ERA) == [Begun()]
    assert primary.accepts == ALWAYS


def test_without_a_copy_what_is_held_leaves_with_the_answer_on_its_nic():
    primary, secondary = PrimaryEpoch(NICS, False), SecondaryEpoch(NICS, False)
    secondary.link_up()
    primary.link_up(False)
    barriers(primary, ERA)
    assert not primary.awaits_answer
    assert primary.done() == [SendBarrier(2 * ERA)]
    assert barriers(secondary, 2 * ERA) == [Drain(), SendBarrier(2 * ERA), Begun()]
    # Up to there it is compared with what was before.
    assert primary.accepts == ALWAYS
    assert primary.barrier("net1", 2 * ERA) == [Renew(False, "net1")]
    assert primary.awaits_answer
    assert primary.barrier("net0", 2 * ERA) == [Renew(False, "net0")]
    assert not primary.awaits_answer
    assert primary.barrier("net0", 2 * ERA) == []


def test_without_a_copy_only_the_answer_to_the_newest_barrier_counts():
    primary = PrimaryEpoch(NICS, False)
    primary.link_up(False)
    primary.done()
    primary.done()
    assert [action for action in barriers(primary, 2 * ERA) if isinstance(action, Renew)] == []
    assert [action for action in barriers(primary, 3 * ERA) if isinstance(action, Renew)] == [
        Renew(False, "net0"),
        Renew(False, "net1"),
    ]


@pytest.mark.parametrize("same_peer", [False, True])
def test_without_a_copy_a_checkpoint_without_a_link_waits_for_the_same_secondary(same_peer: bool):
    primary = PrimaryEpoch(NICS, False)
    primary.link_up(False)
    barriers(primary, ERA)
    assert primary.link_down() == []
    assert primary.accepts == NEVER
    assert primary.done() == []
    assert not primary.awaits_answer
    assert primary.link_up(same_peer) == [*([] if same_peer else [Forget()]), SendBarrier(2 * ERA)]
    assert primary.awaits_answer is same_peer
    renewed = [action for action in barriers(primary, 2 * ERA) if isinstance(action, Renew)]
    assert renewed == ([Renew(False, "net0"), Renew(False, "net1")] if same_peer else [])
    assert primary.accepts == ALWAYS


def test_without_a_copy_a_secondary_that_asks_for_a_checkpoint_asks_in_vain():
    primary = PrimaryEpoch(NICS, False)
    primary.link_up(False)
    assert primary.requested("anything") == []
