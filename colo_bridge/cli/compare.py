"""`colo-bridge compare`: compare two replicas between QEMU's network filters, in place of its colo-compare."""

from __future__ import annotations

import argparse
import dataclasses

from colo_bridge.cli import logs
from colo_bridge.cli.arguments import Subparsers
from colo_bridge.compare.settings import Settings

_DEFAULTS = Settings()
_LONGEST_TIMEOUT = 0xFFFFFFFF
_ADDRESS = "unix:PATH|tcp:HOST:PORT"

_DESCRIPTION = """
Compares what two replicas of a guest send, between QEMU's filter-redirectors, in place of its colo-compare object.
Needs no privileges. Listens at each address (QEMU's chardevs connect: without server=on) and serves one client at a
time; another one waits until the first has gone. Ends at SIGTERM or SIGINT; SIGUSR1 logs the counters.
"""
_EPILOG = """
Frames are in the format of QEMU's filter-mirror and filter-redirector; with --vnet-hdr each carries the length of its
virtio-net header, as with vnet_hdr_support=on there. --notify speaks as colo-compare's notify_dev does: DO_CHECKPOINT
out when the replicas diverge, COLO_CHECKPOINT in when the secondary has the primary's state. Without --notify,
divergences are only logged, and what diverged is never released.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="compare two replicas between QEMU's network filters",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    for option, text in (
        ("--primary-in", "what the primary sends"),
        ("--secondary-in", "what the secondary sends"),
        ("--out", "what both have sent"),
    ):
        parser.add_argument(option, metavar=_ADDRESS, required=True, help=text)
    parser.add_argument("--notify", metavar=_ADDRESS, help="requests for checkpoints, and their ends")
    parser.add_argument("--vnet-hdr", action="store_true", help="frames come with virtio-net headers")
    parser.add_argument(
        "--compare-timeout",
        metavar="MS",
        type=_positive,
        default=round(_DEFAULTS.timeout * 1000),
        help="milliseconds that a packet may wait for the other replica's (default: %(default)s)",
    )
    parser.add_argument(
        "--max-queue",
        metavar="N",
        type=_positive,
        default=_DEFAULTS.held_packets,
        help="packets of the primary that may wait at once, and half of the secondary's (default: %(default)s)",
    )
    parser.add_argument("--insecure", action="store_true", help="let TCP addresses be reached from other hosts")
    parser.add_argument("-v", "--verbose", action="store_true", help="log details too")
    parser.set_defaults(handler=compare)


def compare(options: argparse.Namespace) -> int:
    logs.set_up(options.verbose)
    # Late, because --help and the other commands do without.
    from colo_bridge.daemon import endpoint, qemu_compare

    sockets = qemu_compare.Sockets(
        primary_in=endpoint.parse(options.primary_in),
        secondary_in=endpoint.parse(options.secondary_in),
        out=endpoint.parse(options.out),
        notify=endpoint.parse(options.notify) if options.notify is not None else None,
        vnet_header=options.vnet_hdr,
        insecure=options.insecure,
    )
    settings = dataclasses.replace(
        _DEFAULTS,
        timeout=options.compare_timeout / 1000,
        held_packets=options.max_queue,
        secondary_packets=2 * options.max_queue,
    )
    return qemu_compare.run(sockets, settings)


def _positive(text: str) -> int:
    number = int(text)
    if not 0 < number <= _LONGEST_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{number} is not between 1 and {_LONGEST_TIMEOUT}")
    return number
