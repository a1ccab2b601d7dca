"""What a hypervisor's events mean: every pair of the table."""

import pytest

from colo_bridge.checkpoint.replica import News, Phase, Replica

STEPS = {
    Phase.OFFLINE: [],
    Phase.RUNNING: [("connected", "running", "none")],
    Phase.ACTIVE: [("connected", "running", "colo")],
    Phase.STOPPED: [("connected", "running", "colo"), ("stopped",)],
    Phase.DOUBTFUL: [("connected", "colo", "colo")],
    Phase.PAUSED: [("connected", "running", "colo"), ("stopped",), ("status", "colo", 10.0)],
    Phase.HALTED: [("connected", "running", "colo"), ("stopped",), ("status", "paused", 10.0)],
    Phase.EXITED: [("connected", "running", "colo"), ("exited",)],
}
STANDING = {Phase.STOPPED, Phase.DOUBTFUL, Phase.PAUSED, Phase.HALTED}


def replica_in(phase: Phase) -> Replica:
    replica = Replica()
    for name, *arguments in STEPS[phase]:
        getattr(replica, name)(*arguments)
    assert replica.phase is phase
    return replica


@pytest.mark.parametrize(
    ("status", "migration", "phase", "news"),
    [
        ("running", "none", Phase.RUNNING, None),
        ("inmigrate", "", Phase.RUNNING, None),
        ("running", "colo", Phase.ACTIVE, News.JOINED),
        ("paused", "colo", Phase.HALTED, News.JOINED),
        ("finish-migrate", "colo", Phase.HALTED, News.JOINED),
        ("colo", "colo", Phase.DOUBTFUL, News.STOPPED),
    ],
)
def test_whoever_connects_looks_first(status, migration, phase, news):
    replica = Replica()
    assert replica.connected(status, migration) is news
    assert replica.phase is phase


@pytest.mark.parametrize("phase", list(Phase))
def test_a_stop_is_told_once(phase):
    replica = replica_in(phase)
    assert replica.stopped() is (None if phase in STANDING else News.STOPPED)
    assert replica.phase is (phase if phase in STANDING else Phase.STOPPED)


@pytest.mark.parametrize(
    ("status", "phase", "news"),
    [
        ("colo", Phase.PAUSED, News.PAUSED),
        ("paused", Phase.HALTED, News.GOES_ON),
        ("finish-migrate", Phase.HALTED, News.GOES_ON),
        ("running", Phase.DOUBTFUL, None),
    ],
)
def test_only_the_status_tells_why_it_stands_still(status, phase, news):
    replica = replica_in(Phase.STOPPED)
    assert replica.status(status, 10.0) is news
    assert replica.phase is phase


def test_a_status_that_came_late_matters_only_in_colo():
    replica = replica_in(Phase.RUNNING)
    replica.stopped()
    assert replica.status("running", 10.0) is News.GOES_ON
    assert replica.resumed(9.0) is News.GOES_ON


@pytest.mark.parametrize(
    ("phase", "at", "after", "news"),
    [
        (Phase.PAUSED, 10.1, Phase.ACTIVE, News.RESUMED),
        (Phase.PAUSED, 10.0, Phase.ACTIVE, News.SPOILED),
        (Phase.DOUBTFUL, 99.0, Phase.ACTIVE, News.SPOILED),
        (Phase.HALTED, 99.0, Phase.ACTIVE, News.GOES_ON),
        (Phase.STOPPED, 99.0, Phase.RUNNING, News.GOES_ON),
        (Phase.ACTIVE, 99.0, Phase.ACTIVE, None),
        (Phase.RUNNING, 99.0, Phase.RUNNING, None),
        (Phase.EXITED, 99.0, Phase.EXITED, None),
        (Phase.OFFLINE, 99.0, Phase.OFFLINE, None),
    ],
)
def test_going_on_is_a_checkpoint_only_after_a_pause_for_one(phase, at, after, news):
    replica = replica_in(phase)
    assert replica.resumed(at) is news
    assert replica.phase is after


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ACTIVE])
def test_it_joins_when_its_migration_ends_in_colo(phase):
    replica = replica_in(phase)
    joins = phase in (Phase.RUNNING, Phase.EXITED)
    assert replica.migration("completed") is None
    assert replica.migration("colo") is (News.JOINED if joins else None)
    assert replica.can_be_asked == joins


def test_a_replica_that_says_no_more_that_it_is_in_colo_is_not():
    replica = replica_in(Phase.ACTIVE)
    assert replica.migration("colo") is None
    assert replica.migration("completed") is News.LOST
    assert replica.phase is Phase.EXITED


def test_what_was_said_of_a_migration_before_the_end_of_colo_is_no_beginning():
    replica = replica_in(Phase.EXITED)
    # An operator's stop and cont; nobody has told it that it is alone.
    assert replica.stopped() is News.STOPPED
    assert replica.status("paused", 10.0) is News.GOES_ON
    assert replica.resumed(11.0) is News.GOES_ON
    assert replica.migration("colo") is None
    assert replica.phase is Phase.RUNNING


def test_a_guest_that_is_told_that_it_is_alone_stops_for_a_moment_and_has_made_no_checkpoint():
    replica = replica_in(Phase.EXITED)
    assert replica.stopped() is News.STOPPED
    assert replica.status("running", 10.0) is News.GOES_ON
    assert replica.resumed(11.0) is News.GOES_ON
    assert replica.migration("completed") is None
    assert replica.migration("colo") is News.JOINED


@pytest.mark.parametrize(("migration", "after"), [("colo", Phase.ACTIVE), ("completed", Phase.EXITED)])
def test_a_checkpoint_of_a_replica_that_nobody_knew_to_be_in_colo_does_not_count(migration, after):
    replica = replica_in(Phase.EXITED)
    assert replica.stopped() is News.STOPPED
    assert replica.status("colo", 10.0) is News.PAUSED
    assert replica.resumed(11.0) is News.SPOILED
    assert replica.migration(migration) is (None if after is Phase.ACTIVE else News.LOST)
    assert replica.phase is after


@pytest.mark.parametrize("phase", list(Phase))
def test_the_end_of_colo_and_of_the_connection_are_states(phase):
    replica = replica_in(phase)
    assert replica.lost() is (None if phase is Phase.OFFLINE else News.LOST)
    assert replica.phase is Phase.OFFLINE
    replica = replica_in(phase)
    assert replica.exited() is (None if phase is Phase.EXITED else News.LOST)
    assert replica.phase is Phase.EXITED


def test_what_goes_on_after_the_end_of_colo_is_no_checkpoint():
    replica = replica_in(Phase.PAUSED)
    replica.exited()
    assert replica.resumed(99.0) is None
