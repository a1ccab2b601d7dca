"""What a person sees of the demo: a line that moves, and closing tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from colo_bridge.lab.demo.story import Expectation, Story
from colo_bridge.lab.layout import Mode

ACTS = {
    1: "a real FTP server, twice, seen once",
    2: "the same transfers, measured",
    3: "request and response",
    4: "one byte differs",
    5: "what was counted",
    6: "the primary's host dies",
}
COUNTERS = {
    "packets from the primary": "primary_packets",
    "bytes from the primary": "primary_bytes",
    "packets from the secondary": "secondary_packets",
    "bytes from the secondary": "secondary_bytes",
    "packets held now": "held_packets_now",
    "packets held at most": "held_packets_most",
    "bytes held at most": "held_bytes_most",
    "packets released": "released_packets",
    "bytes released": "released_bytes",
    "packets thrown away": "thrown_away_packets",
    "bytes thrown away": "thrown_away_bytes",
    "retransmissions": "retransmissions",
    "dropped by the kernel's queue": "queue_dropped",
    "dropped on the way to the daemon": "queue_user_dropped",
    "dropped by the queue's socket": "socket_dropped",
    "dropped by the mirror's TAP": "mirror_tap_dropped",
    "dropped by the secondary's TAP": "secondary_tap_dropped",
}


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str], None]]:
    """A moving line that says what is going on; what it gives takes the next text."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as moving:
        task = moving.add_task("")

        def announce(text: str) -> None:
            moving.update(task, description=text)
            if not console.is_terminal:
                console.print(text)

        yield announce


def closing(console: Console, story: Story, seconds: float) -> None:
    """The tables, and the verdict."""
    console.print(_throughput(story))
    console.print(_turns(story))
    console.print(_counters(story))
    console.print(_failovers(story))
    console.print(_expectations(story.expectations))
    failed = sum(not expectation.ok for expectation in story.expectations)
    verdict = f"[red]{failed} failed[/]" if failed else "[green]all as expected[/]"
    console.print(f"{len(story.expectations)} expectations, {verdict}, in {seconds:.0f} s")


def _throughput(story: Story) -> Table:
    table = Table("transfer", title="Throughput (Gbit/s, median)", title_justify="left")
    for heading in ("native", "protected", "ratio"):
        table.add_column(heading, justify="right")
    for row in story.throughput():
        table.add_row(row["transfer"], *(_number(row[key]) for key in ("native_gbps", "protected_gbps", "ratio")))
    return table


def _turns(story: Story) -> Table:
    table = Table("", title="Request and response of one byte (µs)", title_justify="left")
    for heading in ("p50", "p99"):
        table.add_column(heading, justify="right")
    for mode in Mode:
        turns = story.turns.get(mode, {})
        table.add_row(mode, _number(turns.get("p50_us")), _number(turns.get("p99_us")))
    table.add_row("ratio", _number(story.turn_ratio()), "")
    return table


def _counters(story: Story) -> Table:
    table = Table("counted by the daemon", title="Counters (all protected rounds)", title_justify="left")
    table.add_column("", justify="right")
    counters = story.counters()
    for text, name in COUNTERS.items():
        table.add_row(text, f"{counters[name]:,}" if name in counters else "—")
    for kind, count in story.divergences().items():
        table.add_row(f"divergences: {kind}{_note(kind)}", f"{count:,}")
    return table


def _failovers(story: Story) -> Table:
    table = Table("failover", title="Longest time without a byte (ms)", title_justify="left")
    for heading in ("before", "since the host died", "since the command"):
        table.add_column(heading, justify="right")
    for outcome in story.failovers:
        pauses = (outcome.usual_pause_ms, outcome.pause_ms, outcome.after_command_ms)
        table.add_row(f"in mid-{outcome.operation}", *(f"{pause:.0f}" for pause in pauses))
    return table


def _note(kind: str) -> str:
    return " (one was injected)" if kind == "content" else " (ended a stall)" if kind == "timeout" else ""


def _expectations(expectations: list[Expectation]) -> Table:
    table = Table("act", "expected", "", title="Expectations", title_justify="left")
    for expectation in expectations:
        verdict = "[green]ok[/]" if expectation.ok else "[red]FAILED[/]"
        text = expectation.text if expectation.ok else f"{expectation.text}\n{expectation.detail}"
        table.add_row(f"{expectation.act} {ACTS[expectation.act]}", escape(text), verdict)
    return table


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"
