"""How many flows of each service were seen, and how many diverged: what to know before anything is enforced.

A service is a protocol and the port of the side that serves: of the guest, or of a peer that the guest asks.
"""

from __future__ import annotations

from colo_bridge.compare.rule import Opener
from colo_bridge.wire.flow import describe_protocol, parts_of_flow

_MOST = 256
"""Services that are told apart; what comes later is counted together."""
_SHOWN = 20
_OTHERS = "others"


class Services:
    __slots__ = ("_diverged", "_flows")

    def __init__(self) -> None:
        self._flows: dict[str, int] = {}
        self._diverged: dict[str, int] = {}

    def note_flow(self, key: bytes, opened_by: Opener | None) -> None:
        name = _service(key, opened_by)
        if name not in self._flows and len(self._flows) >= _MOST:
            name = _OTHERS
        self._flows[name] = self._flows.get(name, 0) + 1

    def note_divergence(self, key: bytes, opened_by: Opener | None) -> None:
        name = _service(key, opened_by)
        if name not in self._flows:
            name = _OTHERS
        self._diverged[name] = self._diverged.get(name, 0) + 1

    def table(self) -> dict[str, dict[str, int]]:
        """The services with the most diverged flows, then those with the most flows."""
        order = sorted(self._flows, key=lambda name: (-self._diverged.get(name, 0), -self._flows[name], name))
        return {name: {"flows": self._flows[name], "diverged": self._diverged.get(name, 0)} for name in order[:_SHOWN]}


def _service(key: bytes, opened_by: Opener | None) -> str:
    parts = parts_of_flow(key)
    protocol = describe_protocol(parts.protocol)
    ours, theirs = parts.source_port, parts.destination_port
    if ours is None or theirs is None:
        return protocol
    # Servers have low ports, as far as nobody knows better.
    serves = opened_by is Opener.CLIENT or (opened_by is None and ours <= theirs)
    return f"{protocol} {ours} of the guest" if serves else f"{protocol} {theirs} of a peer"
