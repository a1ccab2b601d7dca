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


@pytest.mark.parametrize("phase", list(Phase))
def test_it_joins_when_its_migration_ends_in_colo(phase):
    replica = replica_in(phase)
    joins = phase in (Phase.RUNNING, Phase.EXITED)
    assert replica.migration("completed") is None
    assert replica.migration("colo") is (News.JOINED if joins else None)
    assert replica.can_be_asked == (joins or phase is Phase.ACTIVE)


@pytest.mark.parametrize("phase", list(Phase))
def test_the_end_of_colo_and_of_the_connection_are_states(phase):
    replica = replica_in(phase)
    assert replica.lost() is (None if phase is Phase.OFFLINE else News.LOST)
    assert replica.phase is Phase.OFFLINE
    replica = replica_in(phase)
    assert replica.exited() is News.LOST
    assert replica.phase is Phase.EXITED


def test_what_goes_on_after_the_end_of_colo_is_no_checkpoint():
    replica = replica_in(Phase.PAUSED)
    replica.exited()
    assert replica.resumed(99.0) is None
