"""Fragments of IP packets, put together on each side, to be compared as the packet that they make.

1. The primary's fragments are held, and leave or are dropped as one, in order of arrival.
2. What overlaps or exceeds a limit is refused whole, with what is still to come of it (RFC 5722).
3. A repeat of a fragment shares the fate of its packet.

A packet of the primary that lacks fragments is held like any other: it times out, and a checkpoint releases
what there is of it.  The secondary's is thrown away, before it could time out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from colo_bridge.compare.assembly import Assembly
from colo_bridge.compare.decisions import Divergence, Reason
from colo_bridge.compare.item import Item, Token, Tokens
from colo_bridge.compare.ledger import Ledger
from colo_bridge.wire.flow import flow_of_fragments
from colo_bridge.wire.frame import parse_reassembled
from colo_bridge.wire.packet import Datagram, Fragment, MalformedPacket, TcpPacket

_REMEMBERED_WHOLE, _REPEATED_WITHIN = 64, 0.5
"""Packets whose fragments are known again, and the seconds: identifications come round soon (RFC 4963)."""
_REMEMBERED_REFUSED = 1_024


@dataclass(frozen=True, slots=True)
class Whole:
    """A packet that has come in fragments; `token` is None for the secondary's."""

    packet: TcpPacket | Datagram
    token: Tokens | None


class _Piece(Item):
    """A fragment that waits for the others."""

    __slots__ = ()

    def __init__(self, fragment: Fragment, token: Token, owner: _Incomplete, now: float) -> None:
        self.token = token
        self.length = fragment.length
        self.owner = owner
        self.arrived = now


class _Incomplete:
    """A packet of one side that lacks fragments; `pieces` are in order of arrival, repeats among them."""

    __slots__ = ("assembly", "datagram", "pieces", "side")

    def __init__(self, datagram: bytes, side: Fragments) -> None:
        self.datagram = datagram
        self.side = side
        self.assembly = Assembly()
        self.pieces: list[_Piece] = []

    def renew(self, _synchronised: bool, /) -> None:
        """A checkpoint of either kind is done."""
        self.side.give_up(self)

    def why_silent(self, _item: Item) -> Divergence:
        flow = flow_of_fragments(self.datagram)
        return Divergence(Reason.TIMEOUT, flow, "the primary has not sent all fragments of a packet")


_Value = TypeVar("_Value")


class _Memory(Generic[_Value]):
    """What was decided lately about packets, by key: bounded in number and in time."""

    __slots__ = ("_known", "_most", "_seconds")

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._known: dict[bytes, tuple[float, _Value]] = {}

    def remember(self, datagram: bytes, value: _Value, now: float) -> None:
        self._known.pop(datagram, None)
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[datagram] = (now, value)

    def find(self, datagram: bytes, now: float) -> _Value | None:
        found = self._known.get(datagram)
        return found[1] if found is not None and now - found[0] < self._seconds else None


class Fragments(ABC):
    """The fragmented packets of one side; those that lack fragments in order of their oldest one."""

    def __init__(self, ledger: Ledger) -> None:
        settings = ledger.settings
        self._ledger = ledger
        self._settings = settings
        self._seconds = min(settings.reassembly, settings.timeout)
        self._incomplete: dict[bytes, _Incomplete] = {}
        self._whole: _Memory[tuple[bytes, Tokens | None]] = _Memory(_REMEMBERED_WHOLE, _REPEATED_WITHIN)
        self._refused: _Memory[bool] = _Memory(_REMEMBERED_REFUSED, self._seconds)

    def add(self, fragment: Fragment, token: Token, now: float) -> Whole | None:
        """Take a fragment in; the packet, if nothing lacks any more."""
        datagram = fragment.datagram
        incomplete = self._incomplete.get(datagram)
        if incomplete is None:
            if self._refused.find(datagram, now):
                self._refuse(token, fragment.length)
                return None
            whole = self._whole.find(datagram, now)
            if whole is not None and _is_part(fragment, whole[0]):
                self._repeat(whole[1], token, fragment.length)
                return None
            incomplete = self._incomplete[datagram] = _Incomplete(datagram, self)
        piece = _Piece(fragment, token, incomplete, now)
        if not self._accept(incomplete, fragment, piece, now):
            return None
        incomplete.pieces.append(piece)
        return self._complete(incomplete, now) if incomplete.assembly.is_whole else None

    def give_up(self, incomplete: _Incomplete) -> None:
        """What is incomplete will stay so, and that is decided."""
        del self._incomplete[incomplete.datagram]
        self._decide_incomplete(incomplete.pieces)

    def _accept(self, incomplete: _Incomplete, fragment: Fragment, piece: _Piece, now: float) -> bool:
        """Let a fragment join its packet; False: the whole packet is refused."""
        counters, settings = self._ledger.counters, self._settings
        if len(self._incomplete) > settings.incomplete_packets or len(incomplete.pieces) >= settings.fragments:
            counters.fragment_limit_drops += 1
        elif not incomplete.assembly.add(fragment):
            counters.overlapping_fragments += 1
        elif self._wait(piece):
            return True
        else:
            self._refuse_all(incomplete, now)
            return False
        self._refuse_all(incomplete, now)
        self._refuse(piece.token, piece.length)
        return False

    def _refuse_all(self, incomplete: _Incomplete, now: float) -> None:
        del self._incomplete[incomplete.datagram]
        self._refused.remember(incomplete.datagram, True, now)
        for piece in incomplete.pieces:
            self._ledger.withdraw(piece)
            self._refuse(piece.token, piece.length)

    def _complete(self, incomplete: _Incomplete, now: float) -> Whole | None:
        datagram, assembly = incomplete.datagram, incomplete.assembly
        del self._incomplete[datagram]
        for piece in incomplete.pieces:
            self._ledger.withdraw(piece)
        body = assembly.body()
        token = self._put_together(incomplete.pieces, len(assembly.header) + len(body))
        self._whole.remember(datagram, (body, token), now)
        try:
            return Whole(parse_reassembled(datagram, assembly.header, body), token)
        except MalformedPacket:
            self._malformed(token)
            return None

    @abstractmethod
    def _wait(self, piece: _Piece) -> bool:
        """Let a fragment wait; False: a limit is reached, and it was refused."""

    @abstractmethod
    def _refuse(self, token: Token, length: int) -> None:
        """Decide about a fragment that does not wait (any more)."""

    @abstractmethod
    def _repeat(self, tokens: Tokens | None, token: Token, length: int) -> None:
        """Decide about a fragment of a packet that was whole before."""

    @abstractmethod
    def _decide_incomplete(self, pieces: list[_Piece]) -> None:
        """Decide about fragments that wait in vain."""

    @abstractmethod
    def _put_together(self, pieces: list[_Piece], length: int) -> Tokens | None:
        """What stands for a packet of this length that these fragments make."""

    @abstractmethod
    def _malformed(self, tokens: Tokens | None) -> None:
        """Decide about a packet that makes no sense."""


class PrimaryFragments(Fragments):
    def _wait(self, piece: _Piece) -> bool:
        return self._ledger.hold(piece)

    def _refuse(self, token: Token, _length: int) -> None:
        self._ledger.drop(token)

    def _repeat(self, tokens: Tokens | None, token: Token, length: int) -> None:
        assert tokens is not None
        if tokens.released:
            self._ledger.counters.retransmissions += 1
            self._ledger.pass_on(token, length)
        elif tokens.released is None and len(tokens.each) < self._settings.fragments:
            tokens.each.append(token)
            tokens.length += length
        else:
            self._ledger.counters.fragment_limit_drops += tokens.released is None
            self._ledger.drop(token)

    def _decide_incomplete(self, pieces: list[_Piece]) -> None:
        for piece in pieces:
            self._ledger.release(piece)

    def _put_together(self, pieces: list[_Piece], _length: int) -> Tokens:
        self._ledger.counters.reassembled_primary += 1
        return Tokens([piece.token for piece in pieces], sum(piece.length for piece in pieces))

    def _malformed(self, tokens: Tokens | None) -> None:
        self._ledger.counters.malformed_primary += 1
        self._ledger.drop(tokens)


class SecondaryFragments(Fragments):
    def expire(self, now: float) -> None:
        """Throw away what has lacked fragments for too long; call it before looking for timeouts."""
        for incomplete in list(self._incomplete.values()):
            if now - incomplete.pieces[0].arrived < self._seconds:
                break
            self.give_up(incomplete)

    def _wait(self, piece: _Piece) -> bool:
        if self._ledger.keep(piece):
            return True
        self._refuse(None, piece.length)
        return False

    def _refuse(self, _token: Token, length: int) -> None:
        self._throw_away(1, length)

    def _repeat(self, _tokens: Tokens | None, _token: Token, length: int) -> None:
        self._throw_away(1, length)

    def _decide_incomplete(self, pieces: list[_Piece]) -> None:
        self._ledger.counters.incomplete_fragments += len(pieces)
        for piece in pieces:
            self._ledger.throw_away(piece)

    def _put_together(self, pieces: list[_Piece], length: int) -> None:
        self._ledger.counters.reassembled_secondary += 1
        # The whole packet is thrown away later, and counts as one of them then.
        self._throw_away(len(pieces) - 1, sum(piece.length for piece in pieces) - length)

    def _malformed(self, _tokens: Tokens | None) -> None:
        self._ledger.counters.malformed_secondary += 1

    def _throw_away(self, packets: int, length: int) -> None:
        self._ledger.counters.thrown_away_packets += packets
        self._ledger.counters.thrown_away_bytes += length


def _is_part(fragment: Fragment, body: bytes) -> bool:
    """Whether a packet with this body has the fragment at its place."""
    end = fragment.offset + fragment.end - fragment.body
    part = fragment.buffer[fragment.body : fragment.end]
    return body[fragment.offset : end] == part and fragment.is_last == (end == len(body))
