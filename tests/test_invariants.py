"""The invariants of the comparison, each under its name, played with random sessions.

1. Output commit.                     2. Segmentation does not matter.
3. Sequence numbers wrap.             4. A retransmission of compared bytes is released at once.
5. A gap is not a divergence.         6. Nothing is lost silently.
7. A checkpoint orders everything.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colo_bridge.compare.decisions import Reason
from colo_bridge.compare.settings import Settings
from tests import lives, traces
from tests.compare.sessions import Connection, Packet, Session, Watch, make, play, transmit

seeds = st.integers(0, 2**48)
some = settings(max_examples=200, deadline=None)
TINY = Settings(held_packets=5, held_bytes=400, secondary_packets=6, secondary_bytes=500, connections=2)


def watched(session: Session, seed: int, limits: Settings | None = None) -> Watch:
    watch = Watch(session, limits)
    play(Random(seed), watch, session)
    return watch


# 1. Output commit.


@some
@given(seeds)
def test_output_commit(seed: int) -> None:
    """No octet leaves that both did not produce, no ACK above the floor, no RST of one side (`Watch` sees to it)."""
    session = make(Random(seed), equal=False)
    watch = watched(session, seed)
    for index, connection in enumerate(session.connections):
        found = [(reason, at) for reason, where, at in watch.divergences if where == index]
        if connection.difference is None:
            assert not found
        else:
            assert len(found) == 1
            assert found[0][0] in (Reason.CONTENT, Reason.CONTROL)


@some
@given(seeds)
def test_output_commit_up_to_the_first_difference(seed: int) -> None:
    """All that lies before the difference leaves, and the divergence tells its place."""
    session = make(Random(seed), equal=False)
    watch = watched(session, seed)
    for token in watch.given - set(watch.released):
        connection = session.connections[token[1].connection]
        assert connection.difference is not None
        assert token[1].end > connection.difference or token[1].reset or connection.resets
    for reason, index, at in watch.divergences:
        if reason is Reason.CONTENT:
            assert at == session.connections[index].difference


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_output_commit_of_one_connection_at_a_time(seed: int) -> None:
    for each in range(seed, seed + 30):
        traces.verify(each)


@settings(max_examples=12, deadline=None)
@given(seeds)
def test_output_commit_of_one_connection_after_the_other(seed: int) -> None:
    """Ports used again, keep-alives of one side and checkpoints of both kinds in between."""
    for each in range(seed, seed + 5):
        lives.verify(each)


# 2. Segmentation does not matter.


@some
@given(seeds, st.booleans())
def test_segmentation_does_not_matter(seed: int, equal: bool) -> None:
    """The secondary's cuts, losses and order change neither what leaves in the end nor the divergences."""
    session = make(Random(seed), equal)
    outcomes = []
    for other in range(3):
        random = Random(f"{seed} {other}")
        secondary = [
            transmit(random, connection, index, False, session.secondary[index][-1].ack)
            for index, connection in enumerate(session.connections)
        ]
        watch = watched(replace(session, secondary=secondary), seed + other)
        outcomes.append((_octets_left(watch, equal), sorted(_differences(watch))))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def _octets_left(watch: Watch, equal: bool) -> set[tuple[int, int, int]]:
    """The primary's packets with octets that left; RSTs at different places may come before or after."""
    resetting = {index for index, each in enumerate(watch.session.connections) if each.resets and not equal}
    packets = [packet for _, packet in watch.released if packet.connection not in resetting]
    return {(packet.connection, packet.start, packet.end) for packet in packets}


def _differences(watch: Watch) -> list[tuple[str, int]]:
    return [(reason.name if reason is Reason.CONTENT else "", index) for reason, index, _ in watch.divergences]


@some
@given(seeds)
def test_segmentation_of_the_primary_does_not_matter(seed: int) -> None:
    """Equal streams are released whole, however they are cut; nothing waits any more."""
    session = make(Random(seed))
    watch = watched(session, seed)
    watch.tick(1_000)
    assert watch.everything_left_once
    assert not watch.divergences
    assert watch.comparator.counters()["secondary_packets_now"] == 0


# 3. Sequence numbers wrap.


@some
@given(seeds, st.booleans())
def test_sequence_numbers_wrap(seed: int, equal: bool) -> None:
    """The same session elsewhere in the number space has the same outcome, packet by packet."""
    session = make(Random(seed), equal)
    outcomes = []
    for distance in (0, 1 << 31, (1 << 32) - 50, 12_345):
        moved = [_moved(connection, distance) for connection in session.connections]
        watch = watched(replace(session, connections=moved), seed)
        outcomes.append((watch.released, watch.divergences))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def _moved(connection: Connection, distance: int) -> Connection:
    isn, client_isn, secondary_isn = (
        (number + distance) % (1 << 32) for number in (connection.isn, connection.client_isn, connection.secondary_isn)
    )
    return replace(connection, isn=isn, client_isn=client_isn, secondary_isn=secondary_isn)


# 4. A retransmission of bytes already compared is released at once.


@some
@given(seeds)
def test_a_retransmission_is_released_at_once(seed: int) -> None:
    random = Random(seed)
    session = make(random)
    watch = watched(session, seed)
    for index, connection in enumerate(session.connections):
        floor = watch.accounts[index].floor
        assert floor is not None
        last = connection.ends(True) + (not connection.resets)
        start = random.randrange(1, last) if last > 1 else 0
        again = Packet(index, start, random.randrange(start + 1, last + 1) if last > 1 else 1, floor)
        assert watch.primary(again) in watch.released
        token = watch.primary(replace(again, ack=floor + 1))
        assert token not in watch.released
        watch.secondary(Packet(index, last, last, floor + 1))
        assert token in watch.released


# 5. A gap is not a divergence.


@some
@given(seeds, st.booleans())
def test_a_gap_is_not_a_divergence(seed: int, primary_has_gaps: bool) -> None:
    """Lost packets of either side are waited for, and sent again they complete the stream."""
    random = Random(seed)
    session = make(random)
    lossy = session.primary if primary_has_gaps else session.secondary
    missing: list[list[Packet]] = []
    for index, packets in enumerate(lossy):
        # In midstream the comparison would start above what was lost.
        chance = 0.4 if session.connections[index].opened else 0.0
        lost = {at for at in range(1, len(packets)) if random.random() < chance}
        missing.append([packet for at, packet in enumerate(packets) if at in lost])
        lossy[index] = [packet for at, packet in enumerate(packets) if at not in lost]
    watch = watched(session, seed)
    assert not watch.divergences
    again = [packet for packets in missing for packet in packets]
    random.shuffle(again)
    for packet in again:
        (watch.primary if primary_has_gaps else watch.secondary)(packet)
    assert not watch.divergences
    assert watch.everything_left_once


@some
@given(seeds)
def test_a_gap_that_stays_is_a_timeout(seed: int) -> None:
    session = make(Random(seed), connections=1)
    end = session.connections[0].ends(True)
    session.secondary[0] = [each for each in session.secondary[0] if each.end < end and not each.reset]
    watch = watched(session, seed)
    watch.tick(2)
    assert not watch.divergences
    watch.tick(2)
    assert [reason for reason, _, _ in watch.divergences] == [Reason.TIMEOUT]


# 6. Nothing is lost silently.


@some
@given(seeds, st.booleans())
def test_nothing_is_lost_silently(seed: int, equal: bool) -> None:
    """Every packet is released, dropped or held, once; limits hold; a checkpoint frees what is left."""
    watch = watched(make(Random(seed), equal), seed, TINY)
    counters = watch.comparator.counters()
    assert counters["dropped_packets"] == len(watch.dropped)
    assert len(watch.dropped) <= counters["held_limit_drops"] + counters["connection_limit_drops"]
    assert counters["released_packets"] == len(watch.released)
    watch.checkpoint(synchronised=seed % 2 == 0)
    decided = [*watch.released, *watch.dropped]
    assert len(decided) == len(watch.given)
    assert set(decided) == watch.given
    left = watch.comparator.counters()
    assert left["secondary_packets_now"] == left["secondary_bytes_now"] == left["held_bytes_now"] == 0


@some
@given(seeds)
def test_nothing_is_lost_silently_of_the_secondary(seed: int) -> None:
    """Every packet of the secondary is kept, thrown away or refused by a limit, and counted once."""
    session = make(Random(seed))
    watch = watched(session, seed)
    counters = watch.comparator.counters()
    assert counters["secondary_packets"] == counters["thrown_away_packets"]
    assert counters["primary_packets"] == counters["released_packets"]
    assert counters["primary_bytes"] == counters["released_bytes"]
    assert counters["secondary_bytes"] == counters["thrown_away_bytes"]


# 7. A checkpoint orders everything.


@some
@given(seeds)
def test_a_checkpoint_orders_everything(seed: int) -> None:
    """After a synchronising one the secondary is the primary: nothing stale counts, all leaves in the end."""
    random = Random(seed)
    session = make(random, equal=False)
    watch = Watch(session)
    play(random, watch, session, checkpoints=0.05)
    watch.checkpoint(synchronised=True)
    assert watch.everything_left_once


@some
@given(seeds)
def test_a_checkpoint_orders_everything_for_the_copy(seed: int) -> None:
    """Once the secondary is a copy, it never diverges again and nothing has to wait for another checkpoint."""
    random = Random(seed)
    session = make(random, equal=False)
    for queues in (session.primary, session.secondary):
        queues[:] = [packets[: random.randrange(len(packets))] for packets in queues]
    watch = Watch(session)
    play(random, watch, session)
    watch.checkpoint(synchronised=True)
    before = len(watch.divergences)
    _go_on_alike(random, watch, session)
    assert len(watch.divergences) == before
    assert watch.everything_left_once


def _go_on_alike(random: Random, watch: Watch, session: Session) -> None:
    """Both send the rest of the primary's stream, each in its own pieces."""
    rest: list[tuple[list[Packet], list[Packet]]] = []
    for index, connection in enumerate(session.connections):
        account = watch.accounts[index]
        ack = max(account.primary_ack or 1, 1) + random.randrange(50)
        start = account.primary_end or None
        last = connection.ends(True) + (not connection.resets)
        if start is None or start < last:
            rest.append(
                (
                    transmit(random, connection, index, True, ack, start),
                    transmit(random, connection, index, True, ack, start),
                )
            )
    while waiting := [(pair, side) for pair in rest for side in (0, 1) if pair[side]]:
        pair, side = random.choice(waiting)
        packet = pair[side].pop(0)
        if side == 0:
            watch.primary(packet)
        else:
            watch.secondary(packet, bytes_of=True)


@some
@given(seeds, st.booleans())
def test_a_checkpoint_orders_everything_without_copying(seed: int, equal: bool) -> None:
    """After one that copies nothing, nothing that the secondary sent before is compared, and nothing is lost."""
    random = Random(seed)
    session = make(random, equal)
    watch = Watch(session)
    play(random, watch, session, checkpoints=0.05, synchronised=False)
    watch.checkpoint(synchronised=False)
    assert watch.everything_left_once


@pytest.mark.parametrize("synchronised", [True, False])
@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_checkpoints_and_limits_together(seed: int, synchronised: bool) -> None:
    random = Random(seed)
    session = make(random, equal=False)
    watch = Watch(session, TINY)
    play(random, watch, session, checkpoints=0.1, synchronised=synchronised)
    watch.checkpoint(synchronised)
    assert {*watch.released, *watch.dropped} == watch.given
