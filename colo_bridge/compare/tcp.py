"""One TCP connection: its opening, its resets, and who sent what of its two streams.

1. The secondary's SYN matches whatever its number, which the client never learns.
2. Before anything follows a side's SYN a newer ISN replaces it (SYN cookies); afterwards a SYN
   with a new number belongs to the next connection.
3. Two SYNs that offer the client different options are a divergence.
4. A RST before a side's SYN refuses what the other side opened: a divergence.
"""

from __future__ import annotations

from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.compare.item import Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.reset import Resets
from colo_bridge.compare.segment import Segment
from colo_bridge.compare.streams import Streams
from colo_bridge.wire.options import SynOptions
from colo_bridge.wire.packet import ACK, FIN, RST, SYN, TcpPacket
from colo_bridge.wire.serial import Position, Serial, first_position, position_near, serial_at

_REMEMBERED_ISNS = 4
_MOST_SYN_DATA = 0xFFFF
"""RFC 7413: one replica may accept data that came with the client's SYN, the other not."""


class TcpConnection(Streams):
    """Two sides that stand in the same connection; `generation` orders those of one flow."""

    __slots__ = (
        "__weakref__",
        "epoch",
        "generation",
        "primary_followed",
        "primary_options",
        "primary_syn_ack",
        "primary_syns",
        "secondary_followed",
        "secondary_options",
        "secondary_syn",
        "secondary_syn_ack",
        "syn_matched",
    )

    def __init__(self, flow: bytes, ledger: Ledger, generation: int) -> None:
        super().__init__(flow, ledger)
        self.generation = generation
        self.epoch = ledger.epoch
        self.primary_syns: tuple[Segment, ...] = ()
        self.primary_syn_ack: Position | None = None
        self.secondary_syn: Segment | None = None
        """A SYN of the secondary that waits for the primary's."""
        self.secondary_syn_ack: Position | None = None
        self.syn_matched = False
        # What the newest SYN of either side offers; forgotten when something follows it.
        self.primary_options: SynOptions | None = None
        self.secondary_options: SynOptions | None = None
        self.primary_followed = False
        self.secondary_followed = False

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
                self.primary_followed = True
                self.primary_options = self.secondary_options = None
                self._choose_isn(segment.start)
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
            self.secondary_followed = True
            self._secondary_octets(segment)
        self.floor.release()

    def _position(self, number: Serial) -> Position:
        near = self.cursor if self.cursor is not None else self.near
        if near is None:
            self.near = first_position(number)
            return self.near
        return position_near(number, near)

    # The handshake.

    def _primary_syn(self, segment: Segment) -> None:
        self.floor.windows.note_primary_syn(segment)
        if segment.start not in self.primary_isns:
            self.primary_isns = [*self.primary_isns, segment.start][-_REMEMBERED_ISNS:]
            self.primary_syn_ack = segment.ack
            self.primary_end = segment.end
            self.near = segment.start
            self.primary_options = segment.syn_options()
            if self.syn_matched:
                self._begin(segment.start)
                self._compare_options(segment, None)
        if self.syn_matched:
            self.ledger.counters.retransmissions += 1
            self._verified_syn(segment)
            return
        segment.retain()
        if not self.ledger.hold_syn(segment, self):
            return
        self.primary_syns = (*self.primary_syns, segment)
        if self.secondary_syn is not None:
            self._match_syns()
        elif self.resets is not None and self.resets.secondary:
            self._diverge_control(segment.start, "the secondary refused the connection")

    def _secondary_syn(self, segment: Segment) -> None:
        self.floor.windows.note_secondary_syn(segment)
        repeated = self.syn_matched or self.secondary_isn is not None
        if self.secondary_isn is None or not self.secondary_followed:
            self._note_secondary_syn(segment)
        if repeated:
            self._secondary_repeats(segment)
            self.ledger.throw_away(segment)
            return
        segment.retain()
        self.secondary_syn = segment
        if self.primary_isns:
            self._match_syns()
        elif self.resets is not None and self.resets.held:
            self._diverge_control(segment.start, "the primary refused the connection")
        elif not self.ledger.keep_syn(segment, self):
            self._forget_secondary_syn()

    def _note_secondary_syn(self, segment: Segment) -> None:
        number = serial_at(segment.start)
        # With the primary's number, or again with its own, it is one that was seen before.
        if number != self.secondary_isn and segment.start not in self.primary_isns:
            self.secondary_options = segment.syn_options()
            if self.syn_matched:
                self._compare_options(None, segment)
        self.secondary_isn = number
        self.secondary_syn_ack = segment.ack

    def _match_syns(self) -> None:
        """Both sides sent their SYN: they are the same octet, whatever their numbers."""
        syn, self.secondary_syn = self.secondary_syn, None
        assert syn is not None
        self.ledger.syn_is_decided(syn)
        self.syn_matched = True
        self._begin(self.primary_isns[-1])
        self._compare_options(self.primary_syns[-1] if self.primary_syns else None, syn)
        if not self.syn_matched:
            self.ledger.throw_away(syn)
            return
        self._place_secondary_syn_data(syn)
        for segment in self._take_primary_syns():
            self._verified_syn(segment)

    def _take_primary_syns(self) -> tuple[Segment, ...]:
        syns, self.primary_syns = self.primary_syns, ()
        for segment in syns:
            self.ledger.syn_is_decided(segment)
        return syns

    def give_up(self) -> None:
        """Forget the SYNs that wait, to make room: a guest without an answer sends its SYN again."""
        for segment in self._take_primary_syns():
            self.ledger.give_up_syn(segment)
        if self.secondary_syn is not None:
            self.ledger.give_up_syn(self.secondary_syn)
            self.secondary_syn = self.secondary_isn = None

    def _compare_options(self, primary: Segment | None, secondary: Segment | None) -> None:
        """SYNs with different offers do not match: after a failover the client would be held to the other one."""
        ours, theirs = self.primary_options, self.secondary_options
        if ours is None or theirs is None or ours == theirs:
            return
        self.syn_matched = False
        self._diverge(
            Divergence(
                Reason.OPTIONS,
                self.flow,
                f"the primary's SYN offers {ours}, the secondary's {theirs}",
                serial_at(self.primary_isns[-1]),
                primary_packet=None if primary is None else primary.packet(),
                secondary_packet=None if secondary is None else secondary.packet(),
            )
        )

    def _begin(self, isn: Position) -> None:
        self.origin = self.near = isn
        self.cursor = Position(isn + 1)

    def _verified_syn(self, segment: Segment) -> None:
        """The SYN itself is equal; data that came with it is compared like any other."""
        if segment.end == segment.start + 1:
            self.floor.settle_pure(segment)
        else:
            self._primary_octets(segment)

    def _place_secondary_syn_data(self, syn: Segment) -> None:
        if syn.data_end == syn.data_start and not syn.flags & FIN:
            self.ledger.throw_away(syn)
            return
        syn.move_to(self.primary_isns[-1])
        self._secondary_octets(syn)

    def _choose_isn(self, start: Position) -> None:
        """With SYN cookies several SYNs may be out: the first segment behind tells which one counts."""
        if len(self.primary_isns) > 1 and self.cursor is not None:
            isn = min(self.primary_isns, key=lambda isn: abs(start - isn - 1))
            self._begin(isn)
            self.primary_end = Position(isn + 1)

    def opens_anew_for_primary(self, syn: TcpPacket) -> bool:
        """Whether a SYN of the primary belongs to the next connection."""
        if not self.primary_followed and self.primary_isns and _answers(syn, self.primary_syn_ack):
            return False  # a newer ISN replaces it
        return all(serial_at(isn) != syn.sequence for isn in self.primary_isns)

    def opens_anew_for_secondary(self, syn: TcpPacket) -> bool:
        """Whether a SYN of the secondary belongs to the next connection."""
        if self.secondary_isn is None:
            return self.secondary_followed or self.secondary_was_reset or not self.may_open(bool(self.primary_isns))
        if not self.secondary_followed and _answers(syn, self.secondary_syn_ack):
            return False  # a newer ISN replaces it
        return syn.sequence != self.secondary_isn and all(serial_at(isn) != syn.sequence for isn in self.primary_isns)

    @property
    def secondary_was_reset(self) -> bool:
        return self.resets is not None and bool(self.resets.secondary or self.resets.matched)

    def may_open(self, other_opened: bool) -> bool:
        """Whether a side's first SYN belongs here: the other side opened this connection too, or refused it."""
        if self.unsynchronised:
            return False
        return other_opened or not (self.primary_followed or self.secondary_followed)

    def is_this_opening(self, syn: TcpPacket) -> bool:
        """Whether a SYN of one side answers the same SYN of the client as the other side's did here."""
        ack = self._syn_ack
        return ack is not None and bool(syn.flags & ACK) and syn.acknowledgment == serial_at(ack)

    def is_another_opening(self, syn: TcpPacket) -> bool:
        """Whether it answers another one: the two ACKs of one opening differ by data in the client's SYN at most."""
        ack = self._syn_ack
        if ack is None or not syn.flags & ACK:
            return False
        return abs(position_near(syn.acknowledgment, ack) - ack) > _MOST_SYN_DATA

    @property
    def _syn_ack(self) -> Position | None:
        return self.primary_syn_ack if self.primary_syn_ack is not None else self.secondary_syn_ack

    # Resets.

    def _primary_reset(self, segment: Segment) -> None:
        self.primary_followed = self.primary_followed or bool(self.primary_isns)
        resets = self._resets()
        if resets.from_primary(segment):
            self.finished = True
            self.ledger.release(segment)
            return
        segment.retain()
        if not self.ledger.hold(segment):
            resets.held.remove(segment)
        elif resets.conflict:
            self._diverge_control(segment.start, "both sides reset the connection, at different numbers")
        elif self.secondary_isn is not None and not self.primary_isns:
            self._diverge_control(segment.start, "the primary refused the connection")
        elif self._primary_reset_passed():
            self._diverge_control(segment.start, "only the primary resets the connection")

    def _secondary_reset(self, segment: Segment) -> None:
        self.secondary_followed = self.secondary_followed or self.secondary_isn is not None
        self.ledger.throw_away(segment)
        resets = self._resets()
        freed = resets.from_secondary(segment.start, segment.ack)
        for reset in freed:
            self.finished = True
            self.ledger.release(reset)
        if resets.conflict:
            self._diverge_control(segment.start, "both sides reset the connection, at different numbers")
        elif not freed and self.primary_isns and self.secondary_isn is None and not self.secondary_followed:
            self._diverge_control(self.primary_isns[-1], "the secondary refused the connection")
        elif self._secondary_reset_passed():
            self._diverge_control(segment.start, "only the secondary resets the connection")

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

    def _synchronise(self) -> None:
        self.secondary_followed = self.primary_followed
        self.secondary_isn = serial_at(self.primary_isns[-1]) if self.primary_isns else None
        self.secondary_syn_ack = self.primary_syn_ack
        self.secondary_options = self.primary_options
        self.floor.synchronise()
        self.secondary_end = self.primary_end
        self.unsynchronised = False
        self.ledger.unsynchronised.discard(self)

    def mark_unsynchronised(self) -> None:
        self.unsynchronised = True
        self.ledger.unsynchronised.add(self)

    def _forget_secondary_syn(self) -> None:
        """A SYN of the secondary that the primary's has not met matches nothing any more."""
        if self.secondary_syn is not None:
            self.ledger.syn_is_decided(self.secondary_syn)
            self.ledger.throw_away(self.secondary_syn)
            self.secondary_syn = self.secondary_isn = None

    def note_primary(self, packet: TcpPacket) -> None:
        """Keep track of a connection that is not compared, for the checkpoint that synchronises it."""
        self.floor.primary_ack(packet)
        end = Segment(packet, self._position(packet.sequence), None, None, self, 0.0).end
        if self.primary_end is None or end > self.primary_end:
            self.primary_end = self.near = end

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


def _answers(syn: TcpPacket, ack: Position | None) -> bool:
    """Whether a SYN acknowledges the same as one before: both belong to the same opening."""
    if ack is None or not syn.flags & ACK:
        return ack is None and not syn.flags & ACK
    return syn.acknowledgment == serial_at(ack)
