"""The long series in the protected lab: `scripts/soak-lab [ROUNDS]`.  Exit status 1 if anything was wrong."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import Any

from colo_bridge.lab import daemon, lifecycle, workload

_SINGLE = 200_000_000
_MANY = 5_000_000
Series = tuple[str, int, list[str]]


def series(rounds: int) -> list[Series]:
    """Name, repetitions and client arguments."""
    single = ["--bytes", str(_SINGLE), "--timeout", "60"]
    many = ["--bytes", str(_MANY), "--verify", "--timeout", "60"]
    return [
        ("GET 200 MB, all bytes looked at", rounds, ["get", "--verify", *single]),
        ("PUT 200 MB, SHA-256 of the server", rounds, ["put", "--verify", *single]),
        ("GET 5 MB, 50 connections of one process", 1, ["get", *many, "--connections", "50"]),
        ("PUT 5 MB, 50 connections of one process", 1, ["put", *many, "--connections", "50"]),
        ("GET 5 MB, 50 processes", 1, ["get", *many, "--processes", "50"]),
        ("PUT 5 MB, 50 processes", 1, ["put", *many, "--processes", "50"]),
    ]


def run(name: str, repetitions: int, arguments: Sequence[str]) -> bool:
    """Run one series and print its line; whether every byte was right and nothing but stalls diverged."""
    before = daemon.status()["divergences"]
    connections: list[dict[str, Any]] = []
    for _ in range(repetitions):
        connections += workload.client(arguments)["connections"]
    diverged = {kind: count - before[kind] for kind, count in daemon.status()["divergences"].items()}
    stalls = diverged.pop("timeout")
    seconds = [connection["seconds"] for connection in connections]
    right = sum(connection["correct"] for connection in connections)
    print(
        f"{name:42} {right:3} of {len(connections):3} right   median {statistics.median(seconds):6.2f} s"
        f"   slowest {max(seconds):6.2f} s   timeouts {stalls}   other divergences {sum(diverged.values())}",
        flush=True,
    )
    return right == len(connections) and not any(diverged.values())


def main(arguments: Sequence[str]) -> int:
    if len(arguments) > 1 or not all(word.isdigit() for word in arguments):
        print("usage: soak-lab [ROUNDS]   ROUNDS (30) GETs and PUTs of 200 MB, then 50 connections", file=sys.stderr)
        return 2
    with lifecycle.running(lifecycle.Options()):
        workload.start_service()
        results = [run(*line) for line in series(int(arguments[0]) if arguments else 30)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
