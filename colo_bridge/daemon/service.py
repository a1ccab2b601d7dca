"""The daemon of a guest whose replicas are both on this host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from colo_bridge.config import Config
from colo_bridge.daemon.comparing import Comparing
from colo_bridge.daemon.control import GROUP_VERBS, refusing
from colo_bridge.daemon.datapath import DataPath
from colo_bridge.daemon.life import Work
from colo_bridge.daemon.outlet import Outlet
from colo_bridge.daemon.readers import Readers
from colo_bridge.daemon.settings import comparator_for, rewrite_limits
from colo_bridge.kernel.protection import NicProtection
from colo_bridge.rewrite.rewriter import Rewriter


class Service(Comparing[NicProtection, DataPath]):
    """Everything between the kernel boundary and the operator."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, refusing(GROUP_VERBS, "both replicas of this guest are on this host"))

    def _data_path(self, protection: NicProtection) -> DataPath:
        forward = protection.forward
        return DataPath(
            protection.queue,
            protection.mirror,
            protection.secondary,
            comparator_for(self._config, forward is not None, self._checkpoints.copies_state),
            Rewriter(rewrite_limits(self._config)),
            self._divergences,
            self._config.queue.busy_poll_us / 1e6,
            Outlet(forward) if forward is not None else None,
        )

    def _prepare(self, protections: Sequence[tuple[str, NicProtection]]) -> None:
        self._paths = [self._data_path(protection) for _, protection in protections]
        self._rules.serve([path.comparator.passthrough for path in self._paths])
        nics = [protection for _, protection in protections]
        self._readers = Readers(list(zip(nics, self._paths, strict=True)))

    def _mended(self) -> None:
        self._readers.renew()

    def _begin(self) -> list[Work]:
        self._divergences.start()
        following = self._checkpoints.serve(self._readers)
        self._readers.start()
        return [*self._timers(), *following]

    def _stop_reading(self) -> None:
        self._readers.stop()

    @property
    def state(self) -> str:
        return self._guarded or ("observing" if self._observes else "protected")

    def _counters(self) -> dict[str, int]:
        rewriters: Counter[str] = Counter()
        for path in self._paths:
            rewriters.update({f"rewriter_{name}": value for name, value in asdict(path.rewriter.counters).items()})
        return {
            **super()._counters(),
            **rewriters,
            "secondary_tap_dropped": self._guard.kernel.get("secondary_unread_dropped", 0),
            "mirrored_discarded": sum(path.mirrored_discarded for path in self._paths),
        }
