"""`colo-bridge lab …`: the lab's commands on the command line; `lab_commands` carries them out."""

from __future__ import annotations

import argparse

from colo_bridge.cli.arguments import positive_seconds
from colo_bridge.lab.layout import Guests, Role
from colo_bridge.lab.shape import Shape

DESCRIPTION = """Two guests, a client and the hosts in network namespaces, with the real daemons between them.

  cb-client 10.77.0.1, fd77::1      a client of the service
  cb-host                           the bridge, the guest ports and the daemon; or, with two hosts:
  cb-network                        a switch
  cb-host-a, cb-host-b              a bridge, a guest port and a daemon each
  cb-primary 10.77.0.2, fd77::2     the two replicas: the same addresses,
  cb-secondary 10.77.0.2, fd77::2   each its own kernel TCP stack"""

_SHAPES = {
    Shape.ONE_HOST: "both guests on one host, with one daemon",
    Shape.TWO_HOSTS: "a host for each guest, with a daemon each",
}

EXEC_EPILOG = """The command sees the machine's own files; CB_ROLE says where it runs (primary, secondary, client,
host, …) and CB_DIR is a directory of its own there. For example:

  colo-bridge lab exec --detach both -- sh -c 'cd $CB_DIR && exec python3 -m http.server --bind :: 80'
  colo-bridge lab exec client -- curl http://10.77.0.2/
  colo-bridge lab exec client -- curl 'http://[fd77::2]/'"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lab` and its commands; each sets `handler`, which returns an exit status."""
    lab = subparsers.add_parser(
        "lab",
        help="try it: two guests, a client and the real daemons in network namespaces",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = lab.add_subparsers(dest="lab_command", metavar="COMMAND", required=True)
    _add_up(commands)
    _add(commands, "down", "remove the lab, also what a crash left of one")
    _add_exec(commands)
    _add_json(_add(commands, "status", "say what is up, and the daemons' counters"))
    _add_json(
        _add(
            commands,
            "demo",
            "the whole story in under two minutes: a real FTP server, twice, as one, and a host that dies",
        )
    )
    _add_bench(commands)
    _add_failover(commands)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    epilog: str = "",
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(handler=_run)
    return parser


def _add_up(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "up", "make the lab, and leave it running until `lab down`")
    parser.add_argument("--native", action="store_true", help="the same links with nothing diverted, and no daemon")
    parser.add_argument(
        "--guests",
        choices=[guests.value for guests in Guests],
        default=Guests.NAMESPACES,
        help="what the replicas are: namespaces, or virtual machines in QEMU's COLO (downloads 70 MB once)",
    )
    _add_shape(parser, Shape.TWO_HOSTS)
    _add_daemon_options(parser)


def _add_exec(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "run a command in a guest, in both at once, in the client or in a host"
    parser = _add(commands, "exec", text, EXEC_EPILOG)
    parser.add_argument("--detach", action="store_true", help="leave it running; it ends with the lab")
    parser.add_argument("where", choices=[*(role.value for role in Role), "both"])
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND…")


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "measure GET, PUT and request/response, native and protected in turn"
    parser = _add(commands, "bench", text)
    parser.add_argument("--rounds", type=_positive, default=3, help="the result is their median (default 3)")
    parser.add_argument(
        "--megabytes", type=_positive, default=1000, help="of each transfer, in 10^6 bytes (default 1000)"
    )
    parser.add_argument("--turns", type=_positive, default=5000, help="requests of one byte (default 5000)")
    parser.add_argument("--ipv6", action="store_true", help="over IPv6 instead of IPv4")
    _add_shape(parser, Shape.ONE_HOST)
    _add_daemon_options(parser)
    _add_json(parser)


def _add_failover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "let the primary's host die in mid-download and in mid-upload, and say what the client saw"
    parser = _add(commands, "failover", text)
    parser.add_argument("--megabytes", type=_positive, default=1000, help="of each transfer (default 1000)")
    parser.add_argument("--rate", type=_positive, default=100, help="of each transfer, in MB/s (default 100)")
    parser.add_argument("--rounds", type=_positive, default=1, help="times that each is done (default 1)")
    parser.add_argument(
        "--delay", type=positive_seconds, default=0.0, help="seconds from the host's death to the command (default 0)"
    )
    _add_link_options(parser)
    parser.set_defaults(shape=Shape.TWO_HOSTS)
    _add_daemon_options(parser)
    _add_json(parser)


def _add_shape(parser: argparse.ArgumentParser, default: Shape) -> None:
    shapes = parser.add_mutually_exclusive_group()
    for shape, text in _SHAPES.items():
        note = " (default)" if shape is default else ""
        shapes.add_argument(f"--{shape}", action="store_const", const=shape, dest="shape", help=text + note)
    parser.set_defaults(shape=default)
    _add_link_options(parser)


def _add_link_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-tls", action="store_true", help="with two hosts: their link in plain text")
    parser.add_argument(
        "--arbiter", action="store_true", help="with two hosts: a test-and-set decides which of them may go on alone"
    )


def _add_daemon_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", choices=["auto", "legacy", "nft"], default="auto", help="iptables variant for the daemons' rules"
    )
    settings = {
        "--set": "a further setting of every daemon, for example queue.bypass_when_dead=true; may be repeated",
        "--set-a": "the same for the daemon of host-a",
        "--set-b": "the same for the daemon of host-b",
    }
    for option, text in settings.items():
        name = option.replace("--set", "settings").replace("-", "_")
        parser.add_argument(option, action="append", default=[], dest=name, metavar="SECTION.KEY=VALUE", help=text)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _run(arguments: argparse.Namespace) -> int:
    # Late: what the lab is made of takes longer to load than most other commands to run.
    from colo_bridge.cli.lab_commands import COMMANDS

    return COMMANDS[arguments.lab_command](arguments)
