"""What several subcommands share."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from colo_bridge.config import Config, load
from colo_bridge.errors import OperatorError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Subparsers = object

DEFAULT_RUN_DIR = str(Config.model_fields["run_dir"].default)


def add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="configuration of one guest (TOML)")


def add_guest(parser: argparse.ArgumentParser) -> None:
    """Options that name a running guest; `control_socket` reads them."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("file", metavar="FILE", nargs="?", type=Path, help="configuration of the guest (TOML)")
    which.add_argument("--guest", metavar="NAME", help="name of the guest, instead of its configuration")
    parser.add_argument("--run-dir", metavar="DIR", default=DEFAULT_RUN_DIR, help="with --guest (default: %(default)s)")


def control_socket(options: argparse.Namespace) -> Path:
    """Where the daemon of the guest that was named listens."""
    if options.file is not None:
        return load(options.file).control_socket
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", options.guest):
        raise OperatorError(f"{options.guest!r} is no name of a guest", "lower-case letters, digits and hyphens")
    return Path(options.run_dir) / f"{options.guest}.sock"


def positive_seconds(text: str) -> float:
    try:
        if math.isfinite(value := float(text)) and value > 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
