"""The passthrough rules of a running guest: those of the configuration, and those that an operator adds and takes away.

Rules that are added at run time last until the daemon stops; they are written nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network

from colo_bridge.compare.passthrough import Passthrough
from colo_bridge.compare.rule import Opener, Ports, Prefix, Rule
from colo_bridge.config import MOST_PASSTHROUGH_RULES, PassthroughConfig, parse_passthrough
from colo_bridge.daemon.control import Verb
from colo_bridge.errors import OperatorError


class PassthroughRules:
    """The same rules for each NIC; what a new one releases gets its verdict with the next tick."""

    def __init__(self, configured: Sequence[PassthroughConfig]) -> None:
        self._rules = {rule.name: rule for rule in configured}
        self._at_run_time: set[str] = set()
        self._compared: list[Passthrough] = []

    def serve(self, compared: Sequence[Passthrough]) -> None:
        """Put the rules in force in these."""
        self._compared = list(compared)
        for rule in self._rules.values():
            for passthrough in self._compared:
                passthrough.add(rule_of(rule))

    def verbs(self) -> dict[str, Verb]:
        return {
            "passthrough-add": lambda request: self.add(parse_passthrough(request.get("rule"))),
            "passthrough-del": lambda request: self.remove(request.get("name")),
            "passthrough-list": lambda _: {"rules": self.listing()},
        }

    def add(self, rule: PassthroughConfig) -> None:
        if rule.name in self._rules:
            raise OperatorError(f"there is a passthrough rule {rule.name!r} already", "delete it, or take another name")
        if len(self._rules) >= MOST_PASSTHROUGH_RULES:
            raise OperatorError(f"{MOST_PASSTHROUGH_RULES} passthrough rules are the most there can be")
        self._rules[rule.name] = rule
        self._at_run_time.add(rule.name)
        for passthrough in self._compared:
            passthrough.add(rule_of(rule))

    def remove(self, name: object) -> None:
        if not isinstance(name, str) or name not in self._rules:
            known = ", ".join(self._rules) or "none"
            raise OperatorError(f"there is no passthrough rule {name!r}", f"there are: {known}")
        del self._rules[name]
        self._at_run_time.discard(name)
        for passthrough in self._compared:
            passthrough.remove(name)

    def merged(self, configured: Sequence[PassthroughConfig]) -> list[PassthroughConfig]:
        """The rules of a file that was read again, and behind them those of run time whose names it does not have."""
        names = {rule.name for rule in configured}
        added = [rule for name, rule in self._rules.items() if name in self._at_run_time - names]
        if len(configured) + len(added) > MOST_PASSTHROUGH_RULES:
            raise OperatorError(
                f"{MOST_PASSTHROUGH_RULES} passthrough rules are the most there can be",
                f"{len(added)} were added at run time: delete some",
            )
        return [*configured, *added]

    def reload(self, configured: Sequence[PassthroughConfig]) -> None:
        """Put in force what `merged` gives; what the file names is configured from now on."""
        rules = self.merged(configured)
        self._rules = {rule.name: rule for rule in rules}
        self._at_run_time.difference_update(rule.name for rule in configured)
        for passthrough in self._compared:
            passthrough.replace([rule_of(rule) for rule in rules])

    def listing(self) -> list[dict[str, object]]:
        """The rules in order, what they name, and what they let through."""
        counters = self.counters()
        return [
            {**rule.model_dump(exclude_none=True), "until_stopped": name in self._at_run_time, **counters.get(name, {})}
            for name, rule in self._rules.items()
        ]

    def counters(self) -> dict[str, dict[str, int]]:
        """What each rule let through, of all NICs together."""
        total: dict[str, dict[str, int]] = {}
        for passthrough in self._compared:
            for name, counters in passthrough.counters().items():
                total[name] = _sum(total.get(name, {}), counters)
        return total


def rule_of(config: PassthroughConfig) -> Rule:
    """The rule that a configuration describes."""
    return Rule(
        config.name,
        config.protocol,
        _prefix(config.guest_address),
        _prefix(config.peer_address),
        _ports(config.guest_ports),
        _ports(config.peer_ports),
        None if config.opened_by is None else Opener(config.opened_by),
        config.vlan,
    )


def _prefix(text: str | None) -> Prefix | None:
    return None if text is None else ip_network(text)


def _ports(text: str | None) -> Ports | None:
    if text is None:
        return None
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + value for name, value in other.items()}
