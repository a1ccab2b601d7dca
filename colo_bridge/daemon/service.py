"""The daemon of a guest whose replicas are both on this host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

from colo_bridge.config import Config
from colo_bridge.daemon.comparison import Comparison
from colo_bridge.daemon.control import GROUP_VERBS, refusing
from colo_bridge.daemon.datapath import DataPath
from colo_bridge.daemon.life import Life, Work
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.readers import Readers
from colo_bridge.daemon.settings import comparator_for, rewrite_limits
from colo_bridge.kernel.protection import NicProtection
from colo_bridge.rewrite.rewriter import Rewriter


class Service(Life[NicProtection]):
    """Everything between the kernel boundary and the operator."""

    def __init__(self, config: Config) -> None:
        self._comparison = Comparison[DataPath](config)
        refused = refusing(GROUP_VERBS, "both replicas of this guest are on this host")
        super().__init__(config, {**self._comparison.verbs(), **refused})

    def _data_path(self, protection: NicProtection) -> DataPath:
        forward = protection.forward
        return DataPath(
            protection.queue,
            protection.mirror,
            protection.secondary,
            comparator_for(self._config, forward is not None, self._comparison.checkpoints.copies_state),
            Rewriter(rewrite_limits(self._config)),
            self._comparison.divergences,
            self._config.queue.busy_poll_us / 1e6,
            Outlet(forward) if forward is not None else None,
        )

    def _prepare(self, protections: Sequence[tuple[str, NicProtection]]) -> None:
        paths = [self._data_path(protection) for _, protection in protections]
        self._comparison.serve(paths)
        nics = [protection for _, protection in protections]
        self._readers = Readers(list(zip(nics, paths, strict=True)))

    def _mended(self) -> None:
        self._readers.renew()

    def _begin(self) -> list[Work]:
        works = self._comparison.begin(self._readers)
        self._readers.start()
        return works

    def _prepare_reload(self, config: Config) -> Callable[[], None]:
        return self._comparison.prepare_reload(config)

    def _stop_reading(self) -> None:
        self._readers.stop()

    async def _end(self) -> None:
        await self._comparison.end()

    # What is said about it.

    @property
    def state(self) -> str:
        return self._guarded or ("observing" if self._comparison.observes else "protected")

    def _summary(self) -> str:
        return self._comparison.summary(self.state)

    def _counters(self) -> dict[str, int]:
        paths, kernel = self._comparison.paths, self._guard.kernel
        rewriters: Counter[str] = Counter()
        for path in paths:
            rewriters.update({f"rewriter_{name}": value for name, value in asdict(path.rewriter.counters).items()})
        return {
            **self._comparison.counters(kernel),
            **rewriters,
            "secondary_tap_dropped": kernel.get("secondary_unread_dropped", 0),
            "mirrored_discarded": sum(path.mirrored_discarded for path in paths),
            "unprotected_checks": self._guard.unprotected_checks,
        }

    def status(self) -> dict[str, object]:
        return {
            **self._identity(),
            **self._comparison.status(),
            "counters": self._counters(),
            "kernel": self._guard.kernel,
        }
