"""Two sides in random trouble: `scripts/soak-membership N [FIRST_SEED]`."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product

from tests.membership.trouble import trouble
from tests.membership.world import Kind

_SECONDS = 150.0


def verify(seed: int) -> int:
    lives = product(Kind, (False, True))
    return sum(trouble(kind, automatic, range(seed, seed + 1), _SECONDS)[0] for kind, automatic in lives)


def main() -> int:
    if len(sys.argv) not in (2, 3) or not all(word.isdigit() for word in sys.argv[1:]):
        print("usage: soak-membership N [FIRST_SEED]   six lives of two sides for each of N seeds", file=sys.stderr)
        return 2
    total, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 0
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        events = sum(pool.map(verify, range(first, first + total), chunksize=20))
    print(f"{total:,} seeds, six lives each, {events:,} events, {time.monotonic() - began:.0f} s: all right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
