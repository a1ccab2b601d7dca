"""Who waits, who may leave, and what was noticed: the books that all flows share.

1. Every primary packet given to the comparator ends in `released`, `revised`, `replaced` or `dropped`, once.
2. What waits is in `held` (primary) or `waiting` (secondary), in order of arrival, within limits.
3. SYNs get half of that room at most, and among themselves those of the last second: a flood of
   them leaves the rest to connections that are open, and does not lock out new ones.
4. One latched checkpoint request per guest: none is added until the last one is done.
"""

from __future__ import annotations

from weakref import WeakSet

from colo_bridge.compare.decisions import Counters, Divergence, Forward
from colo_bridge.compare.item import HalfOpen, Item, Owner, Token, Tokens
from colo_bridge.compare.settings import Settings
from colo_bridge.errors import InternalError

_SYN_PATIENCE = 1.0
"""Seconds that a SYN may wait where others want its room: then its sender repeats it (RFC 6298 §2.1)."""


class Ledger:
    __slots__ = (
        "_held_ever",
        "counters",
        "divergences",
        "dropped",
        "epoch",
        "forwarded",
        "held",
        "held_bytes",
        "held_syns",
        "latched",
        "owing",
        "released",
        "replaced",
        "revised",
        "settings",
        "synchronised_epoch",
        "unsynchronised",
        "waiting",
        "waiting_bytes",
        "waiting_syns",
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counters = Counters()
        self.released: list[Token] = []
        self.dropped: list[Token] = []
        self.revised: list[tuple[Token, bytes]] = []
        self.forwarded: list[Forward] = []
        self.replaced: list[Token] = []
        self.divergences: list[Divergence] = []
        self.held: dict[Item, int] = {}
        """The primary's that wait, each with its number in order of arrival."""
        self.held_bytes = 0
        self._held_ever = 0
        self.owing: dict[Owner, None] = {}
        """The connections that owe the client an ACK or a window, though nothing of them may wait."""
        self.waiting: dict[Item, None] = {}
        self.waiting_bytes = 0
        # Those among `held` and `waiting` that are SYNs without their equal, and whose they are.
        self.held_syns: dict[Item, HalfOpen] = {}
        self.waiting_syns: dict[Item, HalfOpen] = {}
        # Connections that are not compared; each leaves with the last that refers to it.
        self.unsynchronised: WeakSet[HalfOpen] = WeakSet()
        self.latched = False
        self.epoch = 0
        self.synchronised_epoch = 0

    # The primary's packets.

    def release(self, item: Item) -> None:
        """Let a packet leave, whether it was held or has only just come."""
        if item in self.held:
            del self.held[item]
            self.held_bytes -= item.length
        self.pass_on(item.token, item.length)

    def revise(self, item: Item, packet: bytes) -> None:
        """Let a pure ACK leave as another packet, with less acknowledged or a smaller window."""
        if item in self.held:
            del self.held[item]
            self.held_bytes -= item.length
        token = item.token
        if type(token) is Tokens:
            token.released = True
            token, *others = token.each
            for other in others:
                self.drop(other)
        self.revised.append((token, packet))
        self.counters.released_packets += 1
        self.counters.released_bytes += item.length
        self.counters.revised_acknowledgments += 1

    def forward(self, packet: Forward) -> None:
        """Send a packet of our own."""
        self.forwarded.append(packet)
        self.counters.forwarded_packets += 1
        self.counters.forwarded_bytes += len(packet.packet)

    def replace(self, item: Item) -> None:
        """Drop a packet that was held, and of which everything was forwarded."""
        del self.held[item]
        self.held_bytes -= item.length
        token = item.token
        if type(token) is Tokens:
            token.released = False
        tokens = token.each if type(token) is Tokens else [token]
        self.replaced += tokens
        self.counters.replaced_packets += len(tokens)

    def pass_on(self, token: Token, length: int) -> None:
        counters = self.counters
        if type(token) is Tokens:
            token.released = True
            self.released += token.each
            counters.released_packets += len(token.each)
            counters.released_bytes += token.length
            return
        self.released.append(token)
        counters.released_packets += 1
        counters.released_bytes += length

    def exempt(self, token: Token, length: int) -> None:
        """Let a packet leave that is not compared at all; the caller has counted why."""
        self.pass_on(token, length)

    def abandon(self, owner: Owner) -> None:
        """What waits in a flow is not compared any more: the primary's leaves, the secondary's is forgotten."""
        owner.renew(False)

    def hold(self, item: Item) -> bool:
        """Keep a packet waiting; False: the limit is reached, and the packet was dropped instead."""
        held = self.held
        if item in held:
            return True
        held_bytes = self.held_bytes + item.length
        if len(held) >= self.settings.held_packets or held_bytes > self.settings.held_bytes:
            self.counters.held_limit_drops += 1
            self.drop(item.token)
            return False
        self._held_ever = held[item] = self._held_ever + 1
        self.held_bytes = held_bytes
        counters = self.counters
        counters.held_packets_most = max(counters.held_packets_most, len(held))
        counters.held_bytes_most = max(counters.held_bytes_most, held_bytes)
        return True

    def hold_syn(self, syn: Item, connection: HalfOpen) -> bool:
        """Keep a SYN waiting for the secondary's; False: there was no room, and it was dropped instead."""
        if len(self.held_syns) >= max(1, self.settings.held_packets // 2) and not _give_up_oldest(
            self.held_syns, syn.arrived
        ):
            self.counters.held_limit_drops += 1
            self.drop(syn.token)
            return False
        if not self.hold(syn):
            return False
        self.held_syns[syn] = connection
        return True

    def drop(self, token: Token) -> None:
        if type(token) is Tokens:
            token.released = False
            for each in token.each:
                self.drop(each)
            return
        self.dropped.append(token)
        self.counters.dropped_packets += 1

    # The secondary's packets.

    def keep(self, item: Item) -> bool:
        """Remember a secondary packet for later; False: the limit is reached."""
        if item in self.waiting:
            return True
        waiting_bytes = self.waiting_bytes + item.length
        if len(self.waiting) >= self.settings.secondary_packets or waiting_bytes > self.settings.secondary_bytes:
            self.counters.secondary_limit_drops += 1
            return False
        self.waiting[item] = None
        self.waiting_bytes = waiting_bytes
        return True

    def keep_syn(self, syn: Item, connection: HalfOpen) -> bool:
        """Remember a SYN until the primary's comes; False: there is no room."""
        if len(self.waiting_syns) >= max(1, self.settings.secondary_packets // 2) and not _give_up_oldest(
            self.waiting_syns, syn.arrived
        ):
            self.counters.secondary_limit_drops += 1
            return False
        if not self.keep(syn):
            return False
        self.waiting_syns[syn] = connection
        return True

    def throw_away(self, item: Item) -> None:
        """A secondary packet has served, or is of no use."""
        if item in self.waiting:
            del self.waiting[item]
            self.waiting_bytes -= item.length
        self.counters.thrown_away_packets += 1
        self.counters.thrown_away_bytes += item.length

    def withdraw(self, item: Item) -> None:
        """Take what waits, of either side, out of the books, undecided."""
        if item in self.held:
            del self.held[item]
            self.held_bytes -= item.length
        else:
            del self.waiting[item]
            self.waiting_bytes -= item.length

    # Half-open connections.

    def give_up_syn(self, syn: Item) -> None:
        """A SYN that waits makes room."""
        self.syn_is_decided(syn)
        self.counters.half_open_drops += 1
        if syn in self.held:
            del self.held[syn]
            self.held_bytes -= syn.length
            self.drop(syn.token)
        else:
            self.throw_away(syn)

    def syn_is_decided(self, syn: Item) -> None:
        """A SYN has met its equal, or is given up."""
        self.held_syns.pop(syn, None)
        self.waiting_syns.pop(syn, None)

    def give_up_half_open(self, now: float) -> bytes | None:
        """The flow whose SYN waited the longest, which now is forgotten; None: none has waited long enough."""
        for syns in (self.held_syns, self.waiting_syns):
            oldest = next(iter(syns.values()), None)
            if oldest is not None and _give_up_oldest(syns, now):
                return oldest.flow
        return None

    # What was noticed.

    def diverge(self, divergence: Divergence) -> None:
        self.counters.divergences += 1
        self.divergences.append(divergence)
        if not self.latched:
            self.latched = True
            self.counters.checkpoint_requests += 1

    def goes_on_behind(self, _item: Item, _divergence: Divergence, /) -> bool:
        """Whether unequal bytes in a primary packet are only noted, and the comparison goes on behind it."""
        return False

    def check_timeout(self, now: float) -> None:
        """Report the oldest packet that waits for longer than the compare timeout."""
        if self.latched:
            return
        for queue in (self.held, self.waiting):
            oldest = next(iter(queue), None)
            if oldest is not None and now - oldest.arrived > self.settings.timeout:
                self.diverge(oldest.owner.why_silent(oldest))
                return

    def renew(self, synchronised: bool) -> None:
        """A checkpoint is done: every flow that waits starts anew, in order of its oldest packet.

        Flows of which nothing waits notice the new epoch with their next packet.
        """
        self.epoch += 1
        if synchronised:
            self.synchronised_epoch = self.epoch
        self.counters.released_by_checkpoint_packets += self._decide_all(synchronised)
        self.counters.checkpoints_done += 1
        self.latched = False

    def give_up_comparing(self) -> None:
        """Everything that waits leaves, or is forgotten, because there is nobody to compare it with."""
        self.counters.released_uncompared_packets += self._decide_all(True)
        self.owing.clear()
        self.latched = False

    def _decide_all(self, synchronised: bool) -> int:
        """How many packets of the primary left."""
        before = self.counters.released_packets
        for queue in (self.held, self.waiting):
            while queue:
                oldest = next(iter(queue))
                oldest.owner.renew(synchronised)
                if oldest in queue:
                    raise InternalError("a checkpoint did not decide a packet that waits")
        return self.counters.released_packets - before


def _give_up_oldest(syns: dict[Item, HalfOpen], now: float) -> bool:
    """Forget the half-open connection that waits the longest, if that is long enough."""
    oldest = next(iter(syns), None)
    if oldest is None or now - oldest.arrived < _SYN_PATIENCE:
        return False
    syns[oldest].give_up()
    return True
