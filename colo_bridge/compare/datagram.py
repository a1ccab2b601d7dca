"""Datagrams (UDP, ICMP, other protocols): compared by content, not by order.

1. A primary datagram leaves when the secondary has sent one with the same content in the same flow.
2. When both sides have an unmatched one, the replicas have diverged.

An index by content makes the search independent of how many wait.
"""

from __future__ import annotations

from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.compare.item import Item, Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.wire.packet import Datagram


class WaitingDatagram(Item):
    """A datagram of either side that has not met its equal yet."""

    __slots__ = ("content", "packet")

    def __init__(self, packet: Datagram, token: Token, owner: DatagramFlow, now: float) -> None:
        self.token = token
        self.content = packet.content
        self.packet: bytes | None = None
        self.length = packet.length
        self.owner = owner
        self.arrived = now


class _Index:
    """Unmatched datagrams of one side by content, the oldest first, and in order of arrival."""

    __slots__ = ("by_content", "in_order")

    def __init__(self) -> None:
        self.by_content: dict[bytes, list[WaitingDatagram]] = {}
        self.in_order: dict[WaitingDatagram, None] = {}

    def add(self, item: WaitingDatagram) -> None:
        self.by_content.setdefault(item.content, []).append(item)
        self.in_order[item] = None

    def take(self, content: bytes) -> WaitingDatagram | None:
        equal = self.by_content.get(content)
        if equal is None:
            return None
        item = equal.pop(0)
        if not equal:
            del self.by_content[content]
        del self.in_order[item]
        return item

    def take_all(self) -> list[WaitingDatagram]:
        items = list(self.in_order)
        self.by_content.clear()
        self.in_order.clear()
        return items


class DatagramFlow:
    """One flow of datagrams, both sides."""

    __slots__ = ("_diverged_in", "active", "flow", "ledger", "primary", "reported", "secondary")

    def __init__(self, flow: bytes, ledger: Ledger, now: float) -> None:
        self.flow = flow
        self.ledger = ledger
        self.active = now
        self.reported = False
        self.primary = _Index()
        self.secondary = _Index()
        self._diverged_in: int | None = None
        """The epoch of a divergence; the next epoch forgets it."""

    @property
    def diverged(self) -> bool:
        return self._diverged_in == self.ledger.epoch

    def from_primary(self, packet: Datagram, token: Token, now: float) -> None:
        item = WaitingDatagram(packet, token, self, now)
        equal = self.secondary.take(packet.content)
        if equal is not None:
            self.ledger.throw_away(equal)
            self.ledger.release(item)
        elif self.ledger.hold(item):
            self._retain(item, packet)
            self.primary.add(item)
            self._check()

    def from_secondary(self, packet: Datagram, now: float) -> None:
        item = WaitingDatagram(packet, None, self, now)
        equal = self.primary.take(packet.content)
        if equal is not None:
            self.ledger.throw_away(item)
            self.ledger.release(equal)
        elif not self.diverged and self.ledger.keep(item):
            self._retain(item, packet)
            self.secondary.add(item)
            self._check()
        else:
            self.ledger.throw_away(item)

    def cut_short(self, packet: Datagram, token: Token, now: float) -> None:
        """A primary packet without comparable content: only a checkpoint releases it."""
        item = WaitingDatagram(packet, token, self, now)
        if self.ledger.hold(item):
            self._retain(item, packet)
            self.primary.in_order[item] = None
            self._diverge(Reason.CUT_SHORT, "only the beginning of a packet is known", item, None)

    def _check(self) -> None:
        if self.primary.in_order and self.secondary.in_order and not self.diverged:
            ours, theirs = next(iter(self.primary.in_order)), next(iter(self.secondary.in_order))
            at = _first_difference(ours.content, theirs.content)
            detail = f"datagrams differ at byte {at} of their content"
            self._diverge(Reason.DATAGRAM, detail, ours, theirs)

    def _retain(self, item: WaitingDatagram, packet: Datagram) -> None:
        """Copy the whole packet, if divergences shall show it."""
        if self.ledger.settings.evidence:
            item.packet = bytes(packet.buffer[packet.ip : packet.end])

    def _diverge(self, reason: Reason, detail: str, ours: WaitingDatagram, theirs: WaitingDatagram | None) -> None:
        if self.diverged:
            return
        self._diverged_in = self.ledger.epoch
        self.ledger.diverge(
            Divergence(
                reason,
                self.flow,
                detail,
                primary_length=ours.length if theirs is None else len(ours.content),
                secondary_length=None if theirs is None else len(theirs.content),
                primary_packet=ours.packet,
                secondary_packet=None if theirs is None else theirs.packet,
            )
        )

    def renew(self, _synchronised: bool, /) -> None:
        """A checkpoint of either kind is done: release what is held, forget the secondary's."""
        for item in self.primary.take_all():
            self.ledger.release(item)
        for item in self.secondary.take_all():
            self.ledger.throw_away(item)

    def go_on(self) -> None:
        """What waits is given up; what comes is compared."""
        self.renew(False)
        self._diverged_in = None

    def why_silent(self, item: Item) -> Divergence:
        assert isinstance(item, WaitingDatagram)
        if item.token is None:
            detail = "the primary has not sent the same datagram"
            return Divergence(Reason.TIMEOUT, self.flow, detail, secondary_packet=item.packet)
        detail = "the secondary has not sent the same datagram"
        return Divergence(Reason.TIMEOUT, self.flow, detail, primary_packet=item.packet)

    @property
    def idle(self) -> bool:
        return not self.primary.in_order and not self.secondary.in_order

    @property
    def closing(self) -> bool:
        return True

    @property
    def short_lived(self) -> bool:
        return True


def _first_difference(ours: bytes, theirs: bytes) -> int:
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return index
    return min(len(ours), len(theirs))
