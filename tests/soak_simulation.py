"""Simulate any number of connections and look for stalls: `scripts/soak-simulation N [OPTION…]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.verify import LOSS, Verdict, verify

_BATCH = 100
_WRONG = (Verdict.STALLED, Verdict.LATE)
Batch = tuple[Counter[Verdict], list[str]]


def verify_batch(first: int, count: int, loss: float, checkpoints: str) -> Batch:
    """How often each verdict came, and a line for each run that is wrong."""
    counts: Counter[Verdict] = Counter()
    wrong = []
    for seed in range(first, first + count):
        verdict = verify(seed, loss, checkpoints)
        counts[verdict] += 1
        if verdict in _WRONG:
            wrong.append(f"seed {seed}, loss {loss}, checkpoints {checkpoints}: {verdict.value}")
    return counts, wrong


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak-simulation", description="Simulate N connections and look for stalls.")
    parser.add_argument("n", metavar="N", type=int)
    parser.add_argument("--first", metavar="SEED", type=int, default=0)
    parser.add_argument("--loss", metavar="SHARE", type=float, default=LOSS, help="of each path inside the host (0.01)")
    parser.add_argument("--checkpoints", choices=("none", "synchronising", "command"), default="none")
    parser.add_argument("--processes", metavar="COUNT", type=int, default=os.cpu_count())
    return parser.parse_args()


def main() -> int:
    options = arguments()
    starts = range(options.first, options.first + options.n, _BATCH)
    sizes = [min(_BATCH, options.first + options.n - start) for start in starts]
    work = partial(verify_batch, loss=options.loss, checkpoints=options.checkpoints)
    began, counts = time.monotonic(), Counter[Verdict]()
    with ProcessPoolExecutor(options.processes) as pool:
        for some, wrong in pool.map(work, starts, sizes):
            counts += some
            for line in wrong:
                print(line, flush=True)
            print(f"\r{counts.total():,} of {options.n:,}", end="", file=sys.stderr, flush=True)
    summary = ", ".join(f"{count:,} {verdict.value}" for verdict, count in counts.most_common())
    print(f"\n{options.n:,} connections, {time.monotonic() - began:.0f} s: {summary}")
    return 1 if any(counts[verdict] for verdict in _WRONG) else 0


if __name__ == "__main__":
    sys.exit(main())
