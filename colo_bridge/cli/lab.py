"""`colo-bridge lab …`: the lab's commands on the command line."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from pyroute2 import config as pyroute2_config

from colo_bridge.errors import OperatorError
from colo_bridge.lab import bench, demo, execute, files, lifecycle, records
from colo_bridge.lab.layout import GUEST_ADDRESS, GUEST_IPV6_ADDRESS, GUESTS, Mode, Role

Handler = Callable[[argparse.Namespace], int]

DESCRIPTION = """Two guests, a client and a host in network namespaces, with the real daemon between them.

  cb-client 10.77.0.1, fd77::1      a client of the service
  cb-host                           the bridge, the guest ports and the daemon
  cb-primary 10.77.0.2, fd77::2     the two replicas: the same addresses,
  cb-secondary 10.77.0.2, fd77::2   each its own kernel TCP stack"""

EXEC_EPILOG = """The command sees the machine's own files; CB_ROLE says where it runs (primary, secondary, client,
host) and CB_DIR is a directory of its own there. For example:

  colo-bridge lab exec --detach both -- sh -c 'cd $CB_DIR && exec python3 -m http.server --bind :: 80'
  colo-bridge lab exec client -- curl http://10.77.0.2/
  colo-bridge lab exec client -- curl 'http://[fd77::2]/'"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab` and its commands; each sets `handler`, which returns an exit status."""
    lab = subparsers.add_parser(
        "lab",
        help="try it: two guests, a client and the real daemon in network namespaces",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = lab.add_subparsers(dest="lab_command", metavar="COMMAND", required=True)
    _add_up(commands)
    _add(commands, "down", _down, "remove the lab, also what a crash left of one")
    _add_exec(commands)
    _add_json(_add(commands, "status", _status, "say what is up, and the daemon's counters"))
    _add_json(_add(commands, "demo", _demo, "the whole story in about a minute: a real FTP server, twice, as one"))
    _add_bench(commands)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: Handler,
    text: str,
    epilog: str = "",
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(handler=handler)
    return parser


def _add_up(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "up", _up, "make the lab, and leave it running until `lab down`")
    parser.add_argument("--native", action="store_true", help="the same links with nothing diverted, and no daemon")
    _add_daemon_options(parser)


def _add_exec(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "run a command in a guest, in both at once, in the client or in the host"
    parser = _add(commands, "exec", _exec, text, EXEC_EPILOG)
    parser.add_argument("--detach", action="store_true", help="leave it running; it ends with the lab")
    parser.add_argument("where", choices=[*(role.value for role in Role), "both"])
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND…")


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "measure GET, PUT and request/response, native and protected in turn"
    parser = _add(commands, "bench", _bench, text)
    parser.add_argument("--rounds", type=_positive, default=3, help="the result is their median (default 3)")
    parser.add_argument(
        "--megabytes", type=_positive, default=1000, help="of each transfer, in 10^6 bytes (default 1000)"
    )
    parser.add_argument("--turns", type=_positive, default=5000, help="requests of one byte (default 5000)")
    parser.add_argument("--ipv6", action="store_true", help="over IPv6 instead of IPv4")
    _add_daemon_options(parser)
    _add_json(parser)


def _add_daemon_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", choices=["auto", "legacy", "nft"], default="auto", help="iptables variant for the daemon's rules"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="SECTION.KEY=VALUE",
        help="a further setting of the daemon, for example queue.bypass_when_dead=true; may be repeated",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _up(arguments: argparse.Namespace) -> int:
    _end_in_order()
    lifecycle.up(_options(arguments))
    return 0


def _down(_arguments: argparse.Namespace) -> int:
    files.remove()
    if not lifecycle.down():
        print("no lab was up", file=sys.stderr)
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    command = _command(arguments.command)
    execute.require_lab()
    roles = GUESTS if arguments.where == "both" else (Role(arguments.where),)
    if arguments.detach:
        for role in roles:
            print(execute.detach(role, command).pid)
        return 0
    if len(roles) == 1:
        execute.replace_self(roles[0], command)
    return execute.run_together(roles, command)


def _status(arguments: argparse.Namespace) -> int:
    status = lifecycle.status()
    print(json.dumps(status) if arguments.json else "\n".join(_lines(status)))
    return 0 if records.mode() else 1


def _demo(arguments: argparse.Namespace) -> int:
    _end_in_order()
    return demo.run(as_json=arguments.json)


def _bench(arguments: argparse.Namespace) -> int:
    _end_in_order()
    address = GUEST_IPV6_ADDRESS if arguments.ipv6 else GUEST_ADDRESS
    plan = bench.Plan(arguments.rounds, arguments.megabytes * 1_000_000, arguments.turns, address)
    result = bench.run(plan, _options(arguments), bench.reporter(quiet=arguments.json))
    print(json.dumps(result) if arguments.json else bench.table(result))
    return 0 if all(run["correct"] for run in result["runs"]) else 1


def _options(arguments: argparse.Namespace) -> lifecycle.Options:
    mode = Mode.NATIVE if getattr(arguments, "native", False) else Mode.PROTECTED
    return lifecycle.Options(mode, arguments.backend, tuple(arguments.settings))


def _command(words: Sequence[str]) -> list[str]:
    command = list(words[1:] if words and words[0] == "--" else words)
    if not command:
        raise OperatorError("lab exec needs a command", "colo-bridge lab exec primary -- ip address")
    return command


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {item if isinstance(item, str | int | float) else json.dumps(item)}")
    return lines


def _end_in_order() -> None:
    """Let signals unwind the stack, so that a lab of this command's own is removed.

    pyroute2 forks to enter a namespace and ends that child with SIGTERM: the child, which
    would inherit the handler, must not unwind (and remove the lab) as well.
    """
    pyroute2_config.disable_mp_signal = False
    owner = os.getpid()

    def leave(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:
            os._exit(128 + number)
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
