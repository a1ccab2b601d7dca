"""`colo-bridge status`: what the daemon of one guest says about itself."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from colo_bridge.cli.arguments import Subparsers
from colo_bridge.config import Config, load
from colo_bridge.daemon import client
from colo_bridge.errors import OperatorError, PeerError

EXIT_STATUSES = {"protected": 0, "not running": 1}
NOT_PROTECTED = 3

DEFAULT_RUN_DIR = str(Config.model_fields["run_dir"].default)


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "status",
        help="show the state and the counters of a running guest",
        description="Asks the daemon of one guest how it fares. "
        "Exit status: 0 protected, 3 running but not protected, 1 not running.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("file", metavar="FILE", nargs="?", type=Path, help="configuration of the guest (TOML)")
    which.add_argument("--guest", metavar="NAME", help="name of the guest, instead of its configuration")
    parser.add_argument("--run-dir", metavar="DIR", default=DEFAULT_RUN_DIR, help="with --guest (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=status)


def status(options: argparse.Namespace) -> int:
    answer = _ask(_socket_path(options))
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


def _socket_path(options: argparse.Namespace) -> Path:
    if options.file is not None:
        return load(options.file).control_socket
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", options.guest):
        raise OperatorError(f"{options.guest!r} is no name of a guest", "lower-case letters, digits and hyphens")
    return Path(options.run_dir) / f"{options.guest}.sock"


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
        if isinstance(value, Mapping):
            yield from _rows(value, f"{label}: ")
        elif isinstance(value, list):
            yield label, "; ".join(map(str, value)) or "none"
        else:
            yield label, "none" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
