"""Let any number of pairs of hosts live: `scripts/soak-epochs N [FIRST_SEED]`."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.checkpoint.two_hosts import live

_BATCH = 20


def live_batch(first: int, count: int) -> int:
    """How much happened in them."""
    return sum(live(seed).now for seed in range(first, first + count))


def main() -> int:
    if len(sys.argv) not in (2, 3) or not all(word.isdigit() for word in sys.argv[1:]):
        print("usage: soak-epochs N [FIRST_SEED]   let N pairs of hosts live through random troubles", file=sys.stderr)
        return 2
    total, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 0
    began, events, done = time.monotonic(), 0, 0
    starts = range(first, first + total, _BATCH)
    counts = [min(_BATCH, first + total - start) for start in starts]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for count, batch in zip(counts, pool.map(live_batch, starts, counts), strict=True):
            events += batch
            done += count
            print(f"\r{done:,} of {total:,} lives, {events:,} events", end="", file=sys.stderr, flush=True)
    print(f"\n{total:,} lives, {events:,} events, {time.monotonic() - began:.0f} s: all right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
