"""Whatever is lost of two hosts, in every phase of a checkpoint: where that ends; run by scripts/test-hypervisor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from colo_bridge.lab import daemon
from colo_bridge.lab.guests import pair
from colo_bridge.lab.layout import Role
from colo_bridge.lab.shape import Host
from tests.hypervisor.guests import FILE, frozen, get, kill, pid, sha256
from tests.hypervisor.relay import Phase
from tests.hypervisor.rig import (
    SECONDS,
    A,
    B,
    Rig,
    command,
    daemon_pid,
    kill_daemon,
    set_link,
    states,
    two_hosts,
    wait_for_states,
)
from tests.lab.helpers import wait_until

HELD = 5.0
"""Seconds for which the primary holds packets (link.secondary_timeout)."""
NOTICED = 2.0
"""Seconds after which a silent link is down (link.heartbeat_timeout)."""
SPARE = 2.0
"""For a busy machine."""
FROZEN = 10.0
PAUSE = 10.0
"""Seconds after which a checkpoint that the guests stand still for has failed (checkpoint.pause_timeout)."""

every_phase = pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name.lower())


@contextmanager
def stopped_in(directory, phase: Phase) -> Iterator[tuple[Rig, float]]:
    """Two hosts in that phase, and when; in the end nothing may have left the secondary that was not live."""
    with two_hosts(directory) as rig:
        rig.reach(phase)
        yield rig, time.time()
        if daemon.state_of(B) != "live":
            assert rig.sent_by(B) == []
        assert "Traceback" not in A.log_file.read_text() + B.log_file.read_text()


def restart(host: Host) -> None:
    pair.put_first(daemon.start(host))


def serves() -> bool:
    return sha256(get("/file")) == FILE


def protect() -> None:
    """What ends a solo that nobody ordered."""
    command("protect", A)
    wait_for_states("protected", "standby")


@every_phase
def test_without_the_primarys_virtual_machine_the_secondary_waits_for_the_word(tmp_path, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        kill(Role.PRIMARY)
        rig.relay.go_on()
        wait_for_states("closed", "alone")
        # Longer than packets are held: a guest that is gone does not go solo.
        time.sleep(HELD + SPARE)
        assert states() == ("closed", "alone")
        assert rig.sent_by(B) == []
        command("failover", B, "--fenced")
        wait_for_states("yielded", "live")
        assert serves()
        assert rig.sent_by(A, lost + SPARE) == []


@every_phase
def test_without_the_secondarys_virtual_machine_the_primary_goes_solo(tmp_path, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        kill(Role.SECONDARY)
        rig.relay.go_on()
        wait_for_states("solo", "unsynchronised")
        assert serves()
        assert rig.silence(lost) < HELD + SPARE


@every_phase
def test_without_the_primarys_daemon_nothing_leaves_until_it_is_back(tmp_path, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        kill_daemon(A)
        rig.relay.go_on()
        wait_for_states(None, "alone")
        time.sleep(HELD + SPARE)
        assert states() == (None, "alone")
        assert rig.sent_by(A, lost + SPARE, only_ip=True) == []
        restart(A)
        wait_for_states("protected", "standby")
        assert serves()


@every_phase
def test_without_the_secondarys_daemon_the_primary_goes_solo_until_it_is_back(tmp_path, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        kill_daemon(B)
        rig.relay.go_on()
        wait_for_states("solo", None)
        assert serves()
        assert rig.silence(lost) < HELD + SPARE
        restart(B)
        wait_for_states("solo", "unsynchronised")
        protect()
        assert serves()


@every_phase
def test_without_the_link_the_primary_goes_solo_until_it_is_back(tmp_path, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        set_link("down")
        rig.relay.go_on()
        wait_for_states("solo", "alone")
        assert serves()
        assert rig.silence(lost) < NOTICED + HELD + SPARE
        set_link("up")
        wait_for_states("solo", "unsynchronised")
        protect()
        assert serves()


@every_phase
def test_without_the_channel_of_the_checkpoints_the_primary_goes_solo(tmp_path, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        rig.relay.close()
        wait_until(lambda: daemon.state_of(A) == "solo", SECONDS, "the primary is solo")
        assert daemon.state_of(B) == "unsynchronised"
        assert serves()
        assert rig.silence(lost) < HELD + SPARE


@every_phase
@pytest.mark.parametrize("guest", [Role.PRIMARY, Role.SECONDARY])
def test_a_virtual_machine_that_does_nothing_for_a_while_is_compared_again(tmp_path, guest, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        with frozen(pid(guest)):
            rig.relay.go_on()
            time.sleep(FROZEN)
        # A secondary's that was asked something just then counts as lost, and its primary has gone on alone.
        ends = [("protected", "standby"), *([("solo", "unsynchronised")] if guest is Role.SECONDARY else [])]
        wait_until(lambda: states() in ends, SECONDS, f"one of {ends}")
        if daemon.state_of(A) == "solo":
            protect()
        assert serves()
        assert rig.silence(lost) < FROZEN + SPARE


def test_a_checkpoint_without_an_end_is_the_loss_of_the_secondary(tmp_path) -> None:
    with stopped_in(tmp_path, Phase.STANDING) as (rig, lost):
        wait_for_states("solo", "unsynchronised")
        assert serves()
        assert rig.silence(lost) < PAUSE + HELD + SPARE


@every_phase
def test_a_primarys_daemon_that_does_nothing_for_a_while_lets_nothing_leave(tmp_path, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        with frozen(daemon_pid(A)):
            rig.relay.go_on()
            time.sleep(FROZEN)
            assert rig.sent_by(A, lost + SPARE, only_ip=True) == []
        wait_for_states("protected", "standby")
        assert serves()


@every_phase
def test_a_secondarys_daemon_that_does_nothing_for_a_while_is_the_loss_of_the_secondary(tmp_path, phase) -> None:
    with stopped_in(tmp_path, phase) as (rig, lost):
        with frozen(daemon_pid(B)):
            rig.relay.go_on()
            wait_until(lambda: daemon.state_of(A) == "solo", SECONDS, "the primary is solo")
            time.sleep(max(0.0, lost + FROZEN - time.time()))
        wait_for_states("solo", "unsynchronised")
        assert rig.silence(lost) < NOTICED + HELD + SPARE
        protect()
        assert serves()


def test_of_two_that_want_to_go_on_alone_one_does(tmp_path) -> None:
    # Held for long enough that nobody has decided by itself when both are asked.
    with two_hosts(tmp_path, "link.secondary_timeout=12", arbiter=True) as rig:
        set_link("down")
        wait_for_states("lost", "alone")
        lost = time.time()
        with ThreadPoolExecutor() as both:
            answers = [both.submit(command, "solo", A, check=False), both.submit(command, "failover", B, check=False)]
        won = [answer.result() == 0 for answer in answers]
        assert sorted(won) == [False, True]
        loser = B if won[0] else A
        assert daemon.state_of(A if won[0] else B) == ("solo" if won[0] else "live")
        end = "alone" if won[0] else "closed"
        wait_until(lambda: daemon.state_of(loser) == end, SECONDS, f"{loser.role} is {end}")
        assert rig.sent_by(loser, lost + SPARE, only_ip=True) == []
        assert serves()
