"""How one TCP connection opens: the SYNs of both sides, and to which opening they belong.

1. The secondary's SYN matches whatever its number, which the client never learns.
2. Before anything follows a side's SYN a newer ISN replaces it (SYN cookies); afterwards a SYN
   with a new number belongs to the next connection. Which of several SYNs of the primary the client
   answered is told by what follows first, on either side.
3. Two SYNs that offer the client different options are a divergence.
"""

from __future__ import annotations

from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.reset import Resets
from colo_bridge.compare.segment import Segment
from colo_bridge.compare.streams import Streams
from colo_bridge.wire.options import SynOptions
from colo_bridge.wire.packet import ACK, FIN, RST, TcpPacket
from colo_bridge.wire.serial import Position, Serial, position_near, serial_at

_REMEMBERED_ISNS = 4
_MOST_SYN_DATA = 0xFFFF
"""RFC 7413: one replica may accept data that came with the client's SYN, the other not."""

_MOST_APART = 1 << 24
"""Bytes that one replica may have got more than the other; connections are mostly further apart."""


class Opening(Streams):
    """The SYNs of a connection, in front of its streams."""

    __slots__ = (
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

    def __init__(self, flow: bytes, ledger: Ledger) -> None:
        super().__init__(flow, ledger)
        self.primary_syns: tuple[Segment, ...] = ()
        """Those that wait for the secondary's."""
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

    # The SYNs.

    def _primary_syn(self, segment: Segment) -> None:
        self.floor.note_primary_syn(segment)
        if segment.start not in self.primary_isns:
            self.primary_isns = (*self.primary_isns, segment.start)[-_REMEMBERED_ISNS:]
            self.primary_syn_ack = segment.ack
            self.primary_options = segment.syn_options()
            # Whatever the secondary sent behind its SYN has told already which one counts.
            if not (self.syn_matched and self.secondary_followed):
                self.primary_end = segment.end
                self.near = segment.start
            if self.syn_matched:
                if not self.secondary_followed:
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
        elif any(resets.secondary for resets in self._all_resets):
            self._diverge_control(segment.start, "the secondary refused the connection", segment)

    def _secondary_syn(self, segment: Segment) -> None:
        self.floor.windows.note_secondary_syn(segment)
        repeated = self.syn_matched or bool(self.secondary_isns)
        if not self.secondary_isns or not self.secondary_followed:
            self._note_secondary_syn(segment)
        if repeated:
            self._secondary_repeats(segment)
            self.ledger.throw_away(segment)
            return
        segment.retain()
        self.secondary_syn = segment
        if self.primary_isns:
            self._match_syns()
        elif refusals := [held for resets in self._all_resets for held in resets.held]:
            self._diverge_control(segment.start, "the primary refused the connection", segment, *refusals)
        elif not self.ledger.keep_syn(segment, self):
            self._forget_secondary_syn()

    def _note_secondary_syn(self, segment: Segment) -> None:
        self.secondary_syn_ack = segment.ack
        number = serial_at(segment.start)
        # Again with one of its own numbers, or with the primary's, it is one that was seen before.
        if number in self.secondary_isns or (self.secondary_isns and segment.start in self.primary_isns):
            return
        self.secondary_isns = (*self.secondary_isns, number)[-_REMEMBERED_ISNS:]
        self.secondary_options = segment.syn_options()
        if self.syn_matched:
            self._compare_options(None, segment)

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
            self.secondary_syn, self.secondary_isns = None, ()

    def _forget_secondary_syn(self) -> None:
        """A SYN of the secondary that the primary's has not met matches nothing any more."""
        if self.secondary_syn is not None:
            self.ledger.syn_is_decided(self.secondary_syn)
            self.ledger.throw_away(self.secondary_syn)
            self.secondary_syn, self.secondary_isns = None, ()

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

    def _primary_follows(self, start: Position) -> None:
        """The first segment of the primary behind its SYN."""
        self.primary_followed = True
        self.primary_options = self.secondary_options = None
        self._choose_isn(start)

    def _secondary_follows(self, start: Position) -> None:
        """The first segment of the secondary behind its SYN; the primary's, if it has come, has told its number."""
        self.secondary_followed = True
        if not self.primary_followed:
            self._choose_isn(start)

    def _choose_isn(self, start: Position) -> None:
        """With SYN cookies several SYNs may be out: the first segment behind tells which one the client answered."""
        if len(self.primary_isns) > 1 and self.cursor is not None:
            isn = min(self.primary_isns, key=lambda isn: abs(start - isn - 1))
            if isn != self.origin:
                self._begin(isn)
                self.primary_end = Position(isn + 1)

    # Which connection a SYN belongs to.

    def opens_anew_for_primary(self, syn: TcpPacket) -> bool:
        """Whether a SYN of the primary belongs to the next connection."""
        if not self.primary_followed and self.primary_isns and _answers(syn, self.primary_syn_ack):
            return False  # a newer ISN replaces it
        return syn.sequence not in map(serial_at, self.primary_isns)

    def opens_anew_for_secondary(self, syn: TcpPacket) -> bool:
        """Whether a SYN of the secondary belongs to the next connection."""
        if not self.secondary_isns:
            was_here = self.secondary_followed or self.secondary_was_reset
            return was_here or not self.may_open(bool(self.primary_isns)) or self.is_another_opening(syn)
        if not self.secondary_followed and _answers(syn, self.secondary_syn_ack):
            return False  # a newer ISN replaces it
        return syn.sequence not in (*self.secondary_isns, *map(serial_at, self.primary_isns))

    @property
    def _all_resets(self) -> list[Resets[Position] | Resets[Serial]]:
        return [resets for resets in (self.resets, self.refusals) if resets is not None]

    @property
    def secondary_was_reset(self) -> bool:
        return any(resets.secondary or resets.matched for resets in self._all_resets)

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

    def may_go_on(self, packet: TcpPacket) -> bool:
        """Whether a secondary whose SYN was not seen may be here, by its ACK, and not in a connection before.

        Where the primary opened it may refuse, or go on where a checkpoint let the primary get here alone.
        """
        highest = self.floor.primary
        if self.primary_isns and not (self.syn_matched or packet.flags & RST):
            return False
        if highest is None or not packet.flags & ACK:
            return True
        return abs(position_near(packet.acknowledgment, highest) - highest) <= _MOST_APART

    @property
    def _syn_ack(self) -> Position | None:
        return self.primary_syn_ack if self.primary_syn_ack is not None else self.secondary_syn_ack


def _answers(syn: TcpPacket, ack: Position | None) -> bool:
    """Whether a SYN acknowledges the same as one before: both belong to the same opening."""
    if ack is None or not syn.flags & ACK:
        return ack is None and not syn.flags & ACK
    return syn.acknowledgment == serial_at(ack)
