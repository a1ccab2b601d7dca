"""The daemon of a secondary on its own host: it waits, and its guest takes over once that is decided."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from colo_bridge.checkpoint.providers.standby import Standby
from colo_bridge.config import Config
from colo_bridge.daemon import link_of
from colo_bridge.daemon.announcing import announce
from colo_bridge.daemon.arbiter import Arbiter
from colo_bridge.daemon.control import refusing
from colo_bridge.daemon.far_primary import FarPrimary
from colo_bridge.daemon.greeting import Greeting
from colo_bridge.daemon.life import Life, Work, every
from colo_bridge.daemon.record import LIVE, Record
from colo_bridge.daemon.secondary_path import Out, SecondaryPath
from colo_bridge.daemon.secondary_readers import SecondaryReaders
from colo_bridge.daemon.settings import rewrite_limits
from colo_bridge.errors import ColoBridgeError, KernelError
from colo_bridge.kernel.secondary_nic import SecondaryNic
from colo_bridge.link.protocol.messages import Hello, Role, Statistics
from colo_bridge.membership.actions import Action, AskArbiter, Entered, GiveBack, GoLive, Refused
from colo_bridge.membership.secondary import SecondaryMembership, SecondaryPolicy, SecondaryState
from colo_bridge.rewrite.rewriter import Rewriter

log = logging.getLogger(__name__)

_TICK = 0.05
_TELL = 0.5
"""Seconds between two messages with statistics."""
_AGAIN = 1.0
"""Seconds between two tries to put a guest that is live on the network."""
_VERBS_OF_THE_PRIMARY = ("checkpoint", "solo", "resume", "protect", "drain")
_PASSTHROUGH = ("passthrough-add", "passthrough-del", "passthrough-list")


class Secondary(Life[SecondaryNic]):
    def __init__(self, config: Config) -> None:
        section = link_of.section(config)
        refused = refusing((*_VERBS_OF_THE_PRIMARY, *_PASSTHROUGH), "this daemon is the secondary", "ask the primary's")
        super().__init__(config, {"failover": self._on_failover, **refused})
        self._record = Record(config.run_dir, config.guest)
        self._synchronises = config.checkpoint.provider == "qmp"
        self._far = FarPrimary(Greeting(Role.SECONDARY, config, section), self._synchronises, self)
        self._far.link = self._link = link_of.dial(config, self._far)
        self._standby = Standby(config.checkpoint, self._far.told) if self._synchronises else None
        self._arbiter = Arbiter(config, Role.SECONDARY, self._answered)
        policy = SecondaryPolicy(
            primary_timeout=section.primary_timeout,
            automatic=section.on_primary_lost == "arbiter",
            arbiter=self._arbiter.exists,
        )
        live = self._record.read() == LIVE
        self._membership = SecondaryMembership(policy, time.monotonic(), live=live)
        self._protections: Sequence[tuple[str, SecondaryNic]] = ()
        self._paths: list[SecondaryPath] = []
        self._going: list[asyncio.Task[None]] = []
        self._taking_over: asyncio.Task[None] | None = None
        self._obstacle = ""
        """Why the guest is not on the network, though it is live."""

    # Life.

    def _prepare(self, protections: Sequence[tuple[str, SecondaryNic]]) -> None:
        self._protections = protections
        rewriters = (Rewriter(rewrite_limits(self._config)) for _ in protections)
        self._paths = [
            SecondaryPath(name, nic.secondary, self._link, rewriter)
            for (name, nic), rewriter in zip(protections, rewriters, strict=True)
        ]
        nics = [nic for _, nic in protections]
        self._readers = SecondaryReaders(list(zip(nics, self._paths, strict=True)), self._link.full)
        self._far.serve(self._paths, self._readers, self._ask_hypervisor)

    def _mended(self) -> None:
        self._attach()

    def _begin(self) -> list[Work]:
        self._readers.read(True)
        self._link.start()
        if self._membership.state is SecondaryState.LIVE:
            self._go_live(self._membership.reason)
        following = self._standby.watch() if self._standby is not None else []
        return [every(_TICK, self._tick), every(1.0, self._age), every(_TELL, self._tell), *following]

    def _prepare_reload(self, config: Config) -> Callable[[], None]:
        rest = super()._prepare_reload(config)
        # It takes effect at once, so it is the last that may be refused.
        self._link.reload()

        def take_over() -> None:
            self._far.greeting = self._far.greeting.renewed(config)
            rest()

        return take_over

    def _stop_reading(self) -> None:
        self._readers.read(False)

    async def _end(self) -> None:
        for task in self._going:
            task.cancel()
        await self._link.close()
        await self._arbiter.close()

    def _ask_hypervisor(self, answered: Callable[[], None]) -> None:
        if self._standby is not None:
            self._standby.fence(answered)

    def _tick(self) -> None:
        now = time.monotonic()
        self._perform(self._membership.tick(now))
        self._far.choose_ways()

    def _age(self) -> None:
        now = time.monotonic()
        for path in self._paths:
            path.age(now)

    def _tell(self) -> None:
        moment = {"moment": int(time.monotonic() * 1e3)}
        self._link.send(Statistics(moment | self._counters()))

    # The primary.

    def primary_joined(self, peer: Hello) -> None:
        self._perform(self._membership.primary_joined(peer.secondary_timeout, time.monotonic()))
        # The first word: this side is no service.
        self._tell()

    def primary_lost(self, why: str) -> None:
        self._perform(self._membership.primary_lost(why, time.monotonic()))

    def suspended(self) -> None:
        self._perform(self._membership.synchronised(False, time.monotonic()))

    def primary_says(self, statistics: Mapping[str, int]) -> None:
        now = time.monotonic()
        self._membership.primary_heard(statistics.get("moment", 0) / 1e3)
        self._perform(self._membership.primary_is_solo(bool(statistics.get("solo")), now))
        # Both have to say so: what one of them knows the other may not have heard yet.
        synchronised = bool(statistics.get("synchronised")) and self._far.epoch.synchronised
        self._perform(self._membership.synchronised(synchronised, now))

    # Going live.

    async def _on_failover(self, request: Mapping[str, object]) -> dict[str, object]:
        fenced, accept_loss = bool(request.get("fenced")), bool(request.get("accept_loss"))
        self._perform(self._membership.failover(fenced=fenced, accept_loss=accept_loss, now=time.monotonic()))
        while self._membership.state is SecondaryState.ASKING:
            await asyncio.sleep(0.02)
        if self._taking_over is not None:
            await asyncio.wait([self._taking_over])
        if self._obstacle:
            raise KernelError(f"the guest is live, but not on the network yet: {self._obstacle}", "mend that")
        return {"state": self.state, "reason": self._membership.reason}

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
                    self._go_live(reason)

    def _answered(self, won: bool) -> None:
        self._perform(self._membership.arbiter_answered(won, time.monotonic()))

    def _go_live(self, reason: str) -> None:
        try:
            self._record.write(LIVE)
        except ColoBridgeError as error:
            log.error("%s: a restarted daemon will not know that the guest is live", error)
        self._far.go_live(reason)
        self._taking_over = self._start(self._take_over())
        self._start(self._end_colo())

    def _start(self, work: Work) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(_complain)
        self._going.append(task)
        return task

    async def _take_over(self) -> None:
        """Put the guest on the network."""
        await self._raise_uplinks()
        self._start(self._persist())

    async def _persist(self) -> None:
        while self._obstacle:
            await asyncio.sleep(_AGAIN)
            await self._raise_uplinks()
        log.warning("guest %s has gone live", self._config.guest)
        await announce(self._paths)

    async def _raise_uplinks(self) -> None:
        """All that can be: one NIC does not wait for another."""
        loop, before = asyncio.get_running_loop(), self._obstacle
        self._obstacle = ""
        for name, nic in self._protections:
            try:
                # A thread, because pyroute2 cannot be used in a running loop.
                await loop.run_in_executor(None, nic.go_live)
            except (ColoBridgeError, OSError) as error:
                self._obstacle = f"nic {name}: {error}"
        self._attach()
        if self._obstacle not in ("", before):
            log.critical("guest %s is live, but not on the network: %s", self._config.guest, self._obstacle)

    def _attach(self) -> None:
        """Join guests that are live and the uplinks that there are."""
        for (_, nic), path in zip(self._protections, self._paths, strict=True):
            if self._membership.state is SecondaryState.LIVE and nic.uplink is not None and path.out is not Out.LIVE:
                path.go_live(nic.uplink)
        self._readers.renew()

    async def _end_colo(self) -> None:
        if self._standby is None:
            return
        try:
            await self._standby.lost_heartbeat()
        except ColoBridgeError as error:
            log.error("the guest's QEMU could not be told that it is alone: %s", error)

    # What is said about it.

    @property
    def state(self) -> str:
        return self._guarded or self._membership.state.value

    def _counters(self) -> dict[str, int]:
        paths, kernel = self._paths, self._guard.kernel
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
            "live_packets": sum(path.live_packets for path in paths),
            "secondary_tap_dropped": kernel.get("secondary_unread_dropped", 0),
            "unprotected_checks": self._guard.unprotected_checks,
            **{f"link_{name}": value for name, value in self._link.statistics().items()},
        }

    def status(self) -> dict[str, object]:
        membership, peer, now = self._membership, self._link.peer, time.monotonic()
        return {
            **self._identity(),
            "reason": membership.reason,
            "since": now - membership.since,
            "risks": membership.risks(now),
            "epoch": self._far.epoch.checkpoints,
            "link": {"up": self._link.up, "peer": peer.identity if peer is not None else ""},
            "replica": self._standby.phase if self._standby is not None else "",
            "counters": self._counters(),
            "kernel": self._guard.kernel,
        }


def _complain(going: asyncio.Task[None]) -> None:
    if not going.cancelled() and (error := going.exception()) is not None:
        log.critical("going live failed: %s", error, exc_info=error)
