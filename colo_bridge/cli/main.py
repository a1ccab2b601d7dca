"""The command line: its parser, and how errors end a command.

Exit statuses: 0 as wished; 1 something failed; 2 the command line, the
configuration or the privileges are wrong; `status` and `replay` have more, see there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from colo_bridge import __version__
from colo_bridge.cli import check, checkpoint, cleanup, compare, group, lab, passthrough, pki, port, replay, run, status
from colo_bridge.errors import ColoBridgeError

Handler = Callable[[argparse.Namespace], int]

INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    handler: Handler = options.handler
    try:
        status = handler(options)
        sys.stdout.flush()
        return status
    except ColoBridgeError as error:
        return _complain(str(error), error.exit_status)
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="colo-bridge",
        description="Runs a guest's network service on two replicas: what the primary sends is held in the kernel "
        "until the secondary has sent the same bytes.",
        epilog="Each command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (run, check, status, checkpoint, passthrough, group, port, cleanup, compare, replay, pki, lab):
        module.add_parser(subparsers)
    return parser


def _complain(problem: str, exit_status: int) -> int:
    print(f"colo-bridge: error: {' '.join(problem.split())}", file=sys.stderr)
    return exit_status


def _reader_gone() -> int:
    # Python flushes standard output once more at exit; give it somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
