"""The daemon of one guest inside its event loop: data paths, checkpoints, guard, control socket."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import time
from collections import Counter
from dataclasses import asdict

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.compare.observer import Observer
from colo_bridge.compare.settings import Settings
from colo_bridge.config import Config
from colo_bridge.daemon import journal
from colo_bridge.daemon.checkpoints import Checkpoints
from colo_bridge.daemon.control import GROUP_VERBS, ControlServer, refusing
from colo_bridge.daemon.datapath import DataPath
from colo_bridge.daemon.ending import STOP_SIGNALS, end_by_callback, first_end
from colo_bridge.daemon.evidence import Evidence
from colo_bridge.daemon.guard import Guard
from colo_bridge.daemon.notify import Notifier
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.rate import RateLimit
from colo_bridge.daemon.readers import Readers
from colo_bridge.daemon.rules import PassthroughRules
from colo_bridge.kernel.protection import NicProtection
from colo_bridge.rewrite.limits import RewriteLimits
from colo_bridge.rewrite.rewriter import Rewriter

log = logging.getLogger(__name__)

_TICK = 0.05
"""Seconds between two looks for timeouts."""
_CURE = 0.01
"""Seconds after which, and between, looks for what two healthy stacks might wait for."""
_AGE = 1.0
"""Seconds between two looks for idle connections and reached limits."""
_OBSERVED_LINES, _OBSERVED_SECONDS = 20, 60.0
"""Divergences that are logged in observe mode, in so many seconds."""


class Service:
    """Everything between the kernel boundary and the operator, for one guest."""

    def __init__(self, config: Config) -> None:
        self._rules = PassthroughRules(config.passthrough)
        self._checkpoints = Checkpoints(config)
        verbs = {
            "status": lambda _: self.status(),
            "checkpoint": self._checkpoints.on_request,
            **self._rules.verbs(),
            **refusing(GROUP_VERBS, "both replicas of this guest are on this host"),
        }
        self.control = ControlServer(config.control_socket, verbs, uids=config.control.uids)
        self._config = config
        self._observes = config.compare.mode == "observe"
        self._observed_lines = RateLimit(_OBSERVED_LINES, _OBSERVED_SECONDS)
        self._notifier = Notifier()
        self._divergences = dict.fromkeys((reason.value for reason in Reason), 0)
        self._last_divergence: Divergence | None = None
        self._evidence = Evidence(config.evidence, config.guest)
        self._limits = journal.Limits()
        self._began = time.monotonic()
        self._protections: list[NicProtection] = []
        self._paths: list[DataPath] = []
        self._guard = Guard([])

    def _data_path(self, protection: NicProtection) -> DataPath:
        forward = protection.forward
        settings = _settings(self._config, forward is not None, self._checkpoints.copies_state)
        comparator = (Observer if self._observes else Comparator)(settings)
        rewriter = Rewriter(_rewrite_limits(self._config))
        return DataPath(
            protection.queue,
            protection.mirror,
            protection.secondary,
            comparator,
            rewriter,
            self,
            self._config.queue.busy_poll_us / 1e6,
            Outlet(forward) if forward is not None else None,
        )

    # Life.

    async def run(self, protections: list[tuple[str, NicProtection]]) -> None:
        """Serve armed NICs until SIGTERM or SIGINT."""
        self._protections = [protection for _, protection in protections]
        self._paths = [self._data_path(protection) for protection in self._protections]
        self._rules.serve([path.comparator.passthrough for path in self._paths])
        readers = Readers(list(zip(self._protections, self._paths, strict=True)))
        self._guard = Guard(protections, readers.renew)
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stopped.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        failed: asyncio.Future[None] = loop.create_future()
        loop.set_exception_handler(functools.partial(end_by_callback, failed))
        await self.control.start()
        self._evidence.start()
        following = self._checkpoints.serve(self._paths, readers)
        readers.start()
        helpers = [
            asyncio.create_task(work)
            for work in (
                self._guard.run(),
                self._guard.follow_devices(),
                self._tick(),
                self._cure(),
                self._age(),
                self._keep_watchdog(),
                *following,
            )
        ]
        self._notifier.ready(self._summary())
        log.info("guest %s: %s", self._config.guest, self._summary())
        try:
            await first_end(stopped, [*helpers, failed])
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            self._notifier.stopping()
            for helper in (*helpers, failed):
                helper.cancel()
            readers.stop()
            await self._checkpoints.close()
            await self.control.close()
            self._evidence.close()
            self._guard.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            for path in self._paths:
                path.tick(now)
            self._checkpoints.step()

    async def _age(self) -> None:
        while True:
            await asyncio.sleep(_AGE)
            now = time.monotonic()
            for path in self._paths:
                path.age(now)
            self._report_limits()

    async def _cure(self) -> None:
        while True:
            await asyncio.sleep(_CURE)
            now = time.monotonic()
            for path in self._paths:
                path.cure(now)

    async def _keep_watchdog(self) -> None:
        """Tell the service manager that the loop still turns, and how the guest is."""
        interval = self._notifier.watchdog_interval or 10.0
        while True:
            self._notifier.watchdog()
            self._notifier.status(self._summary())
            await asyncio.sleep(min(interval, 10.0))

    # Divergences and checkpoints.

    def diverged(self, divergence: Divergence) -> None:
        """A data path has found a difference: say so, and ask for a checkpoint."""
        self._divergences[divergence.reason.value] += 1
        self._last_divergence = divergence
        self._evidence.keep(divergence)
        if self._observes:
            self._report_observed(divergence)
            return
        log.warning("%s", journal.sentence(divergence))
        connection = str(journal.fields(divergence)["connection"])
        self._checkpoints.request(divergence.reason.value, {"connection": connection})

    def _report_observed(self, divergence: Divergence) -> None:
        """Nothing waits, so nothing is asked for; a replica that is far from equal must not fill the log."""
        if self._observed_lines.allows(time.monotonic()):
            refused = self._observed_lines.take_refused()
            more = f" ({refused} more were not logged)" if refused else ""
            log.warning("%s%s", journal.sentence(divergence), more)

    # What is said about it.

    def _report_limits(self) -> None:
        for sentence in self._limits.reached(self._counters_of_paths()):
            log.warning("%s; see [limits]", sentence)

    def _counters_of_paths(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for path in self._paths:
            total.update(path.comparator.counters())
        return total

    @property
    def state(self) -> str:
        if not self._guard.checks:
            return "starting"
        if self._guard.faults or self._guard.is_late():
            return "unprotected"
        return "observing" if self._observes else "protected"

    def _faults(self) -> list[str]:
        late = ["guard: the last check is too old"] if self._guard.is_late() else []
        return late + [f"{nic}: {fault.part}: {fault.problem}" for nic, fault in self._guard.faults]

    def _unsynchronised(self) -> int:
        return sum(path.comparator.unsynchronised_connections() for path in self._paths)

    def _observed_services(self) -> dict[str, dict[str, int]]:
        """By NIC where there are several."""
        comparators = [path.comparator for path in self._paths]
        tables = [comparator.services.table() for comparator in comparators if isinstance(comparator, Observer)]
        if len(tables) < 2:
            return tables[0] if tables else {}
        names = [nic.name for nic in self._config.nic]
        return {f"{nic}: {name}": row for nic, table in zip(names, tables, strict=True) for name, row in table.items()}

    def _summary(self) -> str:
        unsynchronised = self._unsynchronised()
        text = self.state
        if unsynchronised:
            text += f", {unsynchronised} connections from before the start are not compared"
        return text

    def status(self) -> dict[str, object]:
        """What `colo-bridge status` shows; all counters are since the start."""
        counters = dict(self._counters_of_paths())
        for path in self._paths:
            for name, value in asdict(path.rewriter.counters).items():
                counters[f"rewriter_{name}"] = counters.get(f"rewriter_{name}", 0) + value
        kernel = self._guard.kernel
        counters |= asdict(self._evidence.counters)
        counters |= {
            "queue_dropped": kernel.get("queue_queue_dropped", 0),
            "queue_user_dropped": kernel.get("queue_socket_dropped", 0),
            "socket_dropped": kernel.get("queue_socket_overruns", 0),
            "mirror_tap_dropped": kernel.get("mirror_unread_dropped", 0),
            "secondary_tap_dropped": kernel.get("secondary_unread_dropped", 0),
            "unprotected_checks": self._guard.unprotected_checks,
            "mirrored_discarded": sum(path.mirrored_discarded for path in self._paths),
        }
        return {
            "guest": self._config.guest,
            "role": self._config.role,
            "state": self.state,
            "faults": self._faults(),
            "uptime": time.monotonic() - self._began,
            "epoch": self._checkpoints.epoch,
            "counters": counters,
            "kernel": kernel,
            "divergences": self._divergences,
            "last_divergence": journal.fields(self._last_divergence) if self._last_divergence else None,
            "checkpoint": self._checkpoints.status(),
            "checkpoints": self._checkpoints.counters(),
            "unsynchronised_connections": self._unsynchronised(),
            "passthrough": self._rules.counters(),
            "observed_services": self._observed_services(),
        }


def _settings(config: Config, forward: bool, checkpoints_copy_state: bool) -> Settings:
    compare, limits = config.compare, config.limits
    return Settings(
        timeout=compare.timeout,
        # Where a checkpoint makes old connections comparable they wait for it.
        pass_unsynchronised=compare.unsynchronised == "pass" and not checkpoints_copy_state,
        pass_uncompared=compare.tagged == "pass",
        evidence=config.evidence.enabled,
        cure_after=_CURE,
        forward=forward,
        held_packets=limits.held_packets,
        held_bytes=limits.held_bytes,
        secondary_packets=limits.secondary_packets,
        secondary_bytes=limits.secondary_bytes,
        connections=limits.connections,
        established_idle=limits.established_idle,
        closing_idle=limits.closing_idle,
    )


def _rewrite_limits(config: Config) -> RewriteLimits:
    limits = config.limits
    return RewriteLimits(
        connections=limits.connections,
        established_idle=limits.established_idle,
        closing_idle=limits.closing_idle,
    )
