"""`colo-bridge replay`: would two captures have been found equal?  Needs no privileges."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from colo_bridge.cli.arguments import Subparsers
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

_DESCRIPTION = """\
Compares what two guests sent, from captures: pcap or pcapng (also gzip), of Ethernet, raw IP, Linux cooked or loopback.
Prints each divergence and a summary. After a divergence it goes on as if a checkpoint had been done.

The captures may hold both directions, as those of a guest port do: only what the guest sent is compared. Its
address is learned from the first packets if it is not given. Of one file (of evidence, for example) the
interfaces "primary" and "secondary" are compared.
"""
_EPILOG = "Exit status: 0 equal, 4 not equal or not compared in full, 2 a file or the command line is wrong."


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="compare two captures",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("primary", metavar="PRIMARY", type=Path, help="capture of the primary")
    parser.add_argument("secondary", metavar="SECONDARY", type=Path, nargs="?", help="capture of the secondary")
    parser.add_argument(
        "--guest",
        metavar="ADDRESS",
        type=_address,
        action="append",
        default=[],
        help="IP or MAC address of the guest; may be repeated (default: learned)",
    )
    parser.add_argument(
        "--raw-secondary",
        action="store_true",
        help="the secondary's capture has its own TCP numbers: translate them, as learned from what PRIMARY shows "
        "of the clients",
    )
    parser.add_argument(
        "--offset",
        metavar="SECONDS",
        type=_seconds,
        help="how far the secondary's clock is ahead (default: what the first packets of a common flow differ by, if "
        "that is a second or more)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_some_time,
        default=Settings().timeout,
        help="compare timeout (default: %(default)s)",
    )
    parser.add_argument("--no-checkpoint", action="store_true", help="what has diverged stays so")
    parser.add_argument(
        "--verdicts", action="store_true", help="print the verdict about each packet of the primary too"
    )
    parser.add_argument("--timestamps", action="store_true", help="print times, in seconds since the first packet")
    parser.add_argument("--json", action="store_true", help="print one JSON document, {events: […], summary: {…}}")
    parser.set_defaults(handler=replay)


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


def _address(text: str) -> bytes:
    if re.fullmatch(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text):
        return bytes.fromhex(text.replace(":", ""))
    try:
        return ip_address(text).packed
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an IP nor a MAC address") from None


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")


def _some_time(text: str) -> float:
    value = _seconds(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
