"""What `colo-bridge replay` prints: events as they come, then a summary; as text or as one JSON document."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from ipaddress import ip_address

from colo_bridge.daemon import journal
from colo_bridge.daemon.replay import Difference, Event, Player
from colo_bridge.daemon.replay_learning import Guest
from colo_bridge.wire.flow import describe_flow

_NOT_COMPARED = (
    *("malformed_primary", "malformed_secondary", "uncompared_packets", "unsynchronised_packets"),
    *("unverified_packets", "held_limit_drops", "secondary_limit_drops", "connection_limit_drops"),
)


class Report:
    """Of one run; `options` are those of the command line."""

    def __init__(
        self, options: argparse.Namespace, player: Player, guests: tuple[Guest, Guest], difference: int
    ) -> None:
        self._options = options
        self._player = player
        self._guests = sorted(_name(address) for address in guests[0].addresses | guests[1].addresses)
        self._difference = difference / 1e9
        self._divergences: Counter[str] = Counter()

    def print(self, events: Iterable[Event]) -> None:
        if self._options.json:
            self._print_json(events)
            return
        for event in self._wanted(events):
            time = f"{event.time:12.6f}  " if self._options.timestamps else ""
            print(time + _sentence(event))
        print("\n".join(self._lines()))

    def _print_json(self, events: Iterable[Event]) -> None:
        """One document, written as it comes: the list of events may be long."""
        print('{"events": [', end="")
        separator = "\n"
        for event in self._wanted(events):
            time = {"time": round(event.time, 9)} if self._options.timestamps else {}
            print(separator + json.dumps(time | _fields(event)), end="")
            separator = ",\n"
        print("],")
        print(f'"summary": {json.dumps(self._summary(), indent=2)}}}')

    def _wanted(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, Difference):
                self._divergences[event.divergence.reason.value] += 1
                yield event
            elif self._options.verdicts:
                yield event

    @property
    def result(self) -> str:
        if self._divergences:
            return "diverged"
        if not self._player.primary_seen.from_guest and not self._player.secondary_seen.from_guest:
            return "nothing to compare: no packet is the guest's"
        return "not compared in full" if self._not_compared() else "equal"

    def _not_compared(self) -> dict[str, int]:
        """What keeps two captures from being called equal although nothing diverged."""
        counters = self._player.comparator.counters()
        missed = {name: counters[name] for name in _NOT_COMPARED}
        missed["cut_short_primary"] = self._player.primary_seen.cut_short
        missed["cut_short_secondary"] = self._player.secondary_seen.cut_short
        return {name: count for name, count in missed.items() if count}

    def _summary(self) -> dict[str, object]:
        player, options = self._player, self._options
        return {
            "result": self.result,
            "primary": {"file": str(options.primary), **asdict(player.primary_seen)},
            "secondary": {"file": str(options.secondary or options.primary), **asdict(player.secondary_seen)},
            "guest": self._guests,
            "clock_difference": self._difference,
            "divergences": dict(self._divergences),
            "not_compared": self._not_compared(),
            "waiting_at_the_end": player.waiting_at_the_end,
            "counters": player.comparator.counters(),
            "rewriter": asdict(player.rewriter.counters) if player.rewriter is not None else None,
        }

    def _lines(self) -> Iterator[str]:
        player = self._player
        for name, seen in (("primary", player.primary_seen), ("secondary", player.secondary_seen)):
            yield f"{name}: {seen.from_guest} packets from the guest, {seen.to_guest} to it, {seen.of_others} others"
        names = ", ".join(self._guests)
        how = "as given" if self._options.guest else "learned; --guest says otherwise"
        yield f"guest: {names} ({how})" if names else "guest: whoever sent what is in the captures"
        if self._difference:
            yield f"the secondary's clock: {self._difference:+.6f} s"
        if player.rewriter is not None:
            yield f"translated: {player.rewriter.counters.learned} connections, {player.rewriter.counters.unknown} not"
        totals = player.comparator.counters()
        yield (
            f"released: {totals['released_packets']} packets, {totals['released_by_checkpoint_packets']} of them by a "
            f"checkpoint, {totals['retransmissions']} retransmissions; held at the end: {player.waiting_at_the_end}"
        )
        for name, count in self._not_compared().items():
            yield f"not compared: {count} {name.replace('_', ' ')}"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._divergences.items())
        yield f"{self.result}: {reasons}" if reasons else self.result


def _sentence(event: Event) -> str:
    if isinstance(event, Difference):
        return journal.sentence(event.divergence)
    flow = f" {describe_flow(event.packet.flow)}" if event.packet.flow is not None else ""
    return f"{event.action} packet {event.packet.number}{flow}"


def _fields(event: Event) -> dict[str, object]:
    if isinstance(event, Difference):
        return {"event": "divergence", **journal.fields(event.divergence)}
    flow = event.packet.flow
    connection = describe_flow(flow) if flow is not None else None
    return {"event": event.action, "packet": event.packet.number, "connection": connection}


def _name(address: bytes) -> str:
    return address.hex(":") if len(address) == 6 else str(ip_address(address))
