"""`lab failover`: the primary's host dies in mid-transfer and the secondary goes on; the client must notice nothing."""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from colo_bridge.daemon.client import ask
from colo_bridge.errors import ColoBridgeError
from colo_bridge.lab import configuration, daemon, files, lifecycle, process, workload
from colo_bridge.lab.layout import LINK_PORT, UPLINK_PORT
from colo_bridge.lab.options import Options
from colo_bridge.lab.pulse import longest_pause, total_at
from colo_bridge.lab.shape import Host, Shape
from colo_bridge.lab.transfer import Content, Ended, Operation, Transfer

Report = Callable[[str], None]
_SEED = 11
_EARLIEST, _LATEST = 0.2, 0.7
"""Share of a transfer's time in which its host dies."""
_DECISION_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is transferred in each direction, and how often."""

    length: int = 1_000_000_000
    rate: int = 100_000_000
    """Bytes in a second, so that there is time."""
    rounds: int = 1
    delay: float = 0.0
    """Seconds from the host's death to the command."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one transfer whose host died."""

    operation: Operation
    bytes_before: int = 0
    """That had moved when the host died."""
    bytes_after: int = 0
    """That moved once the command had been given."""
    pause_ms: float = 0.0
    """The longest time without a byte since the host died."""
    after_command_ms: float = 0.0
    """The longest time without a byte since the command was given."""
    usual_pause_ms: float = 0.0
    """The longest time without a byte before all that."""
    seconds: float = 0.0
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem

    def __str__(self) -> str:
        if self.problem:
            return f"{self.operation}: WRONG: {self.problem}"
        pauses = (
            f"{self.pause_ms:.0f} ms since the host died, {self.after_command_ms:.0f} ms since the command, "
            f"{self.usual_pause_ms:.0f} ms before"
        )
        return f"{self.operation}: complete on the same connection; longest time without a byte: {pauses}"


def run(plan: Plan, options: Options, report: Report) -> dict[str, Any]:
    """Both directions, `rounds` times, each in a lab of its own."""
    lifecycle.check_none_is_up()
    directory = files.directory(plan.length)
    try:
        file = directory / "content.bin"
        content = Content(file, plan.length, _SEED, files.make(file, plan.length, _SEED))
        outcomes = [outcome for _ in range(plan.rounds) for outcome in both(content, plan, options, report)]
    finally:
        files.remove()
    return _document(outcomes)


def both(content: Content, plan: Plan, options: Options, report: Report) -> Iterator[Outcome]:
    """A download and an upload."""
    for operation in Operation:
        with lifecycle.running(replace(options, shape=Shape.TWO_HOSTS)):
            workload.start_http_service()
            outcome = survive(operation, content, plan)
        report(str(outcome))
        yield outcome


def survive(operation: Operation, content: Content, plan: Plan) -> Outcome:
    """One transfer in the lab that is up; its primary's host dies at a random moment."""
    try:
        with closing(Transfer(operation, content, plan.rate)) as transfer:
            time.sleep(random.uniform(_EARLIEST, _LATEST) * content.length / plan.rate)
            died, commanded = _lose_first_host(plan.delay)
            return judge(operation, content, transfer.end(), died, commanded)
    except ColoBridgeError as error:
        return Outcome(operation, problem=str(error))


def judge(operation: Operation, content: Content, ended: Ended, died: float, commanded: float) -> Outcome:
    """What a transfer shows whose host died and whose failover was commanded at these times."""
    before, moves = total_at(ended.moves, died), ended.moves
    after = moves[-1].total - total_at(moves, commanded)
    wrong = {
        f"curl failed: {ended.problem}": bool(ended.problem),
        f"the SHA-256 is {ended.sha256 or 'missing'}": ended.sha256 != content.sha256,
        "it was not one connection": not ended.same_connection,
        "the transfer was over before the host died": not before < content.length,
        "nothing moved after the command": not after,
    }
    return Outcome(
        operation,
        before,
        after,
        pause_ms=1000 * longest_pause(moves, since=died),
        after_command_ms=1000 * longest_pause(moves, since=commanded, counted_from=commanded),
        usual_pause_ms=1000 * longest_pause([move for move in moves if move.when <= died]),
        seconds=moves[-1].when - moves[0].when,
        problem="; ".join(text for text, is_so in wrong.items() if is_so),
    )


def _lose_first_host(delay: float) -> tuple[float, float]:
    """When the first host died, and when the command was given to the second one."""
    first, second = Shape.TWO_HOSTS.hosts
    died = time.monotonic()
    kill_host(first)
    time.sleep(delay)
    commanded = time.monotonic()
    fail_over(second)
    return died, commanded


def kill_host(host: Host) -> None:
    """All its cables go dark, and its daemon ends in the middle of whatever it does.

    In this order: a host that has died says no goodbye on its connections.
    """
    dark = "".join(f"link set {device} down\n" for device in (UPLINK_PORT, LINK_PORT, host.guest_port))
    found = daemon.find(host)
    subprocess.run(["ip", "-netns", host.role.namespace, "-batch", "-"], input=dark, text=True, check=True)
    if found:
        process.kill(found)


def fail_over(host: Host) -> dict[str, Any]:
    """What `colo-bridge failover --fenced` asks of the host's daemon; its answer."""
    config = configuration.current(host)
    # With an arbiter only that one could tell that nobody has let the primary go on alone: here nobody has.
    words = {"fenced": True, "accept_loss": bool(config.arbiter.command)}
    return ask(config.control_socket, "failover", _DECISION_SECONDS, words)


def table(document: dict[str, Any]) -> str:
    """The pauses for a person."""
    grid = Table("milliseconds without a byte", "p50", "max")
    for operation, pauses in document["pauses"].items():
        for name, text in _PAUSES.items():
            grid.add_row(f"{operation}, {text}", *map(_number, pauses[name].values()))
    console = Console(width=72)
    with console.capture() as captured:
        console.print(grid)
    transfers = document["transfers"]
    right = sum(not transfer["problem"] for transfer in transfers)
    verdict = f"{right} of {len(transfers)} transfers ended on their connection with the right SHA-256"
    return f"{captured.get().rstrip()}\n{verdict}"


_PAUSES = {
    "pause_ms": "since the host died",
    "after_command_ms": "since the command was given",
    "usual_pause_ms": "before that",
}


def _document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "ok": all(outcome.ok for outcome in outcomes),
        "transfers": [asdict(outcome) for outcome in outcomes],
        "pauses": {operation.value: _pauses(outcomes, operation) for operation in Operation},
    }


def _pauses(outcomes: Sequence[Outcome], operation: Operation) -> dict[str, dict[str, float | None]]:
    """Of the transfers that ended well."""
    found = [asdict(outcome) for outcome in outcomes if outcome.ok and outcome.operation is operation]
    return {name: _extent([entry[name] for entry in found]) for name in _PAUSES}


def _extent(values: list[float]) -> dict[str, float | None]:
    return {"p50": statistics.median(values) if values else None, "max": max(values, default=None)}


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.0f}"
