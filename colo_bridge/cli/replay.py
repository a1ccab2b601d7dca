"""`colo-bridge replay`: would two captures have been found equal?  Needs no privileges."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
from ipaddress import ip_address
from pathlib import Path

from colo_bridge.cli.arguments import Subparsers
from colo_bridge.compare.settings import Settings

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
    # Late: the other commands do without what this needs.
    from colo_bridge.cli import replay_command

    return replay_command.replay(options)


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
