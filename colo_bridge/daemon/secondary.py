"""The daemon of a secondary on its own host: it waits, and its guest takes over once that is decided.

Then it does what a primary's does: `Protector`, by way of a link of its own for a new secondary on another host.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict

from colo_bridge.config import Config
from colo_bridge.daemon import link_of
from colo_bridge.daemon.arbiter import Arbiter
from colo_bridge.daemon.control import Verb, refusing
from colo_bridge.daemon.ending import Farewell, first_end
from colo_bridge.daemon.far_primary import FarPrimary
from colo_bridge.daemon.greeting import Greeting
from colo_bridge.daemon.kept_offsets import KeptOffsets
from colo_bridge.daemon.life import Life, Work, every
from colo_bridge.daemon.live_path import LivePath
from colo_bridge.daemon.own_hypervisor import OwnHypervisor
from colo_bridge.daemon.protector import Protector
from colo_bridge.daemon.record import LIVE, OVERTAKEN, SURVIVOR, Record
from colo_bridge.daemon.secondary_path import SecondaryPath
from colo_bridge.daemon.secondary_readers import SecondaryReaders
from colo_bridge.daemon.settings import comparator_for, rewrite_limits
from colo_bridge.daemon.taking_over import TakingOver
from colo_bridge.errors import KernelError
from colo_bridge.kernel.secondary_nic import SecondaryNic
from colo_bridge.link.protocol.messages import Hello, Presence, Role, Standing, Statistics
from colo_bridge.membership.actions import Action, AskArbiter, Entered, GiveBack, GoLive, Refused, Traffic
from colo_bridge.membership.primary import PrimaryMembership
from colo_bridge.membership.primary_state import PrimaryState
from colo_bridge.membership.secondary import SecondaryMembership, SecondaryPolicy, SecondaryState
from colo_bridge.rewrite.rewriter import Rewriter

log = logging.getLogger(__name__)

_STAYS_IN = Farewell(logging.INFO, "and nothing leaves it: the redirect of its port stays in force")
_SERVICE_IS_DOWN = Farewell(
    logging.CRITICAL, "and it is the service: clients do not reach it until the daemon runs again (its redirect stays)"
)
_TICK = 0.05
_TELL, _TELL_COUNTERS = 0.2, 1.0
"""Seconds between two words that this side is there, and between two messages with counters."""
_KEEP = 5.0
"""Seconds between two looks whether the offsets of a guest that is live have changed."""
_PATIENCE = 5.0
"""Seconds for which going live waits for a hypervisor that answers: it may be loading the state of a checkpoint."""


class Secondary(Life[SecondaryNic]):
    """Where `link.listen` is configured it listens from the making; raises OperatorError if it cannot."""

    def __init__(self, config: Config) -> None:
        section = link_of.section(config)
        self._record = Record(config.run_dir, config.guest)
        word = self._record.read()
        self._kept_offsets = KeptOffsets(config.run_dir, config.guest)
        self._begins_live = word in (LIVE, SURVIVOR, OVERTAKEN)
        self._was_compared = word in (SURVIVOR, OVERTAKEN)
        self._protector = Protector(
            config,
            self._protector_changed,
            lambda: not self._guarded,
            yielded=word == OVERTAKEN,
            live=not self._was_compared,
        )
        super().__init__(config, self._verbs())
        self._synchronises = config.checkpoint.provider == "qmp"
        self._far = FarPrimary(Greeting(Role.SECONDARY, config, section), self._synchronises, self)
        self._far.link = self._link = link_of.dial(config, self._far)
        self._dials = not self._was_compared
        self._hypervisor = OwnHypervisor(config.checkpoint, self._far.told, self._hear_of_guest)
        self._arbiter = Arbiter(config, Role.SECONDARY, self._answered)
        policy = SecondaryPolicy(
            primary_timeout=section.primary_timeout,
            automatic=section.on_primary_lost == "arbiter",
            arbiter=self._arbiter.exists,
        )
        self._membership = SecondaryMembership(
            policy, time.monotonic(), live=self._begins_live, guest_is_there=not self._hypervisor.is_followed
        )
        self._is_without_guest = False
        """The primary, though it is connected."""
        self._protections: Sequence[tuple[str, SecondaryNic]] = ()
        self._paths: Sequence[SecondaryPath] = ()
        self._taking_over = TakingOver(config.guest, (), self._protector, self._live_path)
        self._decided = asyncio.Event()

    def _verbs(self) -> dict[str, Verb]:
        verbs = self._protector.verbs()
        refused = refusing(verbs, "this daemon is the secondary", "ask the primary's")
        return {"failover": self._on_failover, **{name: self._once_live(verbs[name], refused[name]) for name in verbs}}

    def _once_live(self, verb: Verb, before: Verb) -> Verb:
        def answer(request: dict[str, object]) -> object:
            return verb(request) if self._is_live else before(request)

        return answer

    @property
    def _is_live(self) -> bool:
        return self._membership.state is SecondaryState.LIVE

    @property
    def _is_service(self) -> bool:
        """Not where a secondary of its own has taken over from it."""
        return self._is_live and self._protector.membership.traffic is not Traffic.BLOCK

    # Life.

    def _prepare(self, protections: Sequence[tuple[str, SecondaryNic]]) -> None:
        self._protections = protections
        rewriters = (Rewriter(rewrite_limits(self._config)) for _ in protections)
        self._paths = [
            SecondaryPath(name, nic.secondary, self._link, rewriter)
            for (name, nic), rewriter in zip(protections, rewriters, strict=True)
        ]
        self._remember_offsets()
        nics = list(zip((nic for _, nic in protections), self._paths, strict=True))
        self._taking_over = TakingOver(self._config.guest, nics, self._protector, self._live_path)
        self._readers = SecondaryReaders(nics, self._link.full)
        self._far.serve(self._paths, self._readers, self._hypervisor.fence)

    def _mended(self) -> None:
        self._protector.renew() if self._taking_over.paths else self._readers.renew()

    def _begin(self) -> list[Work]:
        self._readers.read(True)
        if self._dials:
            self._link.start()
        if self._begins_live:
            self._go_live(self._membership.reason)
        return [
            every(_TICK, self._tick),
            every(1.0, self._age),
            every(_TELL, self._tell),
            every(_TELL_COUNTERS, lambda: self._link.send(Statistics(self._counters()))),
            every(_KEEP, self._keep),
            self._wait_and_live(),
        ]

    def _prepare_reload(self, config: Config) -> Callable[[], None]:
        take_over_rest = self._protector.prepare_reload(config)
        take_over_credentials = self._link.prepare_reload(link_of.section(config).accept)

        def take_over() -> None:
            self._far.greeting = self._far.greeting.renewed(config)
            take_over_credentials()
            take_over_rest()

        return take_over

    def _stop_reading(self) -> None:
        self._readers.read(False)
        self._protector.stop_reading()

    async def _end(self) -> None:
        self._keep()
        if self._dials:
            await self._link.close()
        await self._arbiter.close()
        await self._protector.end()

    def _tick(self) -> None:
        self._hypervisor.look()
        self._perform(self._membership.tick(time.monotonic()))
        self._far.choose_ways()

    def _hear_of_guest(self, is_there: bool) -> None:
        """A hypervisor that answered and does so no more has taken its guest with it: there is nothing to go live."""
        membership, now = self._membership, time.monotonic()
        gone = "its QEMU does not answer any more"
        self._perform(membership.guest_found(now) if is_there else membership.guest_lost(gone, now))

    def _age(self) -> None:
        now = time.monotonic()
        for path in self._paths if not self._taking_over.paths else ():
            path.age(now)

    def _tell(self) -> None:
        self._link.send(Presence(int(time.monotonic() * 1e3), self._membership.alone_heard))

    def _remember_offsets(self) -> None:
        """Where the guest was live before this daemon began."""
        if not self._begins_live:
            self._kept_offsets.forget()
            return
        offsets = self._kept_offsets.read()
        for path in self._paths:
            path.rewriter.inherit(offsets.get(path.nic, ()), anew=True)

    def _keep(self) -> None:
        if self._taking_over.paths:
            self._kept_offsets.keep({path.nic: path.offsets() for path in self._taking_over.paths})

    # The primary.

    def primary_joined(self, peer: Hello) -> None:
        self._is_without_guest = False
        self._perform(self._membership.primary_joined(peer.secondary_timeout, time.monotonic()))
        # The first word: this side is no service.
        self._tell()

    def primary_lost(self, why: str) -> None:
        self._perform(self._membership.primary_lost(why, time.monotonic()))

    def primary_stands(self, standing: Standing) -> None:
        now = time.monotonic()
        if standing.has_guest and self._is_without_guest and (peer := self._link.peer) is not None:
            self.primary_joined(peer)
        self._hear_whether_it_is_solo(standing.alone)
        if not standing.has_guest:
            self._perform(self._membership.primary_lost("its guest is gone", now))
            self._membership.primary_heard(standing.heard / 1e3, guest_is_gone=True)
            self._is_without_guest = True
            return
        self._membership.primary_heard(standing.heard / 1e3)
        synchronised = standing.synchronised
        # That it is so both must know. That it is not, the primary says: until then it lets nothing out.
        if self._far.epoch.synchronised or not synchronised:
            self._perform(self._membership.synchronised(synchronised, now))
        if self._membership.state is SecondaryState.STANDBY and (peer := self._link.peer) is not None:
            self._protector.partner.exchange(peer.identity)

    def _hear_whether_it_is_solo(self, number: int) -> None:
        if number != self._membership.alone_heard:
            self._membership.primary_is_solo(number)
            # It may wait for that.
            self._tell()

    # Going live.

    async def _on_failover(self, request: Mapping[str, object]) -> dict[str, object]:
        fenced, accept_loss = bool(request.get("fenced")), bool(request.get("accept_loss"))
        self._perform(self._membership.failover(fenced=fenced, accept_loss=accept_loss, now=time.monotonic()))
        while self._membership.state is SecondaryState.ASKING:
            await asyncio.sleep(0.02)
        if self._is_live:
            await self._taking_over.has_tried.wait()
        if self._taking_over.obstacle:
            raise KernelError(
                f"the guest is live, but not on the network yet: {self._taking_over.obstacle}", "mend that"
            )
        return {"state": self._group_state, "reason": self._reason, "done": self._is_service}

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Entered(state, reason):
                    log.warning("guest %s is %s: %s", self._config.guest, state, reason)
                case Refused():
                    log.error("the arbiter refused that this side goes live")
                case AskArbiter() | GiveBack():
                    self._arbiter.carry_out(action)
                case GoLive(reason):
                    self._record.keep(LIVE)
                    self._go_live(reason)

    def _answered(self, won: bool) -> None:
        self._perform(self._membership.arbiter_answered(won, time.monotonic()))

    def _go_live(self, reason: str) -> None:
        self._far.go_live(reason)
        self._decided.set()

    async def _wait_and_live(self) -> None:
        """Follow the hypervisor as the secondary's; once the guest is live serve it, and follow it as a primary's."""
        watching = [] if self._was_compared else self._hypervisor.watch()
        tasks: list[asyncio.Future[None]] = [asyncio.ensure_future(work) for work in watching]
        try:
            await first_end(self._decided, tasks)
            alone = asyncio.ensure_future(self._end_colo(tuple(tasks)))
            tasks.append(alone)
            patience = _PATIENCE if self._hypervisor.answers else 0.0
            in_time = asyncio.ensure_future(asyncio.wait({alone}, timeout=patience))
            await asyncio.gather(self._taking_over.run(in_time, self._hand_over), self._lead(in_time), alone)
        finally:
            for task in tasks:
                task.cancel()

    async def _end_colo(self, following: Sequence[asyncio.Future[None]]) -> None:
        """And follow the hypervisor no longer: it talks to one at a time."""
        if following:
            await self._hypervisor.end_colo()
            for task in following:
                task.cancel()
            await asyncio.wait(following)

    def _hand_over(self) -> None:
        self._readers.leave()
        self._far.hand_over()

    async def _lead(self, out_of_colo: Awaitable[object]) -> None:
        """Do what the side does that is the service, apart from carrying packets."""
        await out_of_colo
        await self._taking_over.has_tried.wait()
        await asyncio.gather(*self._protector.begin())

    def _live_path(self, nic: SecondaryNic, path: SecondaryPath) -> LivePath:
        comparison = self._protector.comparison
        comparator = comparator_for(self._config, True, comparison.checkpoints.copies_state)
        link, reporter = self._protector.link, comparison.divergences
        return LivePath(path.nic, nic.secondary, path.rewriter, link, comparator, reporter)

    # With a secondary of its own.

    def _protector_changed(self, membership: PrimaryMembership) -> None:
        passes = membership.traffic is Traffic.PASS
        if not passes and self._dials:
            # Who was the primary has nothing to hear of this side any more: the new secondary may go live in its place.
            self._dials = False
            self._hanging_up = asyncio.create_task(self._link.close())
        self._record.keep(OVERTAKEN if membership.yielded else LIVE if passes else SURVIVOR)

    @property
    def farewell(self) -> Farewell:
        return _SERVICE_IS_DOWN if self._is_service else _STAYS_IN

    # What is said about it.

    @property
    def state(self) -> str:
        return self._guarded or self._group_state

    @property
    def _group_state(self) -> str:
        """For as long as all is in force."""
        return self._protector.state if self._is_live else self._membership.state.value

    @property
    def _reason(self) -> str:
        """Why it is in that state; of a guest that has just gone live, why it has."""
        protector = self._protector.membership
        has_moved_on = self._is_live and protector.state is not PrimaryState.LIVE
        return protector.reason if has_moved_on else self._membership.reason

    def _summary(self) -> str:
        return self._protector.comparison.summary(self.state) if self._is_live else self.state

    def _counters(self) -> dict[str, int]:
        paths, kernel = self._paths, self._guard.kernel
        ways = [path.way for path in self._taking_over.paths]
        rewriters: Counter[str] = Counter()
        for path in paths:
            rewriters.update({f"rewriter_{name}": value for name, value in asdict(path.rewriter.counters).items()})
        return {
            **rewriters,
            **asdict(self._membership.counters),
            "malformed_secondary": sum(path.malformed_secondary for path in paths),
            "discarded_ingress": sum(path.discarded_ingress for path in paths),
            "discarded_egress": sum(path.discarded_egress for path in paths),
            "kept_overflow": sum(path.kept_overflow for path in paths),
            "live_packets": sum(way.sent_packets for way in ways),
            "live_lost_packets": sum(way.lost_packets for way in ways),
            "live_malformed_packets": sum(way.malformed_packets for way in ways),
            "live_prompts": sum(path.prompts for path in self._taking_over.paths),
            "secondary_tap_dropped": kernel.get("secondary_unread_dropped", 0),
            "unprotected_checks": self._guard.unprotected_checks,
            **{f"link_{name}": value for name, value in self._link.statistics().items()},
        }

    def _live_counters(self) -> dict[str, int]:
        protector, kernel = self._protector.counters(self._guard.kernel), self._guard.kernel
        return {**self._counters(), **protector, "mirror_tap_dropped": kernel.get("uplink_unread_dropped", 0)}

    def status(self) -> dict[str, object]:
        if self._is_live:
            protector = self._protector.status()
            counters = {"counters": self._live_counters(), "kernel": self._guard.kernel}
            return {**self._identity(), "role": "primary", "live": True, **protector, **counters}
        membership, peer, now = self._membership, self._link.peer, time.monotonic()
        return {
            **self._identity(),
            "reason": membership.reason,
            "since": now - membership.since,
            "risks": membership.risks(now, fenced=not self._arbiter.exists),
            "epoch": self._far.epoch.checkpoints,
            "link": {"up": self._link.up, "peer": peer.identity if peer is not None else ""},
            "replica": self._hypervisor.phase,
            "counters": self._counters(),
            "kernel": self._guard.kernel,
        }
