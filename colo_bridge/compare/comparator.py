"""The comparator of one guest: packets of both sides in, decisions out.

1. It is pure: no sockets, no clock; `now` (seconds, any epoch) is an argument.
2. Every primary packet is named by a token that comes back once: in `released`, in `dropped`, or, only where
   `Settings.cure_after` is set, in `revised` with the IP packet that leaves instead or in `replaced` when all of
   it has left in packets of `forwarded`.
3. `divergences` tells what differed; `latched` says that a checkpoint is asked for.

The caller takes these lists and `divergences` whenever it likes and clears them.
"""

from __future__ import annotations

from colo_bridge.compare.datagram import DatagramFlow
from colo_bridge.compare.decisions import Divergence, Forward
from colo_bridge.compare.flow import MOVES, TcpFlow
from colo_bridge.compare.fragments import PrimaryFragments, SecondaryFragments
from colo_bridge.compare.item import Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.passthrough import Passthrough
from colo_bridge.compare.rule import PassthroughFlow, opener_of
from colo_bridge.compare.settings import Settings
from colo_bridge.compare.table import Table
from colo_bridge.compare.tcp import TcpConnection
from colo_bridge.wire.frame import ethernet_header
from colo_bridge.wire.packet import CutShort, Datagram, Fragment, NotCompared, Parsed, TcpPacket


class Comparator:
    __slots__ = (
        "_counters",
        "_flows",
        "_ledger",
        "_primary_fragments",
        "_secondary_fragments",
        "_settings",
        "_table",
        "divergences",
        "dropped",
        "forwarded",
        "passthrough",
        "released",
        "replaced",
        "revised",
    )

    def __init__(self, settings: Settings | None = None, ledger: Ledger | None = None) -> None:
        """`ledger`: books of another kind, made with the same settings."""
        self._settings = settings if settings is not None else Settings()
        self._ledger = ledger if ledger is not None else Ledger(self._settings)
        self._counters = self._ledger.counters
        self._table = Table(self._ledger)
        self._flows = self._table.flows
        self._primary_fragments = PrimaryFragments(self._ledger)
        self._secondary_fragments = SecondaryFragments(self._ledger)
        self.passthrough = Passthrough(self._table, self._ledger)
        self.released: list[Token] = self._ledger.released
        self.revised: list[tuple[Token, bytes]] = self._ledger.revised
        self.forwarded: list[Forward] = self._ledger.forwarded
        self.replaced: list[Token] = self._ledger.replaced
        self.dropped: list[Token] = self._ledger.dropped
        self.divergences: list[Divergence] = self._ledger.divergences

    # Packets.

    def primary(self, packet: Parsed, token: Token, now: float) -> None:
        """A packet that the primary sent; its buffer may be reused afterwards."""
        if isinstance(packet, TcpPacket):
            length = packet.end - packet.ip
            self._counters.primary_packets += 1
            self._counters.primary_bytes += length
            flow = self._flows.get(packet.connection)
            # Fast path: a known connection, neither SYN nor RST, no checkpoint since the last packet.
            if (
                isinstance(flow, TcpFlow)
                and flow.primary is not None
                and not packet.flags & MOVES
                and flow.epoch == self._ledger.epoch
            ):
                flow.active = now
                connection: TcpConnection | None = flow.primary
            else:
                connection = self._connection_of_primary(flow, packet, now)
            if connection is None:
                self._primary_outside(packet.connection, token, packet.end - packet.ip)
            elif connection.unsynchronised:
                self._primary_unsynchronised(connection, packet, token)
            else:
                connection.from_primary(packet, token, now)
        else:
            self._primary_other(packet, token, now)

    def secondary(self, packet: Parsed, now: float) -> None:
        """A packet that the secondary sent, in the primary's numbers; its buffer may be reused afterwards."""
        if isinstance(packet, TcpPacket):
            self._counters.secondary_packets += 1
            self._counters.secondary_bytes += packet.end - packet.ip
            flow = self._flows.get(packet.connection)
            # Fast path: a known connection, neither SYN nor RST, no checkpoint since the last packet.
            if (
                isinstance(flow, TcpFlow)
                and flow.secondary is not None
                and not packet.flags & MOVES
                and flow.epoch == self._ledger.epoch
            ):
                flow.active = now
                connection: TcpConnection | None = flow.secondary
            else:
                connection = self._connection_of_secondary(flow, packet, now)
            if connection is None:
                self._secondary_outside(packet.connection, packet.end - packet.ip)
            elif connection.unsynchronised:
                self._secondary_is_of_no_use(packet.end - packet.ip)
            else:
                connection.from_secondary(packet, now)
        else:
            self._secondary_other(packet, now)

    def primary_malformed(self, token: Token, length: int) -> None:
        self._counters.primary_packets += 1
        self._counters.primary_bytes += length
        self._counters.malformed_primary += 1
        self._ledger.drop(token)

    def secondary_malformed(self, length: int) -> None:
        self._counters.secondary_packets += 1
        self._counters.secondary_bytes += length
        self._counters.malformed_secondary += 1

    # Time and checkpoints.

    def tick(self, now: float) -> None:
        """Look for timeouts; call it several times per compare timeout."""
        self._secondary_fragments.expire(now)
        self._ledger.check_timeout(now)

    def age(self, now: float) -> None:
        """Forget idle flows; call it about once a second."""
        self._table.expire(now)

    def cure(self, now: float) -> None:
        """End what two healthy stacks might wait for; call it every few milliseconds."""
        delay = self._settings.cure_after
        if delay is None:
            return
        owners = self._ledger.owing.copy()
        for item in self._ledger.held:
            if item.arrived >= now - delay:
                break
            owners[item.owner] = None
        for owner in owners:
            if isinstance(owner, TcpConnection):
                owner.cure(now - delay)
                if owner.floor.owes_nothing(now - self._settings.timeout):
                    self._ledger.owing.pop(owner, None)

    def checkpoint_done(self, synchronised: bool) -> None:
        """Release what is held. `synchronised`: the secondary's state now is the primary's.

        The caller must have given the comparator everything that the primary sent before the pause.
        """
        self._ledger.renew(synchronised)

    def forget(self) -> None:
        """Release what is held, and forget all connections: those that go on are ones whose opening was not seen."""
        self._ledger.give_up_comparing()
        self._table.clear()

    @property
    def latched(self) -> bool:
        """A checkpoint is asked for and not done yet."""
        return self._ledger.latched

    @property
    def released_packets(self) -> int:
        """Released so far, in all."""
        return self._counters.released_packets

    @property
    def needs_cure(self) -> bool:
        """Whether `cure` might find something to do."""
        return bool(self._ledger.held or self._ledger.owing)

    @property
    def held_packets(self) -> int:
        return len(self._ledger.held)

    def counters(self) -> dict[str, int]:
        ledger = self._ledger
        return self._counters.as_dict() | {
            "held_packets_now": len(ledger.held),
            "held_bytes_now": ledger.held_bytes,
            "secondary_packets_now": len(ledger.waiting),
            "secondary_bytes_now": ledger.waiting_bytes,
            "connections_now": len(self._flows),
        }

    def unsynchronised_connections(self) -> int:
        """Connections that are not compared."""
        return len(self._ledger.unsynchronised)

    # The slower paths.

    def _connection_of_primary(self, flow: object, packet: TcpPacket, now: float) -> TcpConnection | None:
        tcp = self._tcp_flow(flow, packet, now)
        return tcp.connection_of_primary(packet) if tcp is not None else None

    def _connection_of_secondary(self, flow: object, packet: TcpPacket, now: float) -> TcpConnection | None:
        tcp = self._tcp_flow(flow, packet, now)
        connection = tcp.connection_of_secondary(packet) if tcp is not None else None
        if connection is not None and self._settings.forward and not connection.ethernet:
            connection.ethernet = ethernet_header(packet)
        return connection

    def _tcp_flow(self, flow: object, packet: TcpPacket, now: float) -> TcpFlow | None:
        """The flow, made if it is new; None: a rule leaves it out, or the table is full."""
        if isinstance(flow, PassthroughFlow):
            flow.note(packet, now)
            return None
        opened_by = opener_of(packet)
        if isinstance(flow, TcpFlow):
            flow.active = now
            flow.catch_up()
            return None if opened_by is not None and self.passthrough.takes_over(flow, opened_by) else flow
        if self.passthrough.takes(packet.connection, opened_by, now):
            return None
        new = TcpFlow(packet.connection, self._ledger, now)
        new.opened_by = opened_by
        if self._table.add(packet.connection, new):
            return new
        self._counters.connection_limit_drops += 1
        return None

    def _primary_outside(self, key: bytes, token: Token, length: int) -> None:
        """A packet of a flow that is not compared: a rule leaves it out, or there is no room for it."""
        if not self.passthrough.primary(key, token, length):
            self._ledger.drop(token)

    def _secondary_outside(self, key: bytes, length: int) -> None:
        self.passthrough.secondary(key, length)
        self._secondary_is_of_no_use(length)

    def _primary_unsynchronised(self, connection: TcpConnection, packet: TcpPacket, token: Token) -> None:
        """A connection whose opening was not seen passes, and is counted."""
        self._counters.unsynchronised_packets += 1
        connection.note_primary(packet)
        self._ledger.exempt(token, packet.end - packet.ip)

    def _secondary_is_of_no_use(self, length: int) -> None:
        self._counters.thrown_away_packets += 1
        self._counters.thrown_away_bytes += length

    def _primary_other(self, packet: Datagram | Fragment | NotCompared, token: Token, now: float) -> None:
        self._counters.primary_packets += 1
        if isinstance(packet, Datagram):
            self._counters.primary_bytes += packet.length
            flow = self._datagram_flow(packet, now)
            if flow is None:
                self._primary_outside(packet.flow, token, packet.length)
            elif isinstance(packet, CutShort):
                flow.cut_short(packet, token, now)
            else:
                flow.from_primary(packet, token, now)
        elif isinstance(packet, Fragment):
            self._counters.primary_bytes += packet.length
            self._primary_fragment(packet, token, now)
        elif packet is NotCompared.NOT_IP:
            self._counters.not_ip_passed += 1
            self._ledger.exempt(token, 0)
        elif packet is NotCompared.NEIGHBOUR:
            self._counters.neighbour_passed += 1
            self._ledger.exempt(token, 0)
        else:
            self._uncompared(token)

    def _primary_fragment(self, fragment: Fragment, token: Token, now: float) -> None:
        whole = self._primary_fragments.add(fragment, token, now)
        if whole is not None:
            counters = self._counters
            before = counters.primary_packets, counters.primary_bytes
            # Not what a subclass makes of it: that has seen the fragments, which are what is counted, too.
            Comparator.primary(self, whole.packet, whole.token, now)
            counters.primary_packets, counters.primary_bytes = before

    def _uncompared(self, token: Token) -> None:
        self._counters.uncompared_packets += 1
        if self._settings.pass_uncompared:
            self._ledger.exempt(token, 0)
        else:
            self._ledger.drop(token)

    def _secondary_other(self, packet: Datagram | Fragment | NotCompared, now: float) -> None:
        self._counters.secondary_packets += 1
        if isinstance(packet, Datagram):
            self._counters.secondary_bytes += packet.length
            flow = self._datagram_flow(packet, now)
            if flow is None:
                self._secondary_outside(packet.flow, packet.length)
            else:
                flow.from_secondary(packet, now)
        elif isinstance(packet, Fragment):
            self._counters.secondary_bytes += packet.length
            self._secondary_fragment(packet, now)
        else:
            self._counters.not_ip_thrown_away += packet is NotCompared.NOT_IP
            self._counters.neighbour_thrown_away += packet is NotCompared.NEIGHBOUR
            self._secondary_is_of_no_use(0)

    def _secondary_fragment(self, fragment: Fragment, now: float) -> None:
        whole = self._secondary_fragments.add(fragment, None, now)
        if whole is not None:
            counters = self._counters
            before = counters.secondary_packets, counters.secondary_bytes
            Comparator.secondary(self, whole.packet, now)
            counters.secondary_packets, counters.secondary_bytes = before

    def _datagram_flow(self, packet: Datagram, now: float) -> DatagramFlow | None:
        flow = self._flows.get(packet.flow)
        if isinstance(flow, DatagramFlow):
            flow.active = now
            return flow
        if isinstance(flow, PassthroughFlow):
            flow.active = now
            return None
        if self.passthrough.takes(packet.flow, None, now):
            return None
        new = DatagramFlow(packet.flow, self._ledger, now)
        if self._table.add(packet.flow, new):
            return new
        self._counters.connection_limit_drops += 1
        return None
