"""`colo-bridge run FILE`: protect one guest until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse

from colo_bridge.cli import logs, privileges, running
from colo_bridge.cli.arguments import Subparsers, add_file
from colo_bridge.config import load


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "run",
        help="protect one guest until stopped",
        description="Protects one guest until SIGTERM or SIGINT, and then takes out of the kernel what it put there. "
        "What keeps in a secondary that is alone on its host stays, also where that is the service, and so does what "
        "keeps in a primary whose secondary may be the service or become it. What a killed daemon left in force is "
        "taken over.",
    )
    add_file(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="log details too")
    parser.set_defaults(handler=run)


def run(options: argparse.Namespace) -> int:
    config = load(options.file)
    privileges.require()
    # Before anything is armed: what we would then take back is the other daemon's.
    running.refuse_another(config)
    logs.set_up(options.verbose)
    # Late, because it loads everything that touches the kernel: `check` and --help do without.
    from colo_bridge.daemon import runner

    return runner.run(config, options.file.absolute())
