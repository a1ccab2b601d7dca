"""What is learned from captures, and how time passes in them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from colo_bridge.compare.settings import Settings
from colo_bridge.daemon.captures import Record
from colo_bridge.daemon.replay import Difference, Event, Player, Verdict
from colo_bridge.daemon.replay_learning import Guest, clock_difference, learn_guest
from tests import packets
from tests.captures import ALIKE, BEGAN, SECOND, Frames, conversation, merged, over_ipv6

HOUR = 3_600 * SECOND
ALL = Guest()
GUEST = Guest(frozenset({ip_address("10.0.0.2").packed}))


def records(frames: Frames) -> list[Record]:
    return [Record(time, number, bytearray(frame), False) for number, (time, frame) in enumerate(frames, 1)]


def datagrams(*times: float, payload: bytes = b"x") -> list[Record]:
    return records(
        [(BEGAN + round(time * SECOND), packets.udp(payload=payload + b"%d" % n)) for n, time in enumerate(times)]
    )


def play(primary: list[Record], secondary: list[Record], *, timeout: float = 3.0, offset: int = 0) -> list[Event]:
    return list(Player(Settings(timeout=timeout), ALL, ALL, False, True).play(primary, secondary, offset))


# Whose packets.


def test_a_capture_of_one_direction_is_all_the_guests() -> None:
    assert learn_guest(records(conversation(ALIKE)[0])) == ALL
    assert learn_guest([]) == ALL


@pytest.mark.parametrize("opens", [False, True])
def test_the_guest_is_whom_the_connection_was_opened_to(opens: bool) -> None:
    """With one client only: where the guest opened it, the client is taken for the guest, and the summary says so."""
    learned = learn_guest(records(merged(*conversation(ALIKE, opens=opens))))
    assert learned == Guest(frozenset({ip_address("10.0.0.9" if opens else "10.0.0.2").packed}))


def test_a_syn_ack_tells_as_much_as_a_syn() -> None:
    frames = merged(*conversation(ALIKE))[1:]
    assert learn_guest(records(frames)) == GUEST


def test_two_clients_tell_the_guest_without_any_opening() -> None:
    sent, received = conversation(ALIKE)
    another = [(time, packets.udp(destination="10.0.0.8")) for time, _ in sent]
    assert learn_guest(records(merged(sent, received, another)[3:])) == GUEST


def test_both_families_are_learned() -> None:
    both = merged(*conversation(ALIKE))
    learned = learn_guest(records(both + over_ipv6(both)))
    assert learned is not None
    assert sorted(map(len, learned.addresses)) == [4, 16]


def test_addresses_without_anything_in_common_tell_nothing() -> None:
    frames = [(BEGAN, packets.udp(f"10.0.0.{one}", f"10.0.0.{other}")) for one, other in ((1, 2), (2, 3), (3, 1))]
    assert learn_guest(records(frames)) is None


def test_what_a_guest_sends_to_everybody_tells_nothing() -> None:
    sent, received = conversation(ALIKE)
    shout = [(BEGAN, packets.udp("10.0.0.7", "255.255.255.255")), (BEGAN, packets.arp())]
    assert learn_guest(records(merged(shout, sent, received))) == GUEST


# Clocks.


def test_the_clocks_differ_by_what_a_common_flow_says() -> None:
    ours = datagrams(0, 5)
    early = [(BEGAN - HOUR, packets.udp(dport=9))]
    theirs = records(early + [(record.time + HOUR, bytes(record.frame)) for record in ours])
    assert clock_difference(ours, theirs, (ALL, ALL)) == HOUR


def test_without_a_common_flow_the_first_packets_count() -> None:
    theirs = records([(BEGAN + HOUR, packets.udp(dport=9))])
    assert clock_difference(datagrams(0), theirs, (ALL, ALL)) == HOUR
    assert clock_difference(datagrams(0), [], (ALL, ALL)) == 0


def test_only_the_guests_packets_tell_the_time() -> None:
    theirs = [(BEGAN - HOUR, packets.udp("10.0.0.9", "10.0.0.2")), (BEGAN + 5 * SECOND, packets.udp(payload=b"x0"))]
    assert clock_difference(datagrams(0), records(theirs), (GUEST, GUEST)) == 5 * SECOND


# Time.


def test_the_secondary_comes_in_its_own_time_less_the_offset() -> None:
    events = play(datagrams(0, 1), datagrams(HOUR / SECOND + 0.5, HOUR / SECOND + 1.5), offset=HOUR)
    assert [(event.time, event.packet.number) for event in events if isinstance(event, Verdict)] == [(0.5, 1), (1.5, 2)]


def test_a_timeout_is_noticed_in_time_even_in_a_long_silence() -> None:
    first = next(event for event in play(datagrams(0, 9_999), []) if isinstance(event, Difference))
    assert 3 < first.time < 3.5


def test_packets_out_of_order_do_not_turn_time_back() -> None:
    events = play(datagrams(5, 0), datagrams(5, 0))
    assert [type(event) for event in events] == [Verdict, Verdict]


def test_what_waits_at_the_end_is_counted_and_times_out() -> None:
    player = Player(Settings(), ALL, ALL, False, True)
    events = list(player.play(datagrams(0, 1, 2), datagrams(0), 0))
    assert player.waiting_at_the_end == 2
    assert sum(isinstance(event, Difference) for event in events) == 1
    assert sum(isinstance(event, Verdict) for event in events) == 3


def test_a_secondary_packet_that_nobody_waits_for_is_a_timeout_too() -> None:
    (event,) = play([], datagrams(0))
    assert isinstance(event, Difference)
    assert "the primary has not sent" in event.divergence.detail
