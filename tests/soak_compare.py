"""Play any number of random two-replica traces: `scripts/soak-compare N [FIRST_SEED]`."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests import lives, traces

_BATCH = 200


def verify_batch(first: int, count: int) -> int:
    return sum(traces.verify(seed) + lives.verify(seed) for seed in range(first, first + count))


def main() -> int:
    if len(sys.argv) not in (2, 3) or not all(word.isdigit() for word in sys.argv[1:]):
        print(
            "usage: soak-compare N [FIRST_SEED]   play N pairs of random traces, and N times four random lives",
            file=sys.stderr,
        )
        return 2
    total, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 0
    began, packets, done = time.monotonic(), 0, 0
    starts = range(first, first + total, _BATCH)
    counts = [min(_BATCH, first + total - start) for start in starts]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for count, batch in zip(counts, pool.map(verify_batch, starts, counts), strict=True):
            packets += batch
            done += count
            print(f"\r{done:,} of {total:,} seeds, {packets:,} packets", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    each = "an equal and an unequal trace, four lives"
    print(f"\n{total:,} seeds ({each}), {packets:,} packets, {seconds:.0f} s: all right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
