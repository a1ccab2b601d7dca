"""The passthrough rules in force, and the flows that they leave out.

1. A packet of the primary that a rule lets through leaves at once; the secondary's is thrown away. Both are counted.
2. A new rule holds for flows that exist: what is held of them leaves, what the secondary sent is forgotten.
3. When a rule goes, its flows are new ones: a TCP connection is unsynchronised from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

from colo_bridge.compare.datagram import DatagramFlow
from colo_bridge.compare.flow import TcpFlow
from colo_bridge.compare.item import Token
from colo_bridge.compare.ledger import Ledger
from colo_bridge.compare.rule import CountedRule, Opener, PassthroughFlow, Rule
from colo_bridge.compare.table import Table
from colo_bridge.compare.tcp import TcpConnection
from colo_bridge.wire.flow import is_connection, parts_of_flow


class Passthrough:
    __slots__ = ("_ledger", "_rules", "_table")

    def __init__(self, table: Table, ledger: Ledger) -> None:
        self._table = table
        self._ledger = ledger
        self._rules: dict[str, CountedRule] = {}

    # The rules.

    def add(self, rule: Rule) -> None:
        """Put a rule in force, behind those that there are; its name must be new."""
        self.replace([*self._in_force(), rule])

    def remove(self, name: str) -> None:
        """Compare again what a rule had left out, unless another rule does."""
        self.replace([rule for rule in self._in_force() if rule.name != name])

    def replace(self, rules: Sequence[Rule]) -> None:
        """Have these rules in force, in this order, and no others; one that stays as it is keeps its counters."""
        before = list(self._rules.values())
        self._rules = {rule.name: _counted(rule, self._rules.get(rule.name)) for rule in rules}
        now = list(self._rules.values())
        kept = [counted for counted in before if counted in now]
        # Flows of rules that still come first need no other.
        self._judge_anew(kept if now[: len(kept)] == kept else [])
        if new := [counted for counted in now if counted not in kept]:
            self._apply(new)

    def _in_force(self) -> list[Rule]:
        return [counted.rule for counted in self._rules.values()]

    def _judge_anew(self, settled: Sequence[CountedRule]) -> None:
        """Find the rule of what is left out already, or compare it again; the flows of `settled` rules stay."""
        for key, flow in list(self._table.flows.items()):
            if isinstance(flow, PassthroughFlow) and flow.rule not in settled:
                rule = self.match(key, flow.opened_by)
                if rule is None:
                    self._table.forget(key)
                else:
                    flow.rule = rule

    def _apply(self, new: Sequence[CountedRule]) -> None:
        """Leave out what was compared until now: the rules that there were do not concern it."""
        matching: dict[CountedRule, dict[bytes, PassthroughFlow]] = {}
        for key, flow in self._table.flows.items():
            if isinstance(flow, PassthroughFlow):
                continue
            parts, opened_by = parts_of_flow(key), flow.opened_by if isinstance(flow, TcpFlow) else None
            for rule in new:
                if rule.rule.matches(parts, opened_by):
                    left_out = PassthroughFlow(rule, opened_by, is_connection(key), flow.active)
                    matching.setdefault(rule, {})[key] = left_out
                    break
        for rule, flows in matching.items():
            self._leave_out(flows, rule)

    def counters(self) -> dict[str, dict[str, int]]:
        """What each rule let through, by name, in order."""
        return {name: rule.counters() for name, rule in self._rules.items()}

    # The flows.

    def match(self, key: bytes, opened_by: Opener | None) -> CountedRule | None:
        """The rule that a flow falls under."""
        if not self._rules:
            return None
        parts = parts_of_flow(key)
        return next((rule for rule in self._rules.values() if rule.rule.matches(parts, opened_by)), None)

    def takes(self, key: bytes, opened_by: Opener | None, now: float) -> bool:
        """Whether a rule leaves out a flow that is not in the table; it is then, if there is room."""
        rule = self.match(key, opened_by)
        if rule is None:
            return False
        self._table.add(key, PassthroughFlow(rule, opened_by, is_connection(key), now))
        return True

    def takes_over(self, flow: TcpFlow, opened_by: Opener) -> bool:
        """Whether a rule leaves out a flow in the table of which only now is known who opens it."""
        if flow.opened_by is not None:
            return False
        flow.opened_by = opened_by
        rule = self.match(flow.flow, opened_by)
        if rule is None:
            return False
        self._leave_out({flow.flow: PassthroughFlow(rule, opened_by, True, flow.active)}, rule)
        return True

    def _leave_out(self, matching: dict[bytes, PassthroughFlow], rule: CountedRule) -> None:
        """Stop comparing flows: what is held of them leaves, and is counted."""
        self._table.flows.update(matching)
        ledger, counters = self._ledger, self._ledger.counters
        packets, size = counters.released_packets, counters.released_bytes
        # Through the books, because packets may still wait in a connection that both sides have left.
        for owner in {item.owner: None for queue in (ledger.held, ledger.waiting) for item in queue}:
            if isinstance(owner, TcpConnection | DatagramFlow) and owner.flow in matching:
                ledger.abandon(owner)
        self._count(rule, counters.released_packets - packets, counters.released_bytes - size)

    # Packets.

    def primary(self, key: bytes, token: Token, length: int) -> bool:
        """Let a packet of the primary leave if a rule says so.

        A flow that found no room in the table is matched anew with each packet.
        """
        rule = self._rule_of(key)
        if rule is None:
            return False
        self._count(rule, 1, length)
        self._ledger.exempt(token, length)
        return True

    def secondary(self, key: bytes, length: int) -> None:
        """Count a packet of the secondary that is thrown away because of a rule."""
        rule = self._rule_of(key)
        if rule is not None:
            rule.secondary_packets += 1
            rule.secondary_bytes += length
            self._ledger.counters.passthrough_thrown_away += 1

    def _rule_of(self, key: bytes) -> CountedRule | None:
        flow = self._table.flows.get(key)
        if flow is None:
            return self.match(key, None)
        return flow.rule if isinstance(flow, PassthroughFlow) else None

    def _count(self, rule: CountedRule, packets: int, size: int) -> None:
        rule.packets += packets
        rule.bytes += size
        self._ledger.counters.passthrough_packets += packets
        self._ledger.counters.passthrough_bytes += size


def _counted(rule: Rule, before: CountedRule | None) -> CountedRule:
    return before if before is not None and before.rule == rule else CountedRule(rule)
