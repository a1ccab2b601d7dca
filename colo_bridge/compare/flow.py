"""The connections that used the same addresses and ports, one after the other.

1. Each side stands in one connection of the flow; a SYN with a new number moves that side on.
2. The two sides are compared with each other only while they stand in the same connection.
"""

from __future__ import annotations

from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.reset import has_form_of_refusal
from colo_bridge.compare.rule import Opener
from colo_bridge.compare.tcp import TcpConnection
from colo_bridge.wire.packet import RST, SYN, TcpPacket


class TcpFlow:
    """One pair of addresses and ports; `primary` and `secondary` say where each side stands."""

    __slots__ = ("active", "epoch", "flow", "ledger", "opened_by", "primary", "reported", "secondary")

    def __init__(self, flow: bytes, ledger: Ledger, now: float) -> None:
        self.flow = flow
        self.ledger = ledger
        self.active = now
        self.epoch = ledger.epoch
        self.opened_by: Opener | None = None
        self.reported = False
        self.primary: TcpConnection | None = None
        self.secondary: TcpConnection | None = None

    def connection_of_primary(self, packet: TcpPacket) -> TcpConnection:
        """Where a packet of the primary belongs, when that is not simply `self.primary`."""
        present, other = self.primary, self.secondary
        if not packet.flags & SYN:
            if present is None:
                present = self._first_without_syn(packet, other, other is not None and bool(other.secondary_isns))
        elif present is None:
            present = self._first(packet, other, other is not None and bool(other.secondary_isns))
        elif present.opens_anew_for_primary(packet):
            present = self._next(packet, present, other)
        self.primary = present
        return present

    def connection_of_secondary(self, packet: TcpPacket) -> TcpConnection | None:
        """Where a packet of the secondary belongs; None: in a connection that is long gone."""
        present, other = self.secondary, self.primary
        if not packet.flags & SYN:
            if present is None:
                if other is not None and other.primary_isns and not other.may_go_on(packet):
                    return None
                present = self._first_without_syn(packet, other, False)
        elif present is None:
            present = self._first(packet, other, other is not None and bool(other.primary_isns))
        elif present.opens_anew_for_secondary(packet):
            present.secondary_left()
            present = self._next(packet, present, other)
        self.secondary = present
        return present

    def catch_up(self) -> None:
        """Take note of the checkpoints that were done since the last packet."""
        ledger = self.ledger
        synchronised = self.epoch < ledger.synchronised_epoch
        for connection in {self.primary, self.secondary}:
            if connection is not None and (synchronised or connection.epoch != ledger.epoch):
                connection.renew(synchronised)
        if synchronised:
            # The secondary is a copy of the primary: it stands where that stands.
            self.secondary = self.primary
        self.epoch = ledger.epoch

    def _first(self, syn: TcpPacket, other: TcpConnection | None, other_opened: bool) -> TcpConnection:
        """Where a side's first SYN belongs; `other` is where the other side stands, `other_opened` whether by a SYN."""
        if other is None:
            return TcpConnection(self.flow, self.ledger, 0)
        if not other.may_open(other_opened):
            return TcpConnection(self.flow, self.ledger, other.generation + 1)
        if other.is_another_opening(syn):
            return TcpConnection(self.flow, self.ledger, other.generation - 1)
        return other

    def _next(self, syn: TcpPacket, present: TcpConnection, other: TcpConnection | None) -> TcpConnection:
        """Where a SYN leads that begins the next connection: after the other side, if that has gone there already."""
        if other is not None and other is not present:
            is_ahead = other.generation > present.generation
            if other.is_this_opening(syn) or (is_ahead and not other.is_another_opening(syn)):
                return other
        return TcpConnection(self.flow, self.ledger, present.generation + 1)

    def _first_without_syn(self, packet: TcpPacket, other: TcpConnection | None, behind: bool) -> TcpConnection:
        """A side's first packet is not a SYN: it is in midstream, or refuses what the other side opened."""
        if other is not None and (not behind or packet.flags & RST):
            return other
        connection = TcpConnection(self.flow, self.ledger, 0 if other is None else other.generation - 1)
        if self.ledger.settings.pass_unsynchronised and not has_form_of_refusal(packet):
            connection.mark_unsynchronised()
        return connection

    @property
    def idle(self) -> bool:
        return (self.primary is None or self.primary.idle) and (self.secondary is None or self.secondary.idle)

    @property
    def short_lived(self) -> bool:
        connections = [connection for connection in (self.primary, self.secondary) if connection is not None]
        return all(connection.short_lived for connection in connections)

    @property
    def closing(self) -> bool:
        return (self.primary is None or self.primary.closing) and (self.secondary is None or self.secondary.closing)
