"""The daemon of a primary whose secondary is on another host."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from colo_bridge.checkpoint.replica import News
from colo_bridge.config import Config
from colo_bridge.daemon import link_of
from colo_bridge.daemon.arbiter import Arbiter
from colo_bridge.daemon.comparing import Comparing
from colo_bridge.daemon.control import Verb, refusing
from colo_bridge.daemon.far_secondary import FarSecondary
from colo_bridge.daemon.greeting import Greeting
from colo_bridge.daemon.life import Work, every
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.primary_path import PrimaryPath
from colo_bridge.daemon.primary_readers import PrimaryReaders
from colo_bridge.daemon.record import YIELDED, Record
from colo_bridge.daemon.settings import comparator_for
from colo_bridge.errors import ColoBridgeError, OperatorError
from colo_bridge.kernel.primary_nic import PrimaryNic
from colo_bridge.link.protocol.messages import Role, Statistics
from colo_bridge.membership.actions import (
    Action,
    AskArbiter,
    Entered,
    GiveBack,
    Refused,
    RequestCheckpoint,
    Traffic,
)
from colo_bridge.membership.primary import PrimaryMembership, PrimaryPolicy, PrimaryState

log = logging.getLogger(__name__)

_TELL = 1.0
"""Seconds between two messages with statistics."""
_ALARMING = frozenset((PrimaryState.SOLO, PrimaryState.CLOSED, PrimaryState.YIELDED, PrimaryState.LOST))


class Primary(Comparing[PrimaryNic, PrimaryPath]):
    """The link listens from the making; raises OperatorError if it cannot."""

    def __init__(self, config: Config) -> None:
        section = link_of.section(config)
        self._record = Record(config.run_dir, config.guest)
        self._yielded = self._record.read() == YIELDED
        self._arbiter = Arbiter(config, Role.PRIMARY, self._answered)
        policy = PrimaryPolicy(
            secondary_timeout=section.secondary_timeout,
            # Who only observes holds nothing up.
            solo=section.on_secondary_lost == "solo" or config.compare.mode == "observe",
            arbiter=self._arbiter.exists,
        )
        self._membership = PrimaryMembership(policy, time.monotonic(), yielded=self._yielded)
        self._traffic = Traffic.COMPARE
        super().__init__(config, self._verbs(), self._of_hypervisor)
        self._far = FarSecondary(Greeting(Role.PRIMARY, config, section), self._checkpoints.copies_state, self)
        self._far.link = self._link = link_of.listen(config, self._far)

    def _verbs(self) -> dict[str, Verb]:
        return {
            "solo": lambda request: self._said(partial(self._solo, fenced=bool(request.get("fenced")))),
            "resume": lambda _: self._said(self._resume),
            "protect": lambda _: self._said(self._membership.protect),
            "drain": lambda _: self._said(self._membership.drain),
            **refusing(("failover",), "this daemon is the primary", "ask the secondary's"),
        }

    def _solo(self, now: float, fenced: bool) -> list[Action]:
        return self._membership.solo(now, fenced=fenced)

    def _resume(self, now: float) -> list[Action]:
        if self._far.is_live:
            raise OperatorError("the other side is live, and connected", "stop it first")
        return self._membership.resume(now)

    # Life.

    def _data_path(self, name: str, nic: PrimaryNic) -> PrimaryPath:
        forward = nic.forward
        return PrimaryPath(
            name,
            nic.queue,
            nic.mirror,
            self._link,
            comparator_for(self._config, forward is not None, self._checkpoints.copies_state),
            self._divergences,
            Outlet(forward) if forward is not None else None,
        )

    def _prepare(self, protections: Sequence[tuple[str, PrimaryNic]]) -> None:
        self._paths = [self._data_path(name, nic) for name, nic in protections]
        self._rules.serve([path.comparator.passthrough for path in self._paths])
        nics = [nic for _, nic in protections]
        self._readers = PrimaryReaders(list(zip(nics, self._paths, strict=True)))
        self._far.serve(self._paths, self._readers, self._checkpoints.fence)

    def _mended(self) -> None:
        self._readers.renew()

    def _begin(self) -> list[Work]:
        self._divergences.start()
        following = self._checkpoints.serve(self._far)
        self._follow(self._membership.traffic)
        self._readers.start()
        self._link.start()
        return [*self._timers(), *following, every(_TELL, self._tell)]

    def _prepare_reload(self, config: Config) -> Callable[[], None]:
        rest = super()._prepare_reload(config)
        # It takes effect at once, so it is the last that may be refused.
        self._link.reload()

        def take_over() -> None:
            self._far.greeting = self._far.greeting.renewed(config)
            rest()

        return take_over

    def _stop_reading(self) -> None:
        self._readers.rest()

    async def _end(self) -> None:
        await self._link.close()
        await self._arbiter.close()
        await super()._end()

    @property
    def stays_closed(self) -> bool:
        """Whether nothing may leave the guest, even if the daemon is stopped: the other side may be the service.

        With an arbiter that is so unless this side has won: the other one may win as soon as this one is gone.
        """
        traffic = self._membership.traffic
        may_lose = self._arbiter.exists and traffic is not Traffic.PASS and not self._observes
        return self._membership.yielded or traffic is Traffic.BLOCK or may_lose

    def _tick(self) -> None:
        super()._tick()
        self._perform(self._membership.tick(time.monotonic()))

    def _tell(self) -> None:
        compared = self._membership.state is PrimaryState.PROTECTED and not self._observes and not self._guarded
        alone = self._membership.traffic is Traffic.PASS
        # Its own moment goes back to the secondary, which then knows until when it was heard.
        moment = self._far.statistics.get("moment", 0)
        self._link.send(Statistics({"synchronised": int(compared), "solo": int(alone), "moment": moment}))

    # What the secondary does.

    def secondary_joined(self) -> None:
        self._perform(self._membership.secondary_joined(time.monotonic()))

    def secondary_lost(self, why: str) -> None:
        self._perform(self._membership.secondary_lost(why, time.monotonic()))

    def secondary_is_live(self, reason: str) -> None:
        self._perform(self._membership.peer_is_live(reason, time.monotonic()))
        for path in self._paths:
            path.forget()

    def suspended(self, why: str) -> None:
        self._perform(self._membership.suspended(why, time.monotonic()))

    def comparing(self) -> None:
        self._perform(self._membership.comparing(time.monotonic()))

    def checkpoint_wanted(self, reason: str) -> None:
        # Once all passes nobody waits for it: `protect` begins it.
        if self._membership.traffic is not Traffic.PASS:
            self._checkpoints.request(reason, {})

    def checkpoint_made(self) -> None:
        self._perform(self._membership.checkpoint_done(time.monotonic()))

    def checkpoint_failed(self) -> None:
        # Nothing but this lets a guest go on that nobody waits for.
        if self._membership.traffic is Traffic.PASS:
            self._checkpoints.go_on_alone()

    def _of_hypervisor(self, news: News) -> None:
        self._far.told(news)

    # What follows from it.

    async def _said(self, decide: Callable[[float], list[Action]]) -> dict[str, object]:
        """An operator's verb, and what became of it."""
        self._perform(decide(time.monotonic()))
        while self._membership.is_deciding:
            await asyncio.sleep(0.02)
        return {"state": self.state, "reason": self._membership.reason}

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Entered(state, reason):
                    level = logging.ERROR if PrimaryState(state) in _ALARMING else logging.WARNING
                    log.log(level, "guest %s is %s: %s", self._config.guest, state, reason)
                case Refused():
                    log.error("the arbiter refused that this side goes on alone")
                case AskArbiter() | GiveBack():
                    self._arbiter.carry_out(action)
                case RequestCheckpoint(reason):
                    self._far.begin()
                    self._checkpoints.request(reason, {})
        if any(isinstance(action, Entered) for action in actions):
            # Before anything leaves that the secondary does not know of.
            self._tell()
        if (traffic := self._membership.traffic) is not self._traffic:
            self._follow(traffic)
        if self._membership.yielded is not self._yielded:
            self._yielded = self._membership.yielded
            self._remember()

    def _answered(self, won: bool) -> None:
        self._perform(self._membership.arbiter_answered(won, time.monotonic()))

    def _follow(self, traffic: Traffic) -> None:
        """Do with what the guest sends what the membership says."""
        self._traffic = traffic
        for path in self._paths:
            path.traffic = traffic
        if traffic is Traffic.PASS:
            for path in self._paths:
                path.forget()
            self._far.rest()
            self._checkpoints.go_on_alone()
        elif traffic is Traffic.COMPARE:
            self._far.begin()

    def _remember(self) -> None:
        try:
            self._record.write(YIELDED) if self._yielded else self._record.forget()
        except ColoBridgeError as error:
            log.error("%s: a restarted daemon will not know that the other side is live", error)

    # What is said about it.

    @property
    def state(self) -> str:
        state = self._membership.state
        if state is PrimaryState.PROTECTED and self._observes:
            return self._guarded or "observing"
        return self._guarded or state.value

    def _counters(self) -> dict[str, int]:
        paths = self._paths
        return {
            **super()._counters(),
            **asdict(self._membership.counters),
            "passed_packets": sum(path.passed_packets for path in paths),
            "blocked_packets": sum(path.blocked_packets for path in paths),
            "stale_packets": sum(path.stale_packets for path in paths),
            "mirrored_discarded": sum(path.mirrored_discarded for path in paths),
            **{f"link_{name}": value for name, value in self._link.statistics().items()},
        }

    def status(self) -> dict[str, object]:
        membership, peer = self._membership, self._link.peer
        return {
            **super().status(),
            "reason": membership.reason,
            "since": time.monotonic() - membership.since,
            "link": {"up": self._link.up, "peer": peer.identity if peer is not None else ""},
            "secondary": dict(self._far.statistics),
        }
