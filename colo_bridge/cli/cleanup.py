"""`colo-bridge cleanup FILE`: take out what a killed daemon left in the kernel."""

from __future__ import annotations

import argparse

from colo_bridge.cli import privileges, running
from colo_bridge.cli.arguments import Subparsers, add_file
from colo_bridge.config import load


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "cleanup",
        help="remove what a killed daemon left",
        description="Removes the rules, filters and settings that a killed daemon of this configuration left in the "
        "kernel, and nothing else. From then on the guest's traffic leaves unverified; the secondary's port stays "
        "down. What became of a guest on two hosts is not forgotten: who had yielded has yielded with the next run. "
        "Where only the secondary is on this host, its redirect is removed with --force alone.",
    )
    add_file(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="also if something still answers on the control socket, and also the redirect of a secondary",
    )
    parser.set_defaults(handler=cleanup)


def cleanup(options: argparse.Namespace) -> int:
    config = load(options.file)
    privileges.require()
    if not options.force:
        running.refuse_another(config)
    from colo_bridge.kernel import withdrawal

    for line in withdrawal.cleanup(config, force=options.force) or [f"nothing of guest {config.guest} was left"]:
        print(line)
    return 0
