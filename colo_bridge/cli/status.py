"""`colo-bridge status`: what the daemon of one guest says about itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from colo_bridge.cli.arguments import Subparsers, add_guest, control_socket
from colo_bridge.daemon import client
from colo_bridge.errors import OperatorError, PeerError

EXIT_STATUSES = {
    "protected": 0,
    "standby": 0,
    "not running": 1,
    "solo": 4,
    "drained": 4,
    "live": 5,
    "closed": 6,
    "yielded": 6,
}
NOT_PROTECTED = 3


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "status",
        help="show the state and the counters of a running guest",
        description="Asks the daemon of one guest how it fares. "
        "Exit status: 0 protected, or the standby of such a one; 1 not running; 3 running but not protected "
        "(observing, for example); 4 solo or drained: everything leaves uncompared; 5 live: this secondary is the "
        "service; 6 closed or yielded: nothing leaves.",
    )
    add_guest(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=status)


def status(options: argparse.Namespace) -> int:
    answer = _ask(control_socket(options))
    _print(answer, options.json)
    return EXIT_STATUSES.get(str(answer.get("state")), NOT_PROTECTED)


def _ask(path: Path) -> Mapping[str, object]:
    try:
        return client.ask(path, "status")
    except OperatorError as error:
        if isinstance(error.__cause__, PermissionError):
            raise
        return {"state": "not running", "problem": str(error)}
    except PeerError as error:
        return {"state": "not answering", "problem": str(error)}


def _print(answer: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    rows = list(_rows(answer))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")


def _rows(answer: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in answer.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping) and value:
            yield from _rows(value, f"{label}: ")
        elif isinstance(value, list):
            yield label, "; ".join(map(str, value)) or "none"
        else:
            yield (
                label,
                "none" if value is None or value == {} else f"{value:.3f}" if isinstance(value, float) else str(value),
            )
