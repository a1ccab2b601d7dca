"""Playing a scenario: natively, or with the real rewriter and comparator between the replicas and the client.

A run is a stall if anything diverges, the compare timeout included, or if anything is undelivered at the end:
at the client or at either replica.  `Outcome.seconds` and `timeouts` tell of shorter waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Forward, Reason
from colo_bridge.compare.settings import Settings
from colo_bridge.rewrite import RewriteLimits, Rewriter
from colo_bridge.wire.frame import parse_ip
from tests.simulation.application import STREAMS, Application
from tests.simulation.clock import Clock
from tests.simulation.packets import ACK, FIN, HEADER, SYN, Segment, read
from tests.simulation.scenario import Path, Scenario
from tests.simulation.tcp import Endpoint, position

ETHERNET = HEADER + 14
LONGEST = 120.0
"""Seconds of virtual time after which a run has stalled for certain."""
_TICK, _CURE, _CHECKPOINT = 0.25, 0.01, 0.02
CURES = Settings(cure_after=_CURE, forward=True)
NO_CURES = Settings()


@dataclass(frozen=True, slots=True)
class Outcome:
    seconds: float
    longest_wait: float
    """Seconds for which no end had an octet or an acknowledgement more than before."""
    timeouts: int
    """Retransmission and persist timers that fired, at all ends."""
    timer_seconds: float
    """Seconds that they ran, in all."""
    lost_input: bool
    """The client will never send again what the secondary lacks: a checkpoint released its acknowledgement."""
    problems: tuple[str, ...]
    counters: dict[str, int]

    @property
    def stalled(self) -> bool:
        return bool(self.problems)


class _Line:
    """One path: packets arrive after a delay, in order but for the late ones, or not at all."""

    def __init__(self, clock: Clock, path: Path, random: Random, deliver: Callable[[bytearray], None]) -> None:
        self._clock = clock
        self._path = path
        self._random = random
        self._deliver = deliver

    def send(self, frame: bytearray) -> None:
        path, chance = self._path, self._random.random()
        if chance < path.loss:
            return
        delay = path.delay
        if chance > 1 - path.late:
            delay += self._random.choice((0.0002, 0.005))
        self._clock.after(delay, lambda: self._deliver(frame))


class Native:
    """The client and the primary alone."""

    def __init__(self, scenario: Scenario, settings: Settings = CURES) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.problems: list[str] = []
        self.longest_wait = 0.0
        self._progress = (0, 0.0)
        self._random = Random(scenario.seed)
        self._to_primary = self._line(scenario.to_primary, self._primary_receives)
        self._from_primary = self._line(scenario.from_primary, self._primary_sent)
        self._to_client = self._line(scenario.to_client, self._client_receives)
        ends = scenario.ends
        self.client = Endpoint(
            self.clock, scenario.client, lambda segment: self._client_sends(ends.frame(segment, True))
        )
        self.primary = Endpoint(self.clock, scenario.primary, self._primary_sends)
        self.applications = [
            Application(self.clock, self.client, scenario.client_script, STREAMS["client"]),
            Application(self.clock, self.primary, scenario.primary_script, STREAMS["guest"]),
        ]

    def _line(self, path: Path, deliver: Callable[[bytearray], None]) -> _Line:
        return _Line(self.clock, path, Random(self._random.getrandbits(64)), deliver)

    def _client_sends(self, frame: bytearray) -> None:
        self._to_primary.send(frame)

    def _client_receives(self, frame: bytearray) -> None:
        self.client.receive(read(frame, ETHERNET))

    def _primary_receives(self, frame: bytearray) -> None:
        self.primary.receive(read(frame, ETHERNET))

    def _primary_sends(self, segment: Segment) -> None:
        self._from_primary.send(self.scenario.ends.frame(segment, False))

    def _primary_sent(self, frame: bytearray) -> None:
        self._to_client.send(frame)

    def _begin(self) -> None:
        (self.primary if self.scenario.guest_opens else self.client).connect()

    def done(self) -> bool:
        self._watch_progress()
        return bool(self.problems) or all(application.done for application in self.applications)

    def _watch_progress(self) -> None:
        progress = 0
        for application in self.applications:
            endpoint = application.endpoint
            progress += endpoint.una + len(endpoint.read) + len(endpoint.out)
        before, since = self._progress
        if progress != before:
            self.longest_wait = max(self.longest_wait, self.clock.now - since)
            self._progress = (progress, self.clock.now)

    def play(self) -> Outcome:
        self._begin()
        self.clock.run(LONGEST, self.done)
        self._judge()
        ends = {id(each.endpoint): each.endpoint for each in self.applications}.values()
        return Outcome(
            self.clock.now,
            self.longest_wait,
            sum(each.timeouts for each in ends),
            sum(each.timer_seconds for each in ends),
            self._has_lost_input(),
            tuple(self.problems),
            self._counters(),
        )

    def _has_lost_input(self) -> bool:
        return any(application.endpoint.received < self.client.una for application in self.applications[1:])

    def _counters(self) -> dict[str, int]:
        return {}

    def _judge(self) -> None:
        for name, application in zip(("client", "primary", "secondary"), self.applications, strict=False):
            wanted = STREAMS["guest" if name == "client" else "client"][: application.script.expects]
            if not application.done:
                self.problems.append(f"the {name} is not done: {describe(application)}")
            elif application.endpoint.read != wanted:
                self.problems.append(f"the {name} read something else")


def describe(application: Application) -> str:
    endpoint, script = application.endpoint, application.script
    return (
        f"read {len(endpoint.read)} of {script.expects}, acknowledged {endpoint.una} of {script.sends + 2}"
        f" (sent {endpoint.most}, window to {endpoint.edge})"
    )


class Protected(Native):
    """Both replicas, with everything between them and the client that the daemon has."""

    def __init__(self, scenario: Scenario, settings: Settings = CURES) -> None:
        super().__init__(scenario, settings)
        self.comparator = Comparator(settings)
        self.rewriter = Rewriter(RewriteLimits())
        self._mirror = self._line(scenario.mirror, self._mirrored)
        self._from_secondary = self._line(scenario.from_secondary, self._secondary_sent)
        self._epoch = 0
        self._secondary_ack, self._secondary_end = 0, 1
        self._token = 0
        self._held: dict[int, bytearray] = {}
        self.secondary = Endpoint(self.clock, scenario.secondary, self._secondary_sends)
        stream = bytearray(STREAMS["guest"])
        if scenario.spoiled is not None:
            stream[scenario.spoiled] ^= 1
        self.applications.append(Application(self.clock, self.secondary, scenario.secondary_script, bytes(stream)))

    def _begin(self) -> None:
        super()._begin()
        if self.scenario.guest_opens:
            self.secondary.connect()
        self.clock.after(_TICK, self._tick)
        self.clock.after(_CURE, self._cure)
        for at in self.scenario.checkpoints:
            self.clock.after(at, self._checkpoint)

    # The client's packets: to both replicas.

    def _client_sends(self, frame: bytearray) -> None:
        self._mirror.send(frame[:])
        super()._client_sends(frame)

    def _mirrored(self, frame: bytearray) -> None:
        if self.rewriter.ingress(frame, HEADER, len(frame), False, self.clock.now):
            self.secondary.receive(read(frame, ETHERNET))
        self._deliver_ready()

    def _deliver_ready(self) -> None:
        ready = self.rewriter.ready[:]
        self.rewriter.ready.clear()
        for frame in ready:
            self.secondary.receive(read(frame, ETHERNET))

    # The replicas' packets: to the comparator.

    def _primary_sent(self, frame: bytearray) -> None:
        self._token += 1
        self._held[self._token] = frame
        # As from the queue: the IP packet without its Ethernet header.
        packet = frame[ETHERNET:]
        self.comparator.primary(parse_ip(packet, 0, len(packet)), self._token, self.clock.now)
        packet[:] = bytes(len(packet))
        self._carry_out()

    def _secondary_sends(self, segment: Segment) -> None:
        frame, epoch = self.scenario.ends.frame(segment, False), self._epoch
        frame[0] = epoch & 0xFF
        self._from_secondary.send(frame)

    def _secondary_sent(self, frame: bytearray) -> None:
        if frame[0] != self._epoch:
            return  # sent before the secondary became a copy
        packet = self.rewriter.egress(frame, HEADER, len(frame), False, self.clock.now)
        self._note_secondary(read(frame, ETHERNET))
        self.comparator.secondary(packet, self.clock.now)
        frame[:] = bytes(len(frame))
        self._carry_out()
        self._deliver_ready()

    def _note_secondary(self, segment: Segment) -> None:
        """What the secondary has sent and acknowledged, in the primary's numbers."""
        ack = position(segment.acknowledgment, self.client.stack.isn, self.client.una)
        self._secondary_ack = max(self._secondary_ack, ack if segment.flags & ACK else 0)
        if not segment.flags & SYN:
            start = position(segment.sequence, self.primary.stack.isn, self.primary.una)
            self._secondary_end = max(self._secondary_end, start + len(segment.payload) + bool(segment.flags & FIN))

    def _carry_out(self) -> None:
        comparator = self.comparator
        for token in comparator.released:
            self._to_client.send(self._held.pop(token))
        for token, packet in comparator.revised:
            self._to_client.send(self._held.pop(token)[:ETHERNET] + packet)
        for forward in comparator.forwarded:
            self._check(forward)
            self._to_client.send(bytearray(HEADER) + forward.ethernet + forward.packet)
        for token in (*comparator.replaced, *comparator.dropped):
            del self._held[token]
        for decided in (
            comparator.released,
            comparator.revised,
            comparator.forwarded,
            comparator.replaced,
            comparator.dropped,
        ):
            decided.clear()
        divergences = comparator.divergences[:]
        comparator.divergences.clear()
        for divergence in divergences:
            if divergence.reason is Reason.CONTENT and self.scenario.spoiled is not None:
                self.clock.after(_CHECKPOINT, self._checkpoint)
            else:
                self.problems.append(f"{divergence.reason.value} at {self.clock.now:.3f}: {divergence.detail}")

    def _check(self, forward: Forward) -> None:
        """Output commit holds for packets of our own, too, but for what a checkpoint released unequal."""
        if self.scenario.checkpoints and not self.scenario.synchronises:
            return
        segment = read(forward.packet)
        start = position(segment.sequence, self.primary.stack.isn, self.primary.una)
        ack = position(segment.acknowledgment, self.client.stack.isn, self.client.una)
        assert start + len(segment.payload) + bool(segment.flags & FIN) <= self._secondary_end, (
            "octets of one side alone"
        )
        assert ack <= self._secondary_ack, "acknowledges more than the secondary has"
        assert forward.segment_size or len(segment.payload) <= 1_200

    # Time.

    def _tick(self) -> None:
        self.comparator.tick(self.clock.now)
        self._carry_out()
        self.clock.after(_TICK, self._tick)

    def _cure(self) -> None:
        self.comparator.cure(self.clock.now)
        self._carry_out()
        self.clock.after(_CURE, self._cure)

    def _checkpoint(self) -> None:
        synchronises = self.scenario.synchronises
        self.comparator.checkpoint_done(synchronises)
        if synchronises:
            self._epoch += 1
            self._secondary_ack, self._secondary_end = self.primary.received, self.primary.most
            self.rewriter.synchronised()
            self.secondary.silence()
            self.secondary = self.primary.copy(self._secondary_sends)
            self.applications[2] = self.applications[1].copy_onto(self.secondary)
        self._carry_out()
        self._deliver_ready()

    def _counters(self) -> dict[str, int]:
        return self.comparator.counters() | {
            f"rewriter {name}": getattr(self.rewriter.counters, name) for name in self.rewriter.counters.__slots__
        }


def native(scenario: Scenario) -> Outcome:
    return Native(scenario).play()


def protected(scenario: Scenario, settings: Settings = CURES) -> Outcome:
    return Protected(scenario, settings).play()
