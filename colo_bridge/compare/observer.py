"""Observe mode: everything leaves at once, and is compared behind that.

1. Each primary packet is in `released` as soon as it is given, and in no other list.
2. A divergence asks for nothing: what differed, or found no equal in time, is counted, and the
   comparison of that flow goes on behind it. Only a TCP connection whose SYN, FIN or RST stand at different
   places is not compared any further.
3. The first divergence of each flow is reported.

It is the comparator itself over books of another kind: what these decide is only counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from colo_bridge.compare.comparator import Comparator
from colo_bridge.compare.datagram import DatagramFlow
from colo_bridge.compare.decisions import Divergence
from colo_bridge.compare.flow import TcpFlow
from colo_bridge.compare.item import Item, Owner, Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.services import Services
from colo_bridge.compare.settings import Settings
from colo_bridge.compare.tcp import TcpConnection
from colo_bridge.errors import InternalError
from colo_bridge.wire.packet import Datagram, Parsed, TcpPacket


class ObservedLedger(Ledger):
    """Books of packets that have left already: `released` and `dropped` say what would have become of them."""

    __slots__ = ("_different", "_giving_up", "found", "uncompared_bytes", "uncompared_packets")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.found: list[Divergence] = []
        self.uncompared_packets = 0
        self.uncompared_bytes = 0
        self._different: set[Item] = set()
        self._giving_up = False

    def goes_on_behind(self, item: Item, divergence: Divergence) -> bool:
        self._different.add(item)
        self.diverge(divergence)
        return True

    def diverge(self, divergence: Divergence) -> None:
        self.found.append(divergence)

    def check_timeout(self, now: float) -> None:
        """Give up what has waited for too long."""
        for queue in (self.held, self.waiting):
            while queue:
                oldest = next(iter(queue))
                if now - oldest.arrived <= self.settings.timeout:
                    break
                self.diverge(oldest.owner.why_silent(oldest))
                self._go_on(oldest)
                if oldest in queue:
                    raise InternalError("a packet that has waited for too long is not given up")

    def _go_on(self, item: Item) -> None:
        """Give up a packet, and what waits for the same."""
        owner = item.owner
        if isinstance(owner, TcpConnection) and item.token is None:
            owner.secondary_left()
        elif isinstance(owner, TcpConnection | DatagramFlow):
            self.give_up(owner.go_on)
        else:
            self.give_up(partial(owner.renew, False))

    def give_up(self, decide: Callable[[], None]) -> None:
        """Whatever this releases has found no equal."""
        self._giving_up = True
        decide()
        self._giving_up = False

    def release(self, item: Item) -> None:
        counters = self.counters
        packets, size = counters.released_packets, counters.released_bytes
        super().release(item)
        if self._giving_up or item in self._different:
            self._different.discard(item)
            counters.observed_unequal_packets += counters.released_packets - packets
            counters.observed_unequal_bytes += counters.released_bytes - size

    def hold(self, item: Item) -> bool:
        if super().hold(item):
            return True
        self._different.discard(item)
        return False

    def exempt(self, token: Token, length: int) -> None:
        self._uncompared(lambda: super(ObservedLedger, self).exempt(token, length))

    def abandon(self, owner: Owner) -> None:
        self._uncompared(lambda: super(ObservedLedger, self).abandon(owner))

    def _uncompared(self, decide: Callable[[], None]) -> None:
        """Whatever this releases is not compared."""
        packets, size = self.counters.released_packets, self.counters.released_bytes
        decide()
        self.uncompared_packets += self.counters.released_packets - packets
        self.uncompared_bytes += self.counters.released_bytes - size


class Observer(Comparator):
    """A comparator that holds nothing; its counters `observed_…` say what it would have done."""

    __slots__ = ("_observed", "services")

    def __init__(self, settings: Settings) -> None:
        settings = replace(settings, pass_unsynchronised=True, pass_uncompared=True, cure_after=None, forward=False)
        self._observed = ObservedLedger(settings)
        super().__init__(settings, self._observed)
        self.released = []
        self.revised = []
        self.dropped = []
        self.divergences = []
        self.services = Services()

    def primary(self, packet: Parsed, token: Token, now: float) -> None:
        self.released.append(token)
        super().primary(packet, token, now)
        self._settle()

    def secondary(self, packet: Parsed, now: float) -> None:
        super().secondary(packet, now)
        self._settle()

    def primary_malformed(self, token: Token, length: int) -> None:
        self.released.append(token)
        super().primary_malformed(token, length)
        self._settle()

    def tick(self, now: float) -> None:
        super().tick(now)
        self._settle()

    @property
    def released_packets(self) -> int:
        return self._counters.primary_packets

    def counters(self) -> dict[str, int]:
        counters, ledger = super().counters(), self._observed
        decided, size = counters["released_packets"], counters["released_bytes"]
        return counters | {
            "released_packets": counters["primary_packets"],
            "released_bytes": counters["primary_bytes"],
            "dropped_packets": 0,
            "observed_packets": counters["primary_packets"],
            "observed_bytes": counters["primary_bytes"],
            "observed_equal_packets": decided - ledger.uncompared_packets - counters["observed_unequal_packets"],
            "observed_equal_bytes": size - ledger.uncompared_bytes - counters["observed_unequal_bytes"],
            "observed_uncompared_packets": ledger.uncompared_packets + counters["dropped_packets"],
        }

    # What was found.

    def _settle(self) -> None:
        """Take what the books decided, and what differed."""
        ledger = self._observed
        ledger.released.clear()
        ledger.dropped.clear()
        if ledger.found:
            found, ledger.found = ledger.found, []
            for divergence in found:
                self._diverged(divergence)
            ledger.released.clear()

    def _diverged(self, divergence: Divergence) -> None:
        flow = self._flows.get(divergence.flow)
        if isinstance(flow, TcpFlow):
            self._leave_connections(flow)
        elif isinstance(flow, DatagramFlow) and flow.diverged:
            self._observed.give_up(flow.go_on)
        if isinstance(flow, TcpFlow | DatagramFlow):
            if flow.reported:
                return
            flow.reported = True
            self.services.note_divergence(flow.flow, flow.opened_by if isinstance(flow, TcpFlow) else None)
        self._counters.divergences += 1
        self.divergences.append(divergence)

    def _leave_connections(self, flow: TcpFlow) -> None:
        """Compare those no further whose SYN, FIN or RST stand at different places."""
        for connection in (flow.primary, flow.secondary):
            if connection is not None and connection.diverged:
                self._observed.give_up(partial(connection.renew, False))
                connection.unsynchronised = connection.finished = True

    # Flows that are new.

    def _tcp_flow(self, flow: object, packet: TcpPacket, now: float) -> TcpFlow | None:
        found = super()._tcp_flow(flow, packet, now)
        if found is not None and found is not flow:
            self.services.note_flow(found.flow, found.opened_by)
        return found

    def _datagram_flow(self, packet: Datagram, now: float) -> DatagramFlow | None:
        known = packet.flow in self._flows
        found = super()._datagram_flow(packet, now)
        if found is not None and not known:
            self.services.note_flow(found.flow, None)
        return found
