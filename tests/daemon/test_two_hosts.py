"""Both daemons of a guest on two hosts, from the greeting to a failover, in one event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from colo_bridge.daemon import link_of
from colo_bridge.daemon.record import YIELDED, Record
from colo_bridge.errors import KernelError, PeerError
from colo_bridge.kernel.fault import Fault
from tests.daemon import hosts as rig
from tests.daemon.hosts import TO_GUEST, Hosts, configurations, joined, named, play, settle, two_hosts
from tests.packets import read_tcp, tcp

pytestmark = pytest.mark.usefixtures("quickly")
quickly = rig.quickly

CHECKPOINT = '[checkpoint]\nretry_interval = 0.05\ncommand = ["true"]'
IN_MIDSTREAM = tcp(sport=81, seq=1, ack=1, payload=b"in mid-stream")


def voices(hosts: Hosts) -> list[str]:
    """What the kernel was told of the primary's guest."""
    return [word for word in hosts.a.ports[0].log if word in ("silence", "speak")]


# Protected.


def test_they_greet_and_packets_leave_when_both_have_sent_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            (first,) = await hosts.held(named("first"))
            hosts.tap.put(named("first"))
            await hosts.released(first)
            assert await hosts.client_sends(named("question")) == named("question")
            assert (hosts.a.status["link"], hosts.b.status["link"]) == (
                {"up": True, "peer": "host-b"},
                {"up": True, "peer": "host-a"},
            )
            await hosts.until(lambda: hosts.a.status["secondary"])

    play(scenario)


def test_each_nic_has_its_own_stream(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, nics=2) as hosts:
            ids = [ports.queue.put(named("same"))[0] for ports in hosts.a.ports]
            hosts.b.ports[1].secondary.put(named("same"))
            await hosts.until(lambda: hosts.a.ports[1].queue.accepted == ids[1:])
            assert hosts.a.ports[0].queue.accepted == []

    play(scenario)


def test_the_secondary_has_numbers_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.connect()
            await hosts.both_send(tcp(seq=1001, ack=101, payload=b"answer"), tcp(seq=5001, ack=101, payload=b"answer"))

    play(scenario)


def test_what_differs_waits_for_a_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, sections=CHECKPOINT) as hosts:
            (ours,) = await hosts.held(named("ours"))
            hosts.tap.put(named("theirs"))
            await hosts.released(ours)
            status = hosts.a.status
            assert (status["divergences"]["datagram"], status["counters"]["released_by_checkpoint_packets"]) == (1, 1)
            assert hosts.a.state == "protected"
            await hosts.both_send(named("equal again"))

    play(scenario)


def test_a_checkpoint_by_a_command_leaves_what_was_sent_before_it_uncompared(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, sections=CHECKPOINT) as hosts:
            hosts.tap.put(named("early"))
            await hosts.until(lambda: hosts.a.counter("secondary_packets") == 1)
            await hosts.a.ask("checkpoint")
            await hosts.until(lambda: hosts.a.counter("secondary_packets_now") == 0)
            await hosts.held(named("early"))

    play(scenario)


def test_a_secondary_that_does_not_answer_after_a_checkpoint_by_a_command_is_not_waited_for_without_end(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, sections=f"{CHECKPOINT}\ntimeout = 2.0") as hosts:
            epoch = hosts.b.far.epoch
            answer = epoch.barrier
            epoch.barrier = lambda *barrier: answer(*barrier) if hosts.a.counter("link_connections") > 1 else []
            held = await hosts.held(named("held"))
            await hosts.a.ask("checkpoint")
            assert hosts.queue.accepted == []
            await hosts.a.enters("lost")
            assert "the secondary did not answer for 2 s" in hosts.a.status["reason"]
            await hosts.released(*held)
            await hosts.protected()

    play(scenario)


def test_a_secondary_of_a_primary_that_only_observes_is_no_standby(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_hosts(tmp_path, sections='[compare]\nmode = "observe"') as hosts:
            await hosts.a.start()
            await hosts.b.start()
            await hosts.a.enters("observing")
            (packet,) = hosts.queue.put(named("observed"))
            await hosts.released(packet)
            await settle()
            assert hosts.b.state == "unsynchronised"

    play(scenario)


# Losing the secondary.


def test_a_link_that_is_cut_for_a_moment_loses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.connect()
            hosts.cable.cut()
            await hosts.a.enters("lost")
            await hosts.b.enters("alone")
            answer = tcp(seq=1001, ack=101, payload=b"answer")
            (packet,) = await hosts.held(answer)
            hosts.cable.mend()
            await hosts.protected()
            assert hosts.queue.accepted == [1]
            hosts.tap.put(tcp(seq=5001, ack=101, payload=b"answer"))
            await hosts.released(packet)
            assert hosts.a.status["unsynchronised_connections"] == 0
            assert hosts.a.counter("secondary_losses") == hosts.b.counter("primary_losses") == 1

    play(scenario)


@pytest.mark.parametrize("sections", [CHECKPOINT, ""], ids=["command", "no provider"])
def test_one_connection_of_the_link_that_is_forgotten_on_the_way_holds_nothing_for_ever(
    tmp_path: Path, sections: str
) -> None:
    """The control stream's goes on; the packets of a NIC vanish."""
    beats = "heartbeat_interval = 0.05\nheartbeat_timeout = 2.0"

    async def scenario() -> None:
        async with joined(tmp_path, sections=sections, beats=beats) as hosts:
            held = await hosts.held(named("held"))
            hosts.cable.forget_connection(1)
            hosts.tap.put(named("held"))
            await hosts.a.enters("lost")
            assert "nothing was heard on the stream of net0 for 2 s" in hosts.a.status["reason"]
            await hosts.protected()
            hosts.tap.put(named("held"))
            await hosts.released(*held)

    play(scenario)


def test_a_connection_of_the_link_may_stand_still_for_as_long_as_a_checkpoint_may_take(tmp_path: Path) -> None:
    *both, cable = configurations(tmp_path, sections="[checkpoint]\ntimeout = 7.0\npause_timeout = 2.0")
    cable.forget()
    assert [link_of._settings(config).timing.patience for config in both] == [9.0, 9.0]


def test_what_finds_no_link_is_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.cable.cut()
            await hosts.a.enters("lost")
            await hosts.b.enters("alone")
            hosts.a.ports[0].mirror.put(named("a question"))
            hosts.tap.put(named("an answer"))
            for host in (hosts.a, hosts.b):
                await hosts.until(lambda host=host: host.counter("link_unlinked_packets") == 1)

    play(scenario)


def test_a_link_that_stays_cut_makes_the_primary_solo(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.lose_patience()
            held = await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.a.enters("solo")
            await hosts.released(*held)
            (alone,) = hosts.queue.put(named("alone"))
            await hosts.released(alone)
            counters = hosts.a.status["counters"]
            assert (counters["passed_packets"], counters["released_uncompared_packets"], counters["solo"]) == (1, 1, 1)

    play(scenario)


def test_or_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, link_a='on_secondary_lost = "closed"') as hosts:
            hosts.lose_patience()
            await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.a.enters("closed")
            (refused,) = hosts.queue.put(named("refused"))
            await hosts.until(lambda: refused in hosts.queue.dropped)
            assert (hosts.queue.accepted, hosts.a.counter("blocked_packets")) == ([], 1)
            assert hosts.a.daemon.stays_closed
            hosts.cable.mend()
            await hosts.protected()
            hosts.tap.put(named("held"))
            await hosts.released(1)

    play(scenario)


def test_a_primary_to_which_no_secondary_comes_holds_and_then_goes_on_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_hosts(tmp_path, link="secondary_timeout = 0.3") as hosts:
            await hosts.a.start()
            assert hosts.a.state == "waiting"
            (packet,) = await hosts.held(named("held"))
            await hosts.a.enters("solo")
            await hosts.released(packet)

    play(scenario)


def test_a_secondary_that_comes_back_to_a_primary_alone_waits_for_protect(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, sections=CHECKPOINT) as hosts:
            hosts.lose_patience()
            await hosts.connect()
            hosts.cable.cut()
            await hosts.a.enters("solo")
            hosts.cable.mend()
            await hosts.b.enters("unsynchronised")
            hosts.tap.put(named("nobody asked"))
            await hosts.until(lambda: hosts.a.counter("stale_packets") == 1)
            assert hosts.a.state == "solo"
            await hosts.a.ask("protect")
            await hosts.protected()
            (old,) = hosts.queue.put(tcp(seq=1001, ack=101, payload=b"of an old connection"))
            await hosts.released(old)
            assert hosts.a.status["unsynchronised_connections"] == 1
            await hosts.both_send(named("new"))

    play(scenario)


@pytest.mark.parametrize("verb", ["protect", "resume"])
@pytest.mark.parametrize("sections", [CHECKPOINT, ""], ids=["command", "no provider"])
def test_a_primary_that_an_operator_set_solo_compares_again(tmp_path: Path, verb: str, sections: str) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, sections=sections) as hosts:
            assert (await hosts.a.ask("solo"))["state"] == "solo"
            (alone,) = hosts.queue.put(named("alone"))
            await hosts.released(alone)
            await hosts.b.enters("unsynchronised")
            answer = await hosts.a.ask(verb)
            assert answer["done"]
            assert verb == "resume" or answer["state"] == "protected"
            await hosts.protected()
            await hosts.both_send(named("again"))

    play(scenario)


def test_protect_says_why_the_replicas_are_not_compared(tmp_path: Path) -> None:
    async def scenario() -> None:
        hurry = '[checkpoint]\nprovider = "qmp"\nqmp = "/nowhere/qmp"\ntimeout = 0.2\npause_timeout = 0.1'
        async with two_hosts(tmp_path, sections=hurry) as hosts:
            await hosts.a.start()
            await hosts.b.start()
            await hosts.a.enters("unsynchronised")
            answer = await hosts.a.ask("protect")
            assert (answer["done"], answer["state"]) == (False, "unsynchronised")
            assert answer["problem"] == "the replicas are not compared after 0.3 s"

    play(scenario)


def test_an_order_is_done_whatever_is_not_in_force(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.cable.cut()
            await hosts.b.enters("alone")
            (ports,) = hosts.b.ports
            ports.mends = False
            ports.faults.append(Fault("rule", "the rule is gone"))
            await hosts.b.enters("unprotected")
            answer = await hosts.fail_over()
            assert (answer["done"], answer["state"], hosts.b.state) == (True, "live", "unprotected")

    play(scenario)


def test_resume_while_the_secondary_is_away_compares_once_it_is_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.a.ask("solo")
            hosts.cable.cut()
            await hosts.b.enters("alone")
            assert (await hosts.a.ask("resume"))["state"] == "waiting"
            hosts.cable.mend()
            await hosts.protected()
            await hosts.both_send(named("again"))

    play(scenario)


def test_without_a_provider_only_a_divergence_complains_that_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            for order in (["drain", "resume"], ["solo", "resume"], ["solo", "protect"]):
                for verb in order:
                    await hosts.a.ask(verb)
                await hosts.protected()
            assert "what diverged stays held" not in caplog.text
            await hosts.held(named("one"))
            hosts.tap.put(named("other"))
            await hosts.until(lambda: "what diverged stays held" in caplog.text)

    play(scenario)


def test_resume_ends_a_solo_that_nobody_ordered_and_holds_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.lose_patience()
            hosts.cable.cut()
            await hosts.a.enters("solo")
            hosts.lose_patience(10.0)
            assert (await hosts.a.ask("resume"))["state"] == "waiting"
            held = await hosts.held(named("held"))
            hosts.cable.mend()
            await hosts.protected()
            hosts.tap.put(named("held"))
            await hosts.released(*held)

    play(scenario)


def test_after_solo_a_link_that_flaps_forgets_nothing(tmp_path: Path) -> None:
    """The secondary is the one with which the comparison began anew."""

    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.a.ask("solo")
            await hosts.a.ask("protect")
            await hosts.protected()
            held = await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.a.enters("lost")
            hosts.cable.mend()
            await hosts.protected()
            assert hosts.queue.accepted == []
            hosts.tap.put(named("held"))
            await hosts.released(*held)

    play(scenario)


def test_drain_lets_all_pass_after_a_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, sections=CHECKPOINT) as hosts:
            (held,) = await hosts.held(named("held"))
            assert (await hosts.a.ask("drain"))["state"] == "drained"
            (after,) = hosts.queue.put(named("after"))
            await hosts.released(held, after)
            assert hosts.a.counter("checkpoints_done") == 1
            assert not hosts.a.daemon.stays_closed

    play(scenario)


def test_drain_says_that_there_was_no_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        failing = '[checkpoint]\nretry_interval = 0.05\ncommand = ["false"]'
        async with joined(tmp_path, sections=failing) as hosts:
            (held,) = await hosts.held(named("held"))
            hosts.lose_patience()
            answer = await hosts.a.ask("drain")
            assert (answer["done"], answer["state"]) == (False, "drained")
            assert "no checkpoint within 0.05 s, so that what was held leaves uncompared" in answer["reason"]
            await hosts.released(held)
            assert hosts.a.counter("released_uncompared_packets") == 1

    play(scenario)


@pytest.mark.parametrize("policy", ["solo", "closed"])
def test_while_the_link_is_down_nobody_goes_on_alone_of_whom_the_secondary_knows_nothing(
    tmp_path: Path, policy: str
) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, link_a=f'on_secondary_lost = "{policy}"') as hosts:
            (held,) = await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.a.enters("lost")
            await hosts.b.enters("alone")
            for verb in ("solo", "drain"):
                with pytest.raises(PeerError, match=r"the secondary is not connected.*then `solo --fenced`"):
                    await hosts.a.ask(verb)
            assert (hosts.a.state, hosts.queue.accepted) == ("lost", [])
            # So it is right.
            assert hosts.b.status["risks"] == []
            assert (await hosts.a.ask("solo", fenced=True))["done"]
            await hosts.released(held)

    play(scenario)


def test_nothing_passes_before_the_secondary_has_said_that_it_knows(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.b.daemon._hear_whether_it_is_solo = lambda _: None
            (held,) = await hosts.held(named("held"))
            solo = asyncio.create_task(hosts.a.ask("solo"))
            await hosts.until(lambda: hosts.a.daemon._protector.membership.alone)
            await settle()
            assert (solo.done(), hosts.queue.accepted) == (False, [])
            hosts.cable.cut()
            answer = await solo
            assert (answer["done"], answer["state"]) == (False, "lost")
            assert answer["problem"].startswith("the secondary is lost: the link is down")
            assert held not in hosts.queue.accepted

    play(scenario)


def test_the_secondary_knows_at_once_that_all_passes(tmp_path: Path) -> None:
    """Though the link is cut as soon as anything could have left."""

    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            assert (await hosts.a.ask("solo"))["done"]
            hosts.cable.cut()
            await hosts.b.enters("alone")
            with pytest.raises(PeerError, match=r"the primary had said that it goes on alone.*accept-loss"):
                await hosts.b.ask("failover", fenced=True)

    play(scenario)


# Restarts.


def test_a_secondary_that_was_restarted_compares_what_begins_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.connect()
            held = await hosts.held(named("held"))
            await hosts.b.stop()
            await hosts.a.enters("lost")
            assert held[0] not in hosts.queue.accepted
            await hosts.b.start()
            await hosts.protected()
            (old,) = hosts.queue.put(tcp(seq=1001, ack=101, payload=b"of an old connection"))
            await hosts.released(old, *held)
            counters = hosts.a.status["counters"]
            assert (counters["unsynchronised_packets"], counters["released_uncompared_packets"]) == (1, 1)
            await hosts.both_send(named("new"))

    play(scenario)


def test_a_primary_that_was_restarted_is_protected_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.a.stop()
            await hosts.b.enters("alone")
            await hosts.a.start()
            await hosts.protected()
            await hosts.both_send(named("new"))

    play(scenario)


# Failover.


def test_a_failover_goes_on_with_the_numbers_that_clients_know(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.connect()
            hosts.cable.cut()
            await hosts.b.enters("alone")
            hosts.tap.put(tcp(seq=5001, ack=101, payload=b"kept"))
            await hosts.until(lambda: not hosts.tap.waiting)
            assert (await hosts.fail_over())["state"] == "live"
            await hosts.until(lambda: hosts.uplink.sent)
            first = read_tcp(hosts.uplink.sent[0])
            assert (first.seq, first.payload) == (1001, b"kept")
            await hosts.until(lambda: len(hosts.uplink.sent) > 1)
            announcement = hosts.uplink.sent[1]
            assert (announcement[:6], announcement[12:14]) == (b"\xff" * 6, b"\x08\x06")
            hosts.uplink.put(tcp(**TO_GUEST, seq=101, ack=1005))
            await hosts.until(lambda: read_tcp(hosts.tap.sent[-1]).ack == 5005)
            hosts.tap.put(tcp(seq=5005, ack=101, payload=b"live"))
            await hosts.until(lambda: b"live" in hosts.uplink.sent[-1])
            assert read_tcp(hosts.uplink.sent[-1]).seq == 1005
            assert hosts.b.counter("live_packets") == len(hosts.uplink.sent)
            assert hosts.b.status["state"] == "live"

    play(scenario)


def test_a_primary_that_comes_back_yields_whatever_it_holds(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, sections=CHECKPOINT) as hosts:
            await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.b.enters("alone")
            await hosts.fail_over()
            hosts.cable.mend()
            await hosts.a.enters("yielded")
            refused = hosts.queue.put(named("refused"))
            await hosts.until(lambda: hosts.queue.dropped == [1, *refused])
            await settle()
            assert hosts.queue.accepted == hosts.a.ports[0].forward.sent == []
            assert hosts.a.counter("blocked_packets") == 2
            assert hosts.a.daemon.stays_closed
            with pytest.raises(PeerError, match="the other side is live, and connected"):
                await hosts.a.ask("resume")

    play(scenario)


def test_a_live_side_that_was_restarted_is_live_and_makes_nothing_leave_the_primary(tmp_path: Path) -> None:
    """Its first word is that it is live: until then it has not joined, and nothing is released because of it."""

    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            held = await hosts.held(named("held"))
            hosts.cable.cut()
            await hosts.b.enters("alone")
            await hosts.fail_over()
            await hosts.b.stop()
            hosts.cable.mend()
            await hosts.b.start()
            await hosts.b.enters("live")
            await hosts.a.enters("yielded")
            assert (hosts.queue.accepted, hosts.queue.dropped) == ([], held)

    play(scenario)


def test_a_primary_that_has_yielded_lets_nothing_out_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.fail_over()
            await hosts.a.enters("yielded")
            await hosts.a.stop()
            hosts.cable.cut()
            ids = hosts.queue.put(named("before it is there"), IN_MIDSTREAM)
            await hosts.a.start()
            assert hosts.a.state == "yielded"
            await hosts.until(lambda: hosts.queue.dropped == ids)
            await hosts.b.stop()
            assert (await hosts.a.ask("resume"))["state"] == "waiting"
            await hosts.until(lambda: voices(hosts)[-1] == "speak")
            assert Record(hosts.a.config.run_dir, "web").read() == YIELDED

    play(scenario)


def test_a_guest_that_may_not_speak_does_not_even_answer_arp(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, link='on_secondary_lost = "closed"') as hosts:
            hosts.cable.cut()
            await hosts.a.enters("closed")
            await hosts.until(lambda: voices(hosts) == ["silence"])
            hosts.cable.mend()
            await hosts.a.enters("protected")
            await hosts.until(lambda: voices(hosts) == ["silence", "speak"])
            await hosts.fail_over()
            await hosts.a.enters("yielded")
            await hosts.until(lambda: voices(hosts) == ["silence", "speak", "silence"])
            # Once more for whoever comes after it.
            await hosts.a.stop()
            assert voices(hosts)[3:] == ["silence"]

    play(scenario)


def test_a_live_guest_has_no_more_to_do_with_the_primary(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            await hosts.fail_over()
            await hosts.a.enters("yielded")
            count = len(hosts.tap.sent)
            hosts.a.ports[0].mirror.put(named("for a guest that is gone"))
            await hosts.until(lambda: hosts.b.counter("discarded_ingress") == 1)
            assert len(hosts.tap.sent) == count

    play(scenario)


def test_a_failover_that_the_arbiter_refuses_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, sections='[arbiter]\ncommand = ["false"]') as hosts:
            hosts.cable.cut()
            await hosts.b.enters("alone")
            answer = await hosts.b.ask("failover")
            assert (answer["done"], answer["state"], hosts.b.counter("arbiter_refused")) == (False, "alone", 1)
            assert answer["reason"].endswith("the arbiter does not allow to go live")
            assert hosts.uplink is None
            for verb in ("solo", "drain"):
                answer = await hosts.a.ask(verb)
                assert answer["problem"] == "the arbiter does not allow it"
                assert (answer["done"], answer["state"]) == (False, "lost")

    play(scenario)


def test_of_two_sides_that_are_told_to_go_on_alone_one_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        first_comes = f'[arbiter]\ncommand = ["/bin/mkdir", "{tmp_path}/won"]'
        async with joined(tmp_path, sections=first_comes) as hosts:
            hosts.cable.cut()
            await hosts.a.enters("lost")
            await hosts.b.enters("alone")
            answers = await asyncio.gather(hosts.a.ask("solo"), hosts.b.ask("failover"))
            assert sorted(answer["done"] for answer in answers) == [False, True]
            assert [answer["done"] for answer in answers] == [hosts.a.state == "solo", hosts.b.state == "live"]

    play(scenario)


def test_a_secondary_asks_the_arbiter_by_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        by_itself = 'on_primary_lost = "arbiter"\nprimary_timeout = 0.1'
        async with joined(tmp_path, sections='[arbiter]\ncommand = ["true"]', link_b=by_itself) as hosts:
            assert hosts.a.daemon.stays_closed
            await hosts.a.stop()
            await hosts.b.enters("live")

    play(scenario)


def test_a_live_guest_gets_its_way_to_the_network_as_soon_as_there_is_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            (ports,) = hosts.b.ports
            ports.obstacle = KernelError("the bridge br0 is missing")
            hosts.cable.cut()
            await hosts.b.enters("alone")
            hosts.tap.put(named("kept"))
            await hosts.until(lambda: not hosts.tap.waiting)
            with pytest.raises(
                PeerError, match="live, but not on the network yet: nic net0: the bridge br0 is missing"
            ):
                await hosts.b.ask("failover", fenced=True)
            hosts.tap.put(named("kept as well"))
            await hosts.until(lambda: ports.times("go live") > 2 and not hosts.tap.waiting)
            ports.obstacle = None
            await hosts.until(lambda: hosts.uplink is not None and hosts.uplink.sent)
            assert hosts.uplink.sent[:2] == [named("kept"), named("kept as well")]
            assert hosts.b.counter("live_lost_packets") == 0
            assert sum("not on the network" in record.message for record in caplog.records) == 1

    play(scenario)


def test_one_nic_does_not_wait_for_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path, nics=2) as hosts:
            works, waits = hosts.b.ports
            for ports in (works, waits):
                ports.secondary.put(named("its address is known"))
            await hosts.until(lambda: hosts.a.counter("secondary_packets") == 2)
            waits.obstacle = KernelError("the bridge br1 is missing")
            with pytest.raises(PeerError, match="nic net1: the bridge br1 is missing"):
                await hosts.b.ask("failover", fenced=True)
            await hosts.until(lambda: any(is_announcement(frame) for frame in works.uplink.sent))
            works.secondary.put(named("goes out"))
            await hosts.until(lambda: named("goes out") in works.uplink.sent)
            waits.obstacle = None
            await hosts.until(lambda: waits.uplink and any(is_announcement(frame) for frame in waits.uplink.sent))

    play(scenario)


def is_announcement(frame: bytes) -> bool:
    return frame[:6] == b"\xff" * 6 and frame[12:14] == b"\x08\x06"


def test_what_is_kept_while_nothing_is_heard_outlives_a_checkpoint_by_a_command(tmp_path: Path) -> None:
    """It went on the link as well, but nobody can tell whether it arrived."""

    async def scenario() -> None:
        async with joined(tmp_path, sections=CHECKPOINT) as hosts:
            hosts.b.far._suspicion = -1.0
            await settle()
            hosts.tap.put(named("kept"))
            await hosts.until(lambda: hosts.a.counter("secondary_packets") == 1)
            await hosts.a.ask("checkpoint")
            await hosts.until(lambda: hosts.a.counter("secondary_packets_now") == 0)
            await hosts.fail_over()
            await hosts.until(lambda: hosts.uplink.sent)
            assert hosts.uplink.sent[0] == named("kept")

    play(scenario)


def test_a_secondary_that_waited_for_room_on_a_link_that_is_gone_is_read_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.b.daemon._readers._is_full = lambda _: True
            hosts.tap.put(named("the last for which there was room"))
            await hosts.until(lambda: hosts.a.counter("secondary_packets") == 1)
            hosts.tap.put(named("waits"))
            await settle()
            assert hosts.tap.waiting
            hosts.b.daemon._readers._is_full = lambda _: False
            hosts.cable.cut()
            await hosts.a.enters("lost")
            hosts.cable.mend()
            await hosts.protected()
            await hosts.until(lambda: not hosts.tap.waiting)
            await hosts.both_send(named("again"))

    play(scenario)


@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_a_tap_that_is_made_anew_is_read_again(tmp_path: Path, which: str) -> None:
    """The loop has given it up; the guard found it missing and mended it."""

    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            host, tap = (hosts.a, hosts.a.ports[0].mirror) if which == "primary" else (hosts.b, hosts.tap)
            asyncio.get_running_loop().remove_reader(tap.fileno())
            host.ports[0].faults.append(Fault("tap", "it is gone"))
            await host.until(lambda: host.ports[0].times("mend"))
            await hosts.client_sends(named("question"))
            await hosts.both_send(named("answer"))

    play(scenario)


def test_a_frame_that_makes_no_sense_ends_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            hosts.tap.put(named("broken")[:20], b"\x00" * 5)
            await hosts.until(lambda: hosts.b.counter("malformed_secondary") == 2)
            before = hosts.b.counter("rewriter_malformed")
            hosts.a.ports[0].mirror.put(named("broken")[:20])
            await hosts.until(lambda: hosts.b.counter("rewriter_malformed") == before + 1)
            await hosts.both_send(named("whole"))

    play(scenario)


def test_bytes_that_are_no_frame_end_the_session_and_the_next_one_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with joined(tmp_path) as hosts:
            stream = hosts.b.daemon._link._session.streams["net0"]
            stream._socket.send(b"\xff" * 100)
            await hosts.until(lambda: hosts.a.counter("link_connections") == 2)
            await hosts.protected()
            await hosts.both_send(named("again"))

    play(scenario)
    assert "the link to host-b is down" in caplog.text
