"""What `colo-bridge replay` does."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence

from colo_bridge.cli.replay_report import Report
from colo_bridge.compare.settings import Settings
from colo_bridge.daemon.captures import Capture, Record
from colo_bridge.daemon.replay import Player
from colo_bridge.daemon.replay_learning import Guest, clock_difference, learn_guest
from colo_bridge.errors import OperatorError

NOT_EQUAL = 4

_BEGINNING = 1_000
"""Packets of each capture from which the guest's address and the clocks' difference are learned."""
_SHOWN = 1_024
"""Packets between two updates of the progress bar."""


def replay(options: argparse.Namespace) -> int:
    with contextlib.ExitStack() as opened:
        captures = [opened.enter_context(contextlib.closing(capture)) for capture in _captures(options)]
        streams = [iter(capture) for capture in captures]
        primary, secondary = (list(itertools.islice(stream, _BEGINNING)) for stream in streams)
        guests = _guests(options.guest, primary, secondary)
        offset = options.offset
        difference = clock_difference(primary, secondary, guests) if offset is None else round(offset * 1e9)
        settings = Settings(timeout=options.timeout, evidence=False)
        player = Player(settings, *guests, options.raw_secondary, not options.no_checkpoint)
        whole = [itertools.chain(*both) for both in zip((primary, secondary), streams, strict=True)]
        report = Report(options, player, guests, difference)
        with _progress(captures, whole) as (ours, theirs):
            report.print(player.play(ours, theirs, difference))
        return 0 if report.result == "equal" else NOT_EQUAL


def _captures(options: argparse.Namespace) -> list[Capture]:
    if options.secondary is None:
        return [Capture(options.primary, name) for name in ("primary", "secondary")]
    return [Capture(options.primary), Capture(options.secondary)]


def _guests(given: Sequence[bytes], primary: list[Record], secondary: list[Record]) -> tuple[Guest, Guest]:
    """Of both captures; either may hold one direction only, then all of it is the guest's."""
    if given:
        return Guest(frozenset(given)), Guest(frozenset(given))
    ours, theirs = learn_guest(primary), learn_guest(secondary)
    if ours is None or (theirs is None and not ours.addresses):
        raise OperatorError("the captures do not tell which address is the guest's", "name it with --guest ADDRESS")
    if theirs is None or (theirs.addresses and ours.addresses):
        theirs = ours
    return ours, theirs


@contextlib.contextmanager
def _progress(captures: Sequence[Capture], streams: Sequence[Iterable[Record]]) -> Iterator[Sequence[Iterable[Record]]]:
    """The streams, with a bar on a terminal while they are read."""
    if not sys.stderr.isatty():
        yield streams
        return
    from rich.console import Console
    from rich.progress import Progress

    # Rich would take standard output for its own, wherever that leads.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("comparing", total=sum(capture.size for capture in captures) or None)

        def shown(records: Iterable[Record]) -> Iterator[Record]:
            for count, record in enumerate(records):
                if count % _SHOWN == 0:
                    progress.update(task, completed=sum(capture.position for capture in captures))
                yield record

        yield [shown(stream) for stream in streams]
