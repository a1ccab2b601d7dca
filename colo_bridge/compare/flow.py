"""The connections that used the same addresses and ports, one after the other.

1. Each side stands in one connection of the flow; a SYN with a new number moves that side on. So does a RST
   that refuses the SYN of the client with whose acceptance the other side moves on, whichever comes first.
2. The two sides are compared with each other only while they stand in the same connection.
3. What waits of the primary where it has left stays within the secondary's reach until that has passed.
"""

from __future__ import annotations

from collections.abc import Sequence

from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.rule import Opener
from colo_bridge.compare.tcp import TcpConnection
from colo_bridge.wire.packet import RST, SYN, TcpPacket, has_form_of_refusal

MOVES = SYN | RST
"""Flags of packets that may belong to another connection than where their side stands."""

_MOST_LEFT = 16
"""Connections kept within the secondary's reach; if it is further behind, what waits there waits for a checkpoint."""


class TcpFlow:
    """One pair of addresses and ports; `primary` and `secondary` say where each side stands."""

    __slots__ = ("active", "epoch", "flow", "ledger", "left", "opened_by", "primary", "reported", "secondary")

    def __init__(self, flow: bytes, ledger: Ledger, now: float) -> None:
        self.flow = flow
        self.ledger = ledger
        self.active = now
        self.epoch = ledger.epoch
        self.opened_by: Opener | None = None
        self.reported = False
        self.primary: TcpConnection | None = None
        self.secondary: TcpConnection | None = None
        self.left: tuple[TcpConnection, ...] = ()
        """Where the primary stood, something of it waits and the secondary has not been yet; the oldest first."""

    # Where a packet belongs.

    def connection_of_primary(self, packet: TcpPacket) -> TcpConnection:
        """Where a packet of the primary belongs, when that is not simply `self.primary`."""
        other, found = self.secondary, self._place_of_primary(packet)
        if found is not self.primary:
            if other is not None and other.generation < found.generation and found.takes_secondary_on(packet, other):
                self._move_secondary(found)
            self._move_primary(found)
        return found

    def connection_of_secondary(self, packet: TcpPacket) -> TcpConnection | None:
        """Where a packet of the secondary belongs; None: in a connection that is long gone."""
        other, found = self.primary, self._place_of_secondary(packet)
        if found is not None and found is not self.secondary:
            if other is not None and other.generation < found.generation and found.takes_primary_on(packet, other):
                self._move_primary(found)
            self._move_secondary(found)
        return found

    def _place_of_primary(self, packet: TcpPacket) -> TcpConnection:
        present = self.primary
        ahead = _not_behind(present, self.secondary)
        if present is None:
            opened = any(other.secondary_isns for other in ahead)
            return self._first(packet, ahead, opened) if packet.flags & SYN else self._midst(packet, ahead, opened)
        if (answered := _answered(packet, present, ahead)) is not None:
            return answered
        if packet.flags & SYN and present.opens_anew_for_primary(packet):
            return self._next(packet, present, ahead)
        return present

    def _place_of_secondary(self, packet: TcpPacket) -> TcpConnection | None:
        present = self.secondary
        ahead = _not_behind(present, *self.left, self.primary)
        if present is None:
            return self._first_of_secondary(packet, ahead)
        if (answered := _answered(packet, present, ahead)) is not None:
            return answered
        if packet.flags & SYN and present.opens_anew_for_secondary(packet):
            return self._next(packet, present, ahead)
        return present

    def _first_of_secondary(self, packet: TcpPacket, ahead: Sequence[TcpConnection]) -> TcpConnection | None:
        opened = any(other.primary_isns for other in ahead)
        if packet.flags & SYN:
            return _answered(packet, None, self.left) or self._first(packet, ahead, opened)
        if opened:
            return _answered(packet, None, ahead) or _goes_on(packet, ahead)
        return self._midst(packet, ahead, False)

    def _first(self, syn: TcpPacket, others: Sequence[TcpConnection], opened: bool) -> TcpConnection:
        """Where a side's first SYN belongs; `others`: where the other side is and was, `opened` whether by a SYN."""
        if not others:
            return TcpConnection(self.flow, self.ledger, 0)
        other = others[-1]
        if not other.may_open(opened):
            return TcpConnection(self.flow, self.ledger, other.generation + 1)
        if other.is_another_opening(syn):
            return TcpConnection(self.flow, self.ledger, others[0].generation - 1)
        return other

    def _next(self, syn: TcpPacket, present: TcpConnection, ahead: Sequence[TcpConnection]) -> TcpConnection:
        """Where a SYN leads that begins the next connection: after the other side, if that may have opened the same."""
        if ahead and ahead[-1].generation > present.generation and not ahead[-1].is_another_opening(syn):
            return ahead[-1]
        return TcpConnection(self.flow, self.ledger, present.generation + 1)

    def _midst(self, packet: TcpPacket, others: Sequence[TcpConnection], behind: bool) -> TcpConnection:
        """A side's first packet is not a SYN: it is in midstream, or refuses what the other side opened."""
        other = others[-1] if others else None
        if other is not None and (not behind or packet.flags & RST):
            return other
        connection = TcpConnection(self.flow, self.ledger, 0 if other is None else other.generation - 1)
        if self.ledger.settings.pass_unsynchronised and not has_form_of_refusal(packet):
            connection.mark_unsynchronised()
        return connection

    # The sides move on.

    def _move_primary(self, connection: TcpConnection) -> None:
        present, other = self.primary, self.secondary
        if present is not None and (other is None or other.generation < present.generation) and not present.idle:
            self.left = (*self.left, present)[-_MOST_LEFT:]
        self.primary = connection

    def _move_secondary(self, connection: TcpConnection) -> None:
        if self.secondary is not None:
            self.secondary.secondary_left()
        self.secondary = connection
        self.left = _not_behind(connection, *self.left)

    def catch_up(self) -> None:
        """Take note of the checkpoints that were done since the last packet."""
        ledger = self.ledger
        synchronised = self.epoch < ledger.synchronised_epoch
        for connection in set(self._connections):
            if synchronised or connection.epoch != ledger.epoch:
                connection.renew(synchronised)
        if synchronised:
            # The secondary is a copy of the primary: it stands where that stands.
            self.secondary = self.primary
            self.left = ()
        self.epoch = ledger.epoch

    # The table's questions.

    @property
    def _connections(self) -> list[TcpConnection]:
        return [each for each in (self.primary, self.secondary, *self.left) if each is not None]

    @property
    def idle(self) -> bool:
        return all(connection.idle for connection in self._connections)

    @property
    def short_lived(self) -> bool:
        return all(connection.short_lived for connection in self._connections)

    @property
    def closing(self) -> bool:
        return all(connection.closing for connection in self._connections)


def _not_behind(present: TcpConnection | None, *others: TcpConnection | None) -> tuple[TcpConnection, ...]:
    """Those of the others that a side may still come to."""
    return tuple(
        other
        for other in others
        if other is not None and other is not present and (present is None or other.generation >= present.generation)
    )


def _answered(packet: TcpPacket, present: TcpConnection | None, ahead: Sequence[TcpConnection]) -> TcpConnection | None:
    """The connection ahead in which the other side answered the same SYN of the client as a SYN or a RST does."""
    if not ahead or not (packet.flags & SYN or has_form_of_refusal(packet)):
        return None
    if present is not None and present.awaits_answer(packet):
        return None
    return next((connection for connection in ahead if connection.is_this_opening(packet)), None)


def _goes_on(packet: TcpPacket, connections: Sequence[TcpConnection]) -> TcpConnection | None:
    """The oldest in which a secondary may be whose SYN was not seen."""
    return next((connection for connection in connections if connection.may_go_on(packet)), None)
