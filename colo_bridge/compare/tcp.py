"""One TCP connection: its packets, its resets, and what a checkpoint makes of it.

A RST before a side's SYN refuses what the other side opened: a divergence.
"""

from __future__ import annotations

from colo_bridge.compare.item import Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.opening import Opening
from colo_bridge.compare.reset import Resets
from colo_bridge.compare.segment import Segment
from colo_bridge.wire.packet import ACK, RST, SYN, TcpPacket
from colo_bridge.wire.serial import Position, Serial, first_position, position_near, serial_at


class TcpConnection(Opening):
    """Two sides that stand in the same connection; `generation` orders those of one flow."""

    __slots__ = ("__weakref__", "epoch", "generation")

    def __init__(self, flow: bytes, ledger: Ledger, generation: int) -> None:
        super().__init__(flow, ledger)
        self.generation = generation
        self.epoch = ledger.epoch

    # Packets.

    def from_primary(self, packet: TcpPacket, token: Token, now: float) -> None:
        flags = packet.flags
        # Fast path: the connection is being compared, and this segment is neither SYN nor RST.
        cursor = self.cursor
        if cursor is None or flags & (SYN | RST) or not self.primary_followed:
            self._from_primary_slowly(packet, token, now)
            return
        ack = self.floor.primary_ack(packet)
        if not self._same_as_waiting(packet, cursor, ack, token):
            self._primary_octets(Segment(packet, position_near(packet.sequence, cursor), ack, token, self, now))

    def _from_primary_slowly(self, packet: TcpPacket, token: Token, now: float) -> None:
        ack = self.floor.primary_ack(packet)
        segment = Segment(packet, self._position(packet.sequence), ack, token, self, now)
        if packet.flags & RST:
            self._primary_reset(segment)
        elif packet.flags & SYN:
            self._primary_syn(segment)
        else:
            if not self.primary_followed:
                self._primary_follows(segment.start)
            self._primary_octets(segment)

    def from_secondary(self, packet: TcpPacket, now: float) -> None:
        # Fast path: the connection is being compared, and this segment is neither SYN nor RST.
        cursor = self.cursor
        if cursor is None or packet.flags & (SYN | RST) or not self.secondary_followed:
            self._from_secondary_slowly(packet, now)
            return
        if packet.flags & ACK:
            self.floor.secondary_acknowledges(packet)
        if not self._same_as_head(packet, cursor):
            self._secondary_octets(Segment(packet, position_near(packet.sequence, cursor), None, None, self, now))
        if self.floor.above:
            self.floor.release()

    def _from_secondary_slowly(self, packet: TcpPacket, now: float) -> None:
        ack = self.floor.secondary_acknowledges(packet) if packet.flags & ACK else None
        segment = Segment(packet, self._position(packet.sequence), ack, None, self, now)
        if packet.flags & RST:
            self._secondary_reset(segment)
        elif packet.flags & SYN:
            self._secondary_syn(segment)
        else:
            if not self.secondary_followed:
                self._secondary_follows(segment.start)
            self._secondary_octets(segment)
        self.floor.release()

    def _position(self, number: Serial) -> Position:
        near = self.cursor if self.cursor is not None else self.near
        if near is None:
            self.near = first_position(number)
            return self.near
        return position_near(number, near)

    # Resets.

    def _primary_reset(self, segment: Segment) -> None:
        if self.primary_isns and not self.primary_followed:
            self._primary_follows(segment.start)
        resets = self._resets()
        if resets.from_primary(segment):
            self.finished = True
            self.ledger.release(segment)
            return
        segment.retain()
        if not self.ledger.hold(segment):
            resets.held.remove(segment)
        elif resets.conflict:
            self._diverge_control(segment.start, "both sides reset the connection, at different numbers", segment)
        elif self.secondary_isns and not self.primary_isns:
            shown = [segment] if self.secondary_syn is None else [segment, self.secondary_syn]
            self._diverge_control(segment.start, "the primary refused the connection", *shown)
        elif self._primary_reset_passed():
            self._diverge_control(segment.start, "only the primary resets the connection", segment, *self.uncompared)

    def _secondary_reset(self, segment: Segment) -> None:
        if self.secondary_isns and not self.secondary_followed:
            self._secondary_follows(segment.start)
        self.ledger.throw_away(segment)
        resets = self._resets()
        freed = resets.from_secondary(segment.start, segment.ack)
        for reset in freed:
            self.finished = True
            self.ledger.release(reset)
        if resets.conflict:
            detail = "both sides reset the connection, at different numbers"
            self._diverge_control(segment.start, detail, segment, *resets.held)
        elif not freed and self.primary_isns and not (self.secondary_isns or self.secondary_followed):
            detail = "the secondary refused the connection"
            self._diverge_control(self.primary_isns[-1], detail, segment, *self.primary_syns)
        elif self._secondary_reset_passed():
            detail = "only the secondary resets the connection"
            self._diverge_control(segment.start, detail, segment, *self.unverified)

    def _resets(self) -> Resets:
        if self.resets is None:
            self.resets = Resets()
        return self.resets

    # The checkpoint, and the table's questions.

    def renew(self, synchronised: bool) -> None:
        """A checkpoint is done. `synchronised`: the secondary now is the primary."""
        self.epoch = self.ledger.epoch
        if not synchronised and self.floor.lost_input() and self.ledger.settings.pass_unsynchronised:
            self.mark_unsynchronised()
        resets = self.resets.take_held() if self.resets is not None else []
        for segment in self.take_held([*self._take_primary_syns(), *resets]):
            self.ledger.release(segment)
        self._forget_secondary_syn()
        self.go_on_from_primary_end()
        self.syn_matched = bool(self.primary_isns)
        if synchronised:
            self._synchronise()

    def go_on(self) -> None:
        """What waits of the primary is given up; what the secondary sent behind it is still to be compared."""
        uncompared, self.uncompared = self.uncompared, []
        end = self.secondary_end
        self.renew(False)
        self.uncompared, self.secondary_end = uncompared, end
        if self.cursor is not None:
            self._decide_below_cursor()

    def _synchronise(self) -> None:
        self.secondary_followed = self.primary_followed
        self.secondary_isns = tuple(map(serial_at, self.primary_isns))
        self.secondary_syn_ack = self.primary_syn_ack
        self.secondary_options = self.primary_options
        self.floor.synchronise()
        self.secondary_end = self.primary_end
        self.unsynchronised = False
        self.ledger.unsynchronised.discard(self)

    def mark_unsynchronised(self) -> None:
        self.unsynchronised = True
        self.ledger.unsynchronised.add(self)

    def note_primary(self, packet: TcpPacket) -> None:
        """Keep track of a connection that is not compared, for the checkpoint that synchronises it."""
        self.floor.primary_ack(packet)
        segment = Segment(packet, self._position(packet.sequence), None, None, self, 0.0)
        if packet.flags & RST or segment.end == segment.start:
            return  # no octets: a keep-alive stands below the next one, a RST may carry an explanation
        if self.primary_end is None or segment.end > self.primary_end:
            self.primary_end = self.near = segment.end

    def secondary_left(self) -> None:
        """The secondary has moved on to a newer connection: what it sent in this one is of no use."""
        self._forget_uncompared()
        self._forget_secondary_syn()

    @property
    def idle(self) -> bool:
        """Nothing of this connection waits."""
        return not (
            self.unverified
            or self.floor.above
            or self.uncompared
            or self.never_compared
            or self.primary_syns
            or self.secondary_syn is not None
            or (self.resets is not None and self.resets.held)
        )

    @property
    def closing(self) -> bool:
        """Half open, or both sides have ended it as far as can be seen from here: the first to be evicted."""
        return self.finished or not self.primary_followed

    @property
    def short_lived(self) -> bool:
        """Whether silence soon means that it is over; a server may wait for long behind its SYN-ACK."""
        return self.finished or not (self.primary_followed or self.syn_matched)
