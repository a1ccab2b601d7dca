"""The secondary's half of one NIC: its guest port and our TAP see only each other.

1. The port is never up without its redirect.
2. A port that is found on a bridge goes down first, and is mended afterwards.
3. Where the secondary is alone on its host, the redirect stays for as long as the port: also after a clean stop, and
   also once the secondary is the service.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from colo_bridge.config import Config, NicConfig
from colo_bridge.errors import InternalError, OperatorError
from colo_bridge.kernel import links, traffic
from colo_bridge.kernel.half import TAP_QUEUE, Half, never_compared
from colo_bridge.kernel.parts import Probes, Steps
from colo_bridge.kernel.tap import Tap
from colo_bridge.kernel.traffic import Detour
from colo_bridge.kernel.uplink import Uplink


class SecondaryNic(Half):
    """`secondary` exists between `arm` and `disarm`, `uplink` from `go_live` on."""

    secondary: Tap
    """Both directions of the secondary's guest port."""

    def __init__(self, guest: str, nic: NicConfig, config: Config) -> None:
        super().__init__(guest, nic, config, nic.secondary_port, never_compared(config))
        self._uplink = Uplink(self._names.uplink, nic.bridge, queue_length=TAP_QUEUE) if nic.bridge else None

    @property
    def uplink(self) -> Tap | None:
        """By which the guest reaches the network; None before `go_live`."""
        return self._uplink.tap if self._uplink is not None else None

    def go_live(self) -> None:
        """Make the uplink: from now on what is written into it reaches the network.  Again: nothing changes.

        In a thread of its own where an event loop runs, like `mend`.
        """
        if self._uplink is None:
            raise InternalError("a secondary without a bridge goes live")
        with self._lock, links.session():
            self._uplink.open()

    def disarm(self) -> None:
        """What keeps the secondary in stays, and its port too; the next `arm` takes both over."""
        with self._lock:
            self.close()

    @property
    def devices(self) -> frozenset[str]:
        own = {self._port, self._names.secondary}
        return frozenset(own | {self._uplink.name, self._uplink.bridge} if self._uplink is not None else own)

    @property
    def steps(self) -> Steps:
        return Steps(
            create=(("tap", self._create_taps),),
            contain=(("port", self._contain), ("redirect", self._redirect), ("discard", self._discard)),
            connect=(("tap", self._raise_tap), ("port", self._raise_port), ("uplink", self._mend_uplink)),
        )

    @property
    def probes(self) -> Probes:
        return Probes(
            contain=(
                ("port", self._problem_of_port),
                ("redirect", self._problem_of_detours),
                ("discard", self._problem_of_discards),
            ),
            connect=(("tap", self._problem_of_taps), ("uplink", self._problem_of_uplink)),
        )

    def require(self) -> None:
        port = links.get(self._port)
        if port.master is not None:
            raise OperatorError(
                f"{port.name}, the secondary's port, is a port of {port.master}",
                "detach it: what the secondary sends must reach nobody",
            )
        if self._uplink is not None:
            self._uplink.require()

    def is_left_by_another(self) -> bool:
        return self._state.read() is not None or traffic.has_filters(self._port)

    def open(self, undo: contextlib.ExitStack) -> None:
        self.secondary = Tap(self._names.secondary, queue_length=TAP_QUEUE)
        undo.callback(self.secondary.close)

    def close(self) -> None:
        self.secondary.close()
        if self._uplink is not None:
            self._uplink.close()

    def remove_former(self) -> None:
        """Nothing: what is on the port is exchanged in its place."""

    def counted(self) -> dict[str, dict[str, int]]:
        return {
            "secondary": self.secondary.counters(),
            "secondary_discarded": traffic.discards(self._port),
            "uplink": self._uplink.counters() if self._uplink is not None else {},
        }

    # What has to be so.

    def _contain(self) -> None:
        """A port that came back on a bridge may be there without its redirect."""
        port = links.find(self._port)
        if port is not None and port.master is not None and port.up:
            links.set_down(port.name)

    def _redirect(self) -> None:
        self._lead_away()
        if not links.is_quiet(self._port):
            self._state.record_quieted(self._port)
            links.quiet(self._port)

    def _raise_tap(self) -> None:
        """What is sent into it before it has its redirect would reach the host."""
        if not self._problem_of_detours() and not links.get(self.secondary.name).up:
            links.set_up(self.secondary.name)

    def _raise_port(self) -> None:
        port = links.get(self._port)
        if not self._problem_of_detours() and not port.up and port.master is None:
            links.set_up(port.name)

    def _mend_uplink(self) -> None:
        if self._uplink is not None:
            self._uplink.mend()

    # What is wrong with it; empty: nothing.

    def _problem_of_port(self) -> str:
        port = links.find(self._port)
        if port is None:
            return f"{self._port} is missing"
        if port.master is not None:
            return f"{port.name}, the secondary's port, is a port of {port.master}"
        return "" if port.up else f"{port.name} is down"

    def _problem_of_uplink(self) -> str:
        return self._uplink.problem() if self._uplink is not None else ""

    def _taps(self) -> Iterable[Tap]:
        return (self.secondary,)

    def _detours(self) -> tuple[Detour, ...]:
        # The one that keeps the secondary in comes first: its port may be up already.
        outwards, inwards = traffic.redirect(self._port, self.secondary.name)
        return inwards, outwards
