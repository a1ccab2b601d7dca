"""What protects one NIC, as parts that are put in force, checked, mended and taken out together.

1. The phases are the order, whatever is put together: nothing is diverted before somebody can answer for it.
2. One probe or step at a time, whoever asks: a check never sees a part half done.
3. A probe that fails is a fault, and one part that cannot be mended keeps no other from it.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from colo_bridge.config import Config, NicConfig
from colo_bridge.errors import ColoBridgeError
from colo_bridge.kernel import links
from colo_bridge.kernel.fault import Fault, Probe, Step, answer
from colo_bridge.kernel.firewall import Tables
from colo_bridge.kernel.state import StateFile
from colo_bridge.kernel.withdrawal import Names, withdraw


@dataclass(frozen=True, slots=True)
class Steps:
    """What puts a protection in force, by phase."""

    create: tuple[Step, ...] = ()
    """Devices that packets are to go to."""
    contain: tuple[Step, ...] = ()
    """What keeps packets in, or sends them there: until it is back, they pass unverified."""
    connect: tuple[Step, ...] = ()
    """What lets packets come."""
    divert: tuple[Step, ...] = ()
    """What is no device: takes longer than those."""

    def and_then(self, others: Steps) -> Steps:
        """Both, phase by phase."""
        return Steps(
            self.create + others.create,
            self.contain + others.contain,
            self.connect + others.connect,
            self.divert + others.divert,
        )


@dataclass(frozen=True, slots=True)
class Probes:
    """What tells whether it is in force, by the same phases."""

    contain: tuple[Probe, ...] = ()
    connect: tuple[Probe, ...] = ()
    divert: tuple[Probe, ...] = ()

    def and_then(self, others: Probes) -> Probes:
        """Both, phase by phase."""
        return Probes(self.contain + others.contain, self.connect + others.connect, self.divert + others.divert)


class Parts(ABC):
    """Its devices exist between `arm` and `disarm`.

    `check`, `mend` and `counters` may run in another thread than the one that uses those: they
    touch neither their buffers nor what waits in them.  `mend_devices` may run beside them in a third.
    """

    def __init__(self, guest: str, nic: NicConfig, config: Config, tables: Iterable[Tables] = ()) -> None:
        self._nic = nic
        self._config = config
        self._names = Names(guest, nic.name)
        self._state = StateFile(config.state_file, nic.name)
        self.tables = list(tables)
        """Of iptables: those that its rules are in."""
        self._lock = threading.Lock()
        """Held for one probe or step at a time: `mend_devices` has no time to wait for a whole check."""
        self.taken_over = False
        """Whether `arm` found something in force that another daemon had left."""

    # What it consists of.

    @property
    @abstractmethod
    def devices(self) -> frozenset[str]:
        """Names of those whose coming and going changes the protection."""

    @property
    @abstractmethod
    def steps(self) -> Steps:
        """What puts it in force."""

    @property
    @abstractmethod
    def probes(self) -> Probes:
        """What tells whether it is."""

    @abstractmethod
    def require(self) -> None:
        """Raise what prevents it, before anything was changed."""

    @abstractmethod
    def is_left_by_another(self) -> bool:
        """Whether something of it is in force already."""

    @abstractmethod
    def open(self, undo: contextlib.ExitStack) -> None:
        """Make what exists for as long as this process; `undo` takes it back."""

    @abstractmethod
    def close(self) -> None:
        """Take back what `open` made."""

    @abstractmethod
    def remove_former(self) -> None:
        """What an earlier configuration put elsewhere."""

    @abstractmethod
    def counted(self) -> dict[str, dict[str, int]]:
        """The kernel's own numbers, by what they belong to."""

    # What is done with it.

    def arm(self) -> None:
        """Put the protection in force, or take over what another daemon left; errors leave no new trace."""
        self.require()
        self.taken_over = self.is_left_by_another()
        with contextlib.ExitStack() as undo:
            self.open(undo)
            if not self.taken_over:
                undo.callback(self._withdraw)
            for _, step in (*self._device_steps(), *self.steps.divert):
                step()
            undo.pop_all()
        self.remove_former()

    def check(self) -> list[Fault]:
        """What is not in force at this moment; meant for once a second."""
        with links.session(snapshot=True):
            return self._found((*self._device_probes(), *self.probes.divert))

    def mend(self, parts: Collection[str] | None = None) -> None:
        """Put in force again what can be, of these parts or of all; what cannot is for the next `check` to report."""
        self._take((*self._device_steps(), *self.steps.divert), parts)

    def mend_devices(self) -> list[Fault]:
        """The part of `check` and `mend` that takes milliseconds: for when a device came, went or changed."""
        # What keeps packets in comes first: until it is back, they pass unverified.
        faults = self._found_and_mended(self.probes.contain, self.steps.contain)
        faults += self._found_and_mended(self._device_probes(), self._device_steps())
        return list(dict.fromkeys(faults))

    def disarm(self) -> None:
        """Remove everything; a secondary's port stays down."""
        with self._lock:
            try:
                self._withdraw()
            finally:
                self.close()

    def counters(self) -> dict[str, int]:
        """The kernel's own numbers, each under what it belongs to, like `mirror_unread_dropped`."""
        with links.session(snapshot=True):
            groups = self.counted()
        return {f"{group}_{name}": count for group, counts in groups.items() for name, count in counts.items()}

    def _device_steps(self) -> tuple[Step, ...]:
        steps = self.steps
        return *steps.create, *steps.contain, *steps.connect

    def _device_probes(self) -> tuple[Probe, ...]:
        return *self.probes.contain, *self.probes.connect

    def _found(self, probes: Iterable[Probe]) -> list[Fault]:
        faults = []
        for part, probe in probes:
            with self._lock:
                problem = answer(probe)
            if problem:
                faults.append(Fault(part, problem))
        return faults

    def _found_and_mended(self, probes: Iterable[Probe], steps: Iterable[Step]) -> list[Fault]:
        with links.session(snapshot=True):
            faults = self._found(probes)
        if faults:
            self._take(steps, {fault.part for fault in faults})
        return faults

    def _take(self, steps: Iterable[Step], parts: Collection[str] | None) -> None:
        """Each of them, also if another one fails; a part that nobody found at fault is not mended unsaid."""
        with links.session():
            for part, step in steps:
                if parts is None or part in parts:
                    with self._lock, contextlib.suppress(ColoBridgeError):
                        step()

    def _withdraw(self) -> None:
        for _ in withdraw(self._names, self._nic, self._state, self.tables):
            pass
