"""The connections that used the same addresses and ports, one after the other.

1. Each side stands in one connection of the flow; a SYN with a new number moves that side on.
2. The two sides are compared with each other only while they stand in the same connection.
"""

from __future__ import annotations

from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.rule import Opener
from colo_bridge.compare.tcp import TcpConnection
from colo_bridge.wire.packet import ACK, RST, SYN, TcpPacket


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
                present = self._first_without_syn(packet, other, other is not None and other.secondary_isn is not None)
        elif present is None:
            joins = other is not None and other.may_open(other.secondary_isn is not None)
            present = other if joins and other is not None else self._new(after=other)
        elif present.opens_anew_for_primary(packet):
            present = self._next(present, other)
        self.primary = present
        return present

    def connection_of_secondary(self, packet: TcpPacket) -> TcpConnection | None:
        """Where a packet of the secondary belongs; None: in a connection that is long gone."""
        present, other = self.secondary, self.primary
        if not packet.flags & SYN:
            if present is None:
                if other is not None and other.primary_isns and not (other.syn_matched or packet.flags & RST):
                    return None
                present = self._first_without_syn(packet, other, False)
        elif present is None:
            joins = other is not None and other.may_open(bool(other.primary_isns))
            present = other if joins and other is not None else self._new(after=other)
        elif present.opens_anew_for_secondary(packet):
            present.secondary_left()
            present = self._next(present, other)
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

    def _next(self, present: TcpConnection, other: TcpConnection | None) -> TcpConnection:
        if other is not None and other.generation > present.generation:
            return other
        return self._new(after=present)

    def _new(self, after: TcpConnection | None) -> TcpConnection:
        return TcpConnection(self.flow, self.ledger, 0 if after is None else after.generation + 1)

    def _first_without_syn(self, packet: TcpPacket, other: TcpConnection | None, behind: bool) -> TcpConnection:
        """A side's first packet is not a SYN: it is in midstream, or refuses what the other side opened."""
        refuses = packet.flags & (RST | ACK) == RST | ACK and packet.sequence == 0
        if other is not None and (not behind or packet.flags & RST):
            return other
        connection = TcpConnection(self.flow, self.ledger, 0 if other is None else other.generation - 1)
        if self.ledger.settings.pass_unsynchronised and not refuses:
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
