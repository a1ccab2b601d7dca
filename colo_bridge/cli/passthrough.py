"""`colo-bridge passthrough`: leave traffic of a running guest out of the comparison."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping

from colo_bridge.cli.arguments import Subparsers, add_guest, control_socket
from colo_bridge.config import parse_passthrough
from colo_bridge.daemon import client

_CRITERIA = {
    "protocol": ("PROTOCOL", "tcp, udp, icmp, icmpv6 or a number"),
    "guest_address": ("PREFIX", "prefix that the guest's address is in"),
    "peer_address": ("PREFIX", "prefix that the other side's address is in"),
    "guest_ports": ("PORTS", "the guest's port, or a range like 5000-5999"),
    "peer_ports": ("PORTS", "the other side's port, or a range"),
    "opened_by": ("WHO", "who opens the TCP connection: client or guest"),
    "vlan": ("ID", "VLAN of the frames"),
}
_NUMBERS = ("protocol", "vlan")
_COUNTED = ("packets", "bytes", "secondary_packets")
_SECONDS = 30.0
"""A full table of connections takes a while to look through."""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "passthrough",
        help="leave traffic of a running guest out of the comparison",
        description="Changes which traffic of a running guest leaves without being compared, at once and also for "
        "flows that exist. What is added here lasts until the daemon stops; what stands in the configuration stays.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_parser_of_add(commands)
    remove = commands.add_parser("del", help="compare the traffic of a rule again")
    add_guest(remove)
    remove.add_argument("--name", required=True, help="name of the rule")
    remove.set_defaults(handler=_remove)
    listing = commands.add_parser("list", help="show the rules, and what they let through")
    add_guest(listing)
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(handler=_list)


def _add_parser_of_add(commands: Subparsers) -> None:
    add = commands.add_parser("add", help="add a rule, until the daemon stops")
    add_guest(add)
    add.add_argument("--name", required=True, help="name of the rule")
    for key, (metavar, what) in _CRITERIA.items():
        add.add_argument(f"--{key.replace('_', '-')}", dest=f"rule_{key}", metavar=metavar, help=what)
    add.set_defaults(handler=_add)


def _add(options: argparse.Namespace) -> int:
    path = control_socket(options)
    given = {key: getattr(options, f"rule_{key}") for key in _CRITERIA}
    rule = {key: _number(key, value) for key, value in given.items() if value is not None}
    checked = parse_passthrough({"name": options.name, **rule}).model_dump(exclude_none=True)
    client.ask(path, "passthrough-add", _SECONDS, {"rule": checked})
    return 0


def _number(key: str, value: str) -> str | int:
    return int(value) if key in _NUMBERS and value.isdecimal() else value


def _remove(options: argparse.Namespace) -> int:
    client.ask(control_socket(options), "passthrough-del", _SECONDS, {"name": options.name})
    return 0


def _list(options: argparse.Namespace) -> int:
    answer = client.ask(control_socket(options), "passthrough-list")
    if options.json:
        print(json.dumps(answer, indent=2))
        return 0
    for line in _table([("name", "traffic", "packets", "bytes", "thrown away", "lasts"), *map(_row, answer["rules"])]):
        print(line)
    return 0


def _row(rule: Mapping[str, object]) -> tuple[str, ...]:
    traffic = " ".join(f"{key}={rule[key]}" for key in _CRITERIA if key in rule)
    lasts = "until stopped" if rule["until_stopped"] else "configured"
    counted = (str(rule.get(key, 0)) for key in _COUNTED)
    return (str(rule["name"]), traffic, *counted, lasts)


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
