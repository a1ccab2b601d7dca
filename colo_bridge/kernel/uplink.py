"""The way by which a guest reaches the network once its secondary is the service: a TAP on the guest's bridge.

1. It is an ordinary port, from which the bridge learns and to which it floods: the guest is behind it.
2. Nothing leads there but what the daemon writes into it: the secondary's port stays off the bridge.
"""

from __future__ import annotations

from colo_bridge.errors import ColoBridgeError, KernelError, OperatorError
from colo_bridge.kernel import links
from colo_bridge.kernel.tap import LARGEST_MTU, Tap


class Uplink:
    """`tap` exists between `open` and `close`."""

    tap: Tap | None = None

    def __init__(self, name: str, bridge: str, *, queue_length: int) -> None:
        """`queue_length`: see `Tap`."""
        self.name = name
        self.bridge = bridge
        self._queue_length = queue_length

    def require(self) -> None:
        """OperatorError without a bridge on which it could be."""
        links.get(self.bridge)
        if problem := self._problem_of_bridge():
            raise OperatorError(problem, "give the bridge that the guest's clients reach")

    def open(self) -> None:
        """Put it on the bridge, up; errors leave nothing.  One that is open stays as it is."""
        if self.tap is not None:
            return
        self.require()
        tap = Tap(self.name, queue_length=self._queue_length)
        try:
            self._attach(tap)
        except ColoBridgeError:
            tap.close()
            raise
        self.tap = tap

    def mend(self) -> None:
        """Put it there again; KernelError if there is a device of somebody else with its name."""
        if self.tap is not None:
            self.tap.restore()
            self._attach(self.tap)

    def problem(self) -> str:
        """What is wrong with it, or with the bridge on which it is to be; empty: nothing."""
        return self._problem_of_bridge() or (self._problem_of_tap(self.tap) if self.tap is not None else "")

    def counters(self) -> dict[str, int]:
        return self.tap.counters() if self.tap is not None else {}

    def close(self) -> None:
        """The device vanishes, if there is one."""
        if self.tap is not None:
            self.tap.close()
            self.tap = None

    def _attach(self, tap: Tap) -> None:
        device, bridge = links.get(tap.name), links.get(self.bridge)
        if device.index != tap.index:
            raise KernelError(f"{tap.name} is somebody else's", "delete it")
        if device.mtu != _mtu(bridge.mtu):
            # Before it is a port: the bridge takes the smallest MTU of its ports.
            links.change(tap.name, mtu=_mtu(bridge.mtu))
        if device.master != bridge.name:
            links.change(tap.name, master=bridge.index)
        if not device.up:
            links.set_up(tap.name)

    def _problem_of_bridge(self) -> str:
        bridge = links.find(self.bridge)
        if bridge is None:
            return f"the bridge {self.bridge} is missing"
        return "" if bridge.kind == "bridge" else f"{self.bridge} is no Linux bridge"

    def _problem_of_tap(self, tap: Tap) -> str:
        if problem := tap.problem():
            return problem
        device, bridge = links.get(tap.name), links.get(self.bridge)
        if device.master != bridge.name:
            return f"{tap.name} is not a port of {bridge.name}"
        return "" if device.mtu == _mtu(bridge.mtu) else f"{tap.name} has another MTU than {bridge.name}"


def _mtu(bridge: int) -> int:
    return min(bridge, LARGEST_MTU)
