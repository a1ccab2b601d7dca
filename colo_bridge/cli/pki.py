"""`colo-bridge pki init DIR`: certificates for the link between two hosts."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from colo_bridge.cli.arguments import Subparsers
from colo_bridge.errors import OperatorError

_LONGEST_DAYS = 36_500


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "pki",
        help="make certificates for the link between two hosts",
        description="Makes the certificates by which the two hosts of a guest know each other. For a lab or a first "
        "installation: where there is a certificate authority already, let that one make them.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    init = commands.add_parser(
        "init",
        help="make a certificate authority and the certificates of two hosts",
        description="Makes DIR with a certificate authority and, for each host, a directory with what belongs there. "
        "NAME is the host's name or address, and further ones separated by commas: what a connection is made to, and "
        "what the other side accepts. Nothing that exists is overwritten.",
    )
    init.add_argument("directory", metavar="DIR", type=Path, help="must not exist yet, or be empty")
    init.add_argument("--primary", metavar="NAME", required=True, help="as in host-a.example,192.0.2.1")
    init.add_argument("--secondary", metavar="NAME", required=True)
    init.add_argument("--days", type=int, default=3_650, help="of validity (default: %(default)s)")
    init.set_defaults(handler=_init)


def _init(options: argparse.Namespace) -> int:
    from colo_bridge.link import pki

    if not 0 < options.days <= _LONGEST_DAYS:
        raise OperatorError(f"--days must be from 1 to {_LONGEST_DAYS}")
    hosts = [pki.parse_names(options.primary), pki.parse_names(options.secondary)]
    directory = options.directory.absolute()
    pki.init(directory, hosts, datetime.now(UTC), options.days)
    for host, *_ in hosts:
        print(f"to {host}: copy {directory / host}/ as /etc/colo-bridge/tls/ (directory 0700, keys 0600)")
    print(f"keep {directory / pki.AUTHORITY_KEY} to yourself: it makes further certificates, and no host needs it")
    return 0
