"""The long series in the protected lab: `scripts/soak-lab [ROUNDS]`.  Exit status 1 if anything was wrong."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from colo_bridge.lab import daemon, lifecycle, workload
from colo_bridge.lab.layout import GUEST_ADDRESS, GUEST_IPV6_ADDRESS
from colo_bridge.lab.options import Options
from tests.lab.disturbance import busy_cores, lossy_mirror

_SINGLE = 200_000_000
_MANY = 5_000_000
_ONE_OF = 1_024
"""Mirrored packets, of which one is thrown away."""
_UNEVEN = 3.0
"""Times the median that the slowest of many may take."""
_CURES = {
    "forwarded_packets": "forwarded",
    "replaced_packets": "replaced",
    "revised_acknowledgments": "revised",
    "asked_acknowledgments": "asked",
    "rewriter_repeated_acknowledgments": "repeated",
    "rewriter_clamped_acknowledgments": "clamped",
}


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    arguments: Sequence[str]
    """Of the client."""
    repetitions: int = 1
    busy: bool = False
    """While every core is kept busy by something else."""
    lossy: bool = False
    """While one of so many mirrored packets is thrown away."""


def series(rounds: int) -> Iterator[Series]:
    single = ["--bytes", str(_SINGLE), "--verify", "--timeout", "60"]
    yield Series("GET 200 MB, all bytes looked at", ["get", *single], rounds)
    yield Series("PUT 200 MB, SHA-256 of the server", ["put", *single], rounds)
    many = ["--bytes", str(_MANY), "--verify", "--timeout", "60"]
    for what, number in (("connections of one process", "--connections"), ("processes", "--processes")):
        for operation in ("get", "put"):
            name = f"{operation.upper()} 5 MB, 50 {what}"
            yield Series(name, [operation, *many, number, "50"])
    for version, address in ((4, GUEST_ADDRESS), (6, GUEST_IPV6_ADDRESS)):
        for operation in ("get", "put"):
            arguments = [operation, "--host", address, *many, "--processes", "50"]
            name = f"{operation.upper()} 5 MB, 50 processes, IPv{version}, busy cores"
            yield Series(name, arguments, busy=True)
            yield Series(f"{name}, loss", arguments, busy=True, lossy=True)


def run(line: Series) -> bool:
    """Run one series and print its line; whether every byte was right, nothing diverged and no one waited for long."""
    before = daemon.status()
    connections: list[dict[str, Any]] = []
    with busy_cores() if line.busy else nullcontext(), _loss(line.lossy) as count:
        for _ in range(line.repetitions):
            connections += workload.client(line.arguments)["connections"]
        lost = count()
    after = daemon.status()
    diverged = {kind: number - before["divergences"][kind] for kind, number in after["divergences"].items()}
    seconds = [connection["seconds"] for connection in connections]
    right = sum(connection["correct"] for connection in connections)
    median, slowest = statistics.median(seconds), max(seconds)
    print(
        f"{line.name:50} {right:3} of {len(connections):3} right   median {median:6.2f} s   slowest {slowest:6.2f} s"
        f"   timeouts {diverged.pop('timeout')}   other divergences {sum(diverged.values())}"
        + (f"   lost {lost}" if line.lossy else ""),
    )
    grown = {word: after["counters"][name] - before["counters"][name] for name, word in _CURES.items()}
    print("    " + ", ".join(f"{word} {number}" for word, number in grown.items()), flush=True)
    even = not line.busy or slowest <= _UNEVEN * median
    return (
        right == len(connections)
        and after["divergences"] == before["divergences"]
        and even
        and (lost > 0) is line.lossy
    )


@contextmanager
def _loss(lossy: bool) -> Iterator[Callable[[], int]]:
    if not lossy:
        yield lambda: 0
        return
    with lossy_mirror(_ONE_OF) as count:
        yield count


def main(arguments: Sequence[str]) -> int:
    if len(arguments) > 1 or not all(word.isdigit() for word in arguments):
        text = "ROUNDS (30; 0: none) GETs and PUTs of 200 MB, then 50 connections, at last with busy cores and losses"
        print(f"usage: soak-lab [ROUNDS]   {text}", file=sys.stderr)
        return 2
    with lifecycle.running(Options()):
        workload.start_service()
        rounds = int(arguments[0]) if arguments else 30
        results = [run(line) for line in series(rounds) if line.repetitions]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
