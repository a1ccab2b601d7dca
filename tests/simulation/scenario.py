"""What one simulated connection consists of, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from tests.simulation.packets import Ends
from tests.simulation.tcp import Stack

KINDS = ("download", "upload", "requests", "both", "half close")
_SLOWEST = 0.25
"""Seconds in which every application reads all that it expects."""


@dataclass(frozen=True, slots=True)
class Path:
    """Seconds of delay, and the chances of a longer one and of a loss."""

    delay: float
    late: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Script:
    """What an application does: `steps` say how much it has read when it sends how many bytes more."""

    steps: tuple[tuple[int, int], ...]
    expects: int
    closes: Literal["sent", "read", "ended"] = "read"
    """It closes once it has sent everything, has also read everything, or the other side has closed too."""
    chunks: tuple[int, ...] = (1 << 20,)
    """Sizes of its writes, in turn."""
    pause: float = 0.0
    """Seconds between two writes."""

    @property
    def sends(self) -> int:
        return sum(count for _, count in self.steps)


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    kind: str
    ends: Ends
    guest_opens: bool
    client: Stack
    primary: Stack
    secondary: Stack
    client_script: Script
    primary_script: Script
    secondary_script: Script
    to_primary: Path
    mirror: Path
    from_secondary: Path
    from_primary: Path
    to_client: Path
    checkpoints: tuple[float, ...] = ()
    """Seconds at which a checkpoint is done."""
    synchronises: bool = True
    spoiled: int | None = None
    """A byte of its stream that the secondary gets wrong."""

    @property
    def lossless(self) -> bool:
        paths = (self.to_primary, self.mirror, self.from_secondary, self.from_primary, self.to_client)
        return not any(path.loss or path.late for path in paths)


def make(seed: int, loss: float = 0.0, checkpoints: str = "none") -> Scenario:
    """`loss`: on every path inside the host; `checkpoints`: none, synchronising or command."""
    random = Random(seed)
    kind = random.choice(KINDS)
    client_script, guest_script = _scripts(kind, random)
    stamps = random.random() < 0.8
    late = 0.01 if loss else 0.0
    paths = [Path(_delay(random), late, loss) for _ in range(5)]
    primary = _stack(random, stamps)
    # What two SYNs offer the client must be equal.
    secondary = replace(_stack(random, stamps), scale=primary.scale)
    if random.random() < 0.3:
        secondary = replace(secondary, maximum=primary.maximum, offload=primary.offload, nagle=primary.nagle)
    within = random.choice((0.01, 0.05, 0.4))
    times = tuple(sorted(random.uniform(0.0005, within) for _ in range(random.randrange(1, 3))))
    spoiled = random.randrange(guest_script.sends) if checkpoints == "command" and random.random() < 0.5 else None
    client_stack = _stack(random, stamps)
    client_stack = replace(client_stack, announced=client_stack.maximum)
    return Scenario(
        seed,
        kind,
        _ends(random),
        random.random() < 0.2,
        _in_time(client_stack, client_script),
        _in_time(primary, guest_script),
        _in_time(secondary, guest_script),
        _habit(client_script, random),
        _habit(guest_script, random),
        _habit(guest_script, random),
        *paths,
        times if checkpoints != "none" else (),
        checkpoints == "synchronising",
        spoiled,
    )


def _delay(random: Random) -> float:
    return random.choice((0.00002, 0.0001, 0.0005, 0.003))


def _ends(random: Random) -> Ends:
    ports = (80, random.randrange(1024, 65536))
    if random.random() < 0.2:
        return Ends(bytes.fromhex("fd77") + bytes(13) + b"\x01", bytes.fromhex("fd77") + bytes(13) + b"\x02", *ports)
    return Ends(bytes((10, 0, 0, 2)), bytes((10, 0, 0, 9)), *ports)


def _stack(random: Random, stamps: bool) -> Stack:
    isn = random.choice((random.getrandbits(32), (-random.randrange(1, 20_000)) & 0xFFFFFFFF))
    slow = random.random() < 0.25
    return Stack(
        isn=isn,
        maximum=random.choice((536, 1200, 1448, 1448)),
        offload=random.choice((1, 1, 2, 10, 45)),
        window_segments=random.choice((1, 2, 4, 10, 10)),
        largest_window=random.choice((3_000, 20_000, 1 << 20)),
        nagle=random.random() < 0.5,
        delayed_ack=random.choice((0.0, 0.04, 0.04, 0.2)),
        buffer=random.choice((3_000, 8_000, 30_000, 200_000)),
        scale=random.choice((0, 2, 7)),
        read_size=random.choice((100, 1_000, 5_000)) if slow else None,
        read_interval=random.choice((0.001, 0.01)),
        stamps=stamps,
        stamp=random.choice((random.getrandbits(32), (-random.randrange(1, 3_000)) & 0xFFFFFFFF)),
        tail_probe=random.random() < 0.5,
        probe_bytes=random.choice((0, 1)),
    )


def _in_time(stack: Stack, script: Script) -> Stack:
    """A slow reader, but not so slow that it, and a RTO as long as that, take as long as the compare timeout."""
    if stack.read_size is None:
        return stack
    return replace(stack, read_size=max(stack.read_size, int(script.expects * stack.read_interval / _SLOWEST)))


def _size(random: Random) -> int:
    return random.choice((1, 100, 700, 1_500, 3_000, 10_000, 40_000))


def _scripts(kind: str, random: Random) -> tuple[Script, Script]:
    """The client's and the guest's."""
    one, other = _size(random), _size(random)
    if kind == "download":
        return Script(((0, 100),), one), Script(((100, one),), 100)
    if kind == "upload":
        return Script(((0, one),), 20), Script(((one, 20),), one)
    if kind == "both":
        return Script(((0, one),), other), Script(((0, other),), one)
    if kind == "half close":
        return Script(((0, one),), other, "sent"), Script(((one, other),), one, "ended")
    rounds, request, answer = random.randrange(1, 12), random.choice((1, 50, 2_000)), random.choice((1, 300, 5_000))
    asks = tuple((answer * each, request) for each in range(rounds))
    answers = tuple((request * (each + 1), answer) for each in range(rounds))
    return Script(asks, answer * rounds), Script(answers, request * rounds)


def _habit(script: Script, random: Random) -> Script:
    chunks = tuple(random.choice((10, 200, 1_000, 1_500, 8_000, 1 << 20)) for _ in range(random.randrange(1, 4)))
    if script.sends > 200 * min(chunks):
        chunks = (1_500, 8_000)
    return replace(script, chunks=chunks, pause=random.choice((0.0, 0.0, 0.0001, 0.002)))
