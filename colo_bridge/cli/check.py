"""`colo-bridge check FILE`: is the configuration right, and what does it amount to?"""

from __future__ import annotations

import argparse

from colo_bridge.cli import toml
from colo_bridge.cli.arguments import Subparsers, add_file
from colo_bridge.config import load


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "check",
        help="check a configuration and print all its values",
        description="Checks a configuration file without touching anything and prints the effective configuration, "
        "defaults included, as TOML. Exit status 2 if it is wrong.",
    )
    add_file(parser)
    parser.set_defaults(handler=check)


def check(options: argparse.Namespace) -> int:
    config = load(options.file)
    if config.two_hosts:
        print(f"# digest {config.digest()}: the same on both hosts")
    print(toml.dump(config.model_dump(exclude_none=True)), end="")
    return 0
