"""`colo-bridge checkpoint`: make the replicas of a running guest equal now."""

from __future__ import annotations

import argparse

from colo_bridge.cli.arguments import Subparsers, add_guest, control_socket, positive_seconds
from colo_bridge.daemon import client

_SECONDS = 60.0


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "checkpoint",
        help="make the replicas of a running guest equal now",
        description="Asks for a checkpoint, or joins the one that is under way, and waits for how it ends. "
        "Exit status: 0 done, 1 not done, 2 no daemon is there.",
    )
    add_guest(parser)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive_seconds,
        default=_SECONDS,
        help="how long to wait (default: %(default)g)",
    )
    parser.set_defaults(handler=checkpoint)


def checkpoint(options: argparse.Namespace) -> int:
    answer = client.ask(control_socket(options), "checkpoint", options.timeout)
    if answer.get("outcome") == "done":
        print(f"checkpoint {answer['epoch']} done")
        return 0
    print(f"checkpoint {answer['outcome']}{'; it will be tried again' if answer.get('again') else ''}")
    return 1
