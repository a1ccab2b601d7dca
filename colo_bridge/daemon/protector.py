"""The side of a guest on two hosts whose guest the clients are served by: its secondary is elsewhere, or nowhere.

That is a primary, and also a secondary that has gone live.  Where packets are held and mirrored is the paths' matter;
here are the link that listens, the epochs, the membership, the checkpoints and what an operator says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from colo_bridge.checkpoint.replica import News
from colo_bridge.config import Config
from colo_bridge.daemon import link_of
from colo_bridge.daemon.arbiter import Arbiter
from colo_bridge.daemon.comparison import TICK, Comparison
from colo_bridge.daemon.control import Verb
from colo_bridge.daemon.far_secondary import FarSecondary
from colo_bridge.daemon.greeting import Greeting
from colo_bridge.daemon.life import Work, every
from colo_bridge.daemon.linked_path import LinkedPath
from colo_bridge.daemon.partner import Partner
from colo_bridge.daemon.primary_readers import PrimaryReaders
from colo_bridge.errors import OperatorError
from colo_bridge.link.protocol.messages import Presence, Role, Standing
from colo_bridge.membership.actions import (
    Action,
    Announce,
    AskArbiter,
    Entered,
    GiveBack,
    Refused,
    RequestCheckpoint,
    Traffic,
)
from colo_bridge.membership.primary import PrimaryMembership
from colo_bridge.membership.primary_state import PrimaryPolicy, PrimaryState

log = logging.getLogger(__name__)

_TELL = 0.2
"""Seconds between two words of how this side stands."""
_ALARMING = frozenset((PrimaryState.SOLO, PrimaryState.CLOSED, PrimaryState.YIELDED, PrimaryState.LOST))


class Protector:
    """The link listens from the making; raises OperatorError if it cannot."""

    def __init__(
        self,
        config: Config,
        changed: Callable[[PrimaryMembership], None],
        guarded: Callable[[], bool],
        *,
        yielded: bool = False,
        live: bool = False,
    ) -> None:
        """`changed` hears of the membership before what follows from it; `guarded`: whether all is in force.

        `yielded`, `live`: as the membership begins.
        """
        section = link_of.section(config)
        self._guest = config.guest
        self._changed = changed
        self._is_guarded = guarded
        self._arbiter = Arbiter(config, Role.PRIMARY, self._answered)
        self.partner = Partner(config.run_dir, config.guest)
        self.comparison = Comparison[LinkedPath](config, self._of_hypervisor)
        policy = PrimaryPolicy(
            secondary_timeout=section.secondary_timeout,
            # Who only observes holds nothing up.
            solo=section.on_secondary_lost == "solo" or config.compare.mode == "observe",
            arbiter=self._arbiter.exists,
            checkpoints=self.comparison.checkpoints.exist,
            patience=config.checkpoint.timeout + config.checkpoint.pause_timeout,
        )
        self.membership = PrimaryMembership(policy, time.monotonic(), yielded=yielded, live=live)
        self._traffic = self.membership.traffic
        self._hypervisor_answers: bool | None = None
        self._guest_is_gone = False
        self._heard = self._moment = 0
        self._readers = PrimaryReaders(())
        self._far = FarSecondary(
            Greeting(Role.PRIMARY, config, section), self.comparison.checkpoints.copies_state, self
        )
        self._far.link = self.link = link_of.listen(config, self._far)

    def verbs(self) -> dict[str, Verb]:
        membership = self.membership
        return {
            **self.comparison.verbs(),
            "solo": lambda request: self._said(partial(membership.solo, fenced=bool(request.get("fenced")))),
            "resume": lambda _: self._said(self._resume),
            "protect": lambda request: self._protect(fenced=bool(request.get("fenced"))),
            "drain": lambda _: self._said(membership.drain),
        }

    async def _protect(self, *, fenced: bool) -> dict[str, object]:
        """`fenced`: whose place the secondary has taken is off for good."""
        peer = self.link.peer
        if fenced and peer is not None and not self.partner.is_the_same(peer.identity):
            self.partner.exchange(peer.identity)
            if self.membership.state is PrimaryState.PROTECTED:
                self._give_back(GiveBack("the former partner is off for good"))
        return await self._said(self.membership.protect)

    def _resume(self, now: float) -> list[Action]:
        if self._far.is_live:
            raise OperatorError("the other side is live, and connected", "stop it first")
        return self.membership.resume(now)

    # Life.

    def serve(self, paths: Sequence[LinkedPath]) -> None:
        self.comparison.serve(paths)
        self._readers = PrimaryReaders(paths)
        self._far.serve(paths, self._readers, self.comparison.checkpoints.fence)
        self._let(self._traffic)
        self._give_up_checkpoint()

    def read(self) -> None:
        """Carry packets from now on."""
        self._readers.start()

    def begin(self) -> list[Work]:
        """Listen, and say what has to run from now on."""
        works = self.comparison.begin(self._far)
        self.link.start()
        return [*works, every(TICK, self._tick), every(_TELL, self._tell)]

    def renew(self) -> None:
        """TAPs may be new."""
        self._readers.renew()

    def stop_reading(self) -> None:
        self._readers.rest()

    async def end(self) -> None:
        await self.link.close()
        await self._arbiter.close()
        await self.comparison.end()

    def prepare_reload(self, config: Config) -> Callable[[], None]:
        take_over_rules = self.comparison.prepare_reload(config)
        take_over_credentials = self.link.prepare_reload(link_of.section(config).accept)

        def take_over() -> None:
            take_over_rules()
            take_over_credentials()
            self._far.greeting = self._far.greeting.renewed(config)

        return take_over

    def _tick(self) -> None:
        now = time.monotonic()
        self._look_after_guest()
        self._far.tick(now)
        self._perform(self.membership.tick(now))

    def _look_after_guest(self) -> None:
        """A hypervisor that answered and does so no more has taken its guest with it: nothing can go on alone here."""
        before, self._hypervisor_answers = self._hypervisor_answers, self.comparison.checkpoints.hypervisor_answers
        if before is self._hypervisor_answers:
            return
        self._guest_is_gone = not self._hypervisor_answers and before is True
        if self._guest_is_gone:
            self._perform(self.membership.guest_lost("its QEMU does not answer any more", time.monotonic()))
        else:
            self._perform(self.membership.guest_found(time.monotonic()))
        self._tell()

    def _tell(self) -> None:
        membership = self.membership
        synchronised = membership.is_synchronised and not self.comparison.observes and self._is_guarded()
        if membership.state is PrimaryState.PROTECTED or self._guest_is_gone:
            # The secondary's own moment goes back to it: until then at least nothing was held for lack of it.
            self._heard = self._moment
        self.link.send(Standing(synchronised, membership.alone, not self._guest_is_gone, self._heard))

    # What the secondary does.

    def secondary_joined(self) -> None:
        self._heard = self._moment = 0
        self._perform(self.membership.secondary_joined(time.monotonic()))

    def secondary_lost(self, why: str, *, link_is_up: bool = False) -> None:
        self._perform(self.membership.secondary_lost(why, time.monotonic(), link_is_up=link_is_up))
        self._give_up_checkpoint()

    def secondary_is_there(self, presence: Presence) -> None:
        self._moment = presence.moment
        self._perform(self.membership.secondary_knows(presence.alone_heard, time.monotonic()))

    def secondary_is_live(self, reason: str) -> None:
        self._perform(self.membership.peer_is_live(reason, time.monotonic()))
        for path in self.comparison.paths:
            path.forget()

    def suspended(self, why: str) -> None:
        self._perform(self.membership.suspended(why, time.monotonic()))

    def comparing(self) -> None:
        self._perform(self.membership.comparing(time.monotonic()))

    def checkpoint_wanted(self, reason: str) -> None:
        # Once all passes nobody waits for it: `protect` begins it.
        if self.membership.traffic is not Traffic.PASS:
            self.comparison.checkpoints.request(reason, {})

    def checkpoint_made(self) -> None:
        self._perform(self.membership.checkpoint_done(time.monotonic()))

    def checkpoint_failed(self) -> None:
        self._free_guest()
        self._give_up_checkpoint()

    def _give_up_checkpoint(self) -> None:
        if not self.membership.wants_checkpoint:
            self.comparison.checkpoints.withdraw()

    def _of_hypervisor(self, news: News) -> None:
        self._far.told(news)
        if news is News.JOINED and self._far.has_joined:
            self.secondary_joined()
        if news is News.LOST:
            self._free_guest()

    # What follows from it.

    async def _said(self, decide: Callable[[float], list[Action]]) -> dict[str, object]:
        """An operator's verb, and what became of it."""
        self._perform(decide(time.monotonic()))
        wish = self.membership.wish
        while wish is not None and wish.is_open:
            await asyncio.sleep(0.02)
        done, problem = (wish.is_done, wish.problem) if wish is not None else (True, "")
        return {"state": self.state, "reason": self.membership.reason, "done": done, "problem": problem}

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Entered(state, reason):
                    level = logging.ERROR if PrimaryState(state) in _ALARMING else logging.WARNING
                    log.log(level, "guest %s is %s: %s", self._guest, state, reason)
                case Refused():
                    log.error("the arbiter refused that this side goes on alone")
                case AskArbiter():
                    self._arbiter.carry_out(action)
                case GiveBack():
                    self._give_back(action)
                case RequestCheckpoint(reason):
                    self._far.begin()
                    self.comparison.checkpoints.request(reason, {})
        if any(isinstance(action, Entered | Announce) for action in actions):
            # Before anything leaves that the secondary does not know of.
            self._tell()
        self._changed(self.membership)
        if (traffic := self.membership.traffic) is not self._traffic:
            self._let(traffic)
            self._free_guest()
            self._give_up_checkpoint()

    def _give_back(self, action: GiveBack) -> None:
        peer = self.link.peer
        if peer is None or self.partner.is_the_same(peer.identity):
            self._arbiter.carry_out(action)
        else:
            log.warning(
                "what this side has won of the arbiter is kept: %s may still want it, and %s cannot go live without "
                "--fenced; once %s is off for good, say `protect --fenced`",
                *(self.partner.name, peer.identity, self.partner.name),
            )

    def _free_guest(self) -> None:
        """Nothing else ends a pause for a checkpoint that nobody waits for, or what is left of a COLO that is over."""
        if self.membership.traffic is Traffic.PASS:
            self.comparison.checkpoints.go_on_alone()

    def _answered(self, won: bool) -> None:
        self._perform(self.membership.arbiter_answered(won, time.monotonic()))

    def _let(self, traffic: Traffic) -> None:
        """Do with what the guest sends what the membership says."""
        self._traffic = traffic
        for path in self.comparison.paths:
            path.traffic = traffic
        if traffic is Traffic.PASS:
            for path in self.comparison.paths:
                path.forget()
            self._far.rest()
        elif traffic is Traffic.COMPARE:
            self._far.begin()
            self.comparison.checkpoints.count_period()

    # What is said about it.

    @property
    def stays_closed(self) -> bool:
        """Whether nothing may leave the guest, even if the daemon is stopped: the other side may be the service.

        With an arbiter that is so unless this side has won: the other one may win as soon as this one is gone.
        """
        traffic = self.membership.traffic
        may_lose = self._arbiter.exists and traffic is not Traffic.PASS and not self.comparison.observes
        return self.membership.yielded or traffic is Traffic.BLOCK or may_lose

    @property
    def state(self) -> str:
        """For as long as all is in force."""
        state = self.membership.state
        return "observing" if state is PrimaryState.PROTECTED and self.comparison.observes else state.value

    def counters(self, kernel: Mapping[str, int]) -> dict[str, int]:
        paths = self.comparison.paths
        return {
            **self.comparison.counters(kernel),
            **asdict(self.membership.counters),
            "passed_packets": sum(path.passed_packets for path in paths),
            "blocked_packets": sum(path.blocked_packets for path in paths),
            "stale_packets": sum(path.stale_packets for path in paths),
            "mirrored_discarded": sum(path.mirrored_discarded for path in paths),
            **{f"link_{name}": value for name, value in self.link.statistics().items()},
        }

    def status(self) -> dict[str, object]:
        peer = self.link.peer
        return {
            **self.comparison.status(),
            "reason": self.membership.reason,
            "since": time.monotonic() - self.membership.since,
            "link": {"up": self.link.up, "peer": peer.identity if peer is not None else ""},
            "secondary": dict(self._far.statistics),
        }
