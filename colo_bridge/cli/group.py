"""`colo-bridge failover`, `solo`, `resume`, `protect`, `drain`: who of two hosts speaks; and `reload`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from colo_bridge.cli.arguments import Subparsers, add_guest, control_socket, positive_seconds
from colo_bridge.daemon import client

_SECONDS = 60.0
"""As long as the daemon may take: an arbiter is asked, a checkpoint made."""

_FENCED = ("fenced", "the other host can't be the service any more, I have seen to that: don't ask the arbiter")
_REPLACED = ("fenced", "the host whose place the secondary has taken is off, and stays off")
_ACCEPT_LOSS = ("accept_loss", "also if clients may have got what this side never produced")


@dataclass(frozen=True, slots=True)
class _Command:
    verb: str
    summary: str
    description: str
    options: tuple[tuple[str, str], ...] = ()


_COMMANDS = (
    _Command(
        "failover",
        "make the secondary the service",
        "Asks the daemon of the secondary to take over, because the primary is lost. The arbiter decides, where one is "
        "configured; without one, say --fenced. If the primary may have gone on alone meanwhile, --accept-loss is "
        "needed as well; so it is for --fenced where an arbiter is configured, which alone would know. Without an "
        "answer of its own QEMU it does not take over.",
        (_FENCED, _ACCEPT_LOSS),
    ),
    _Command(
        "solo",
        "go on without the secondary",
        "Asks the daemon of the primary to let everything leave uncompared, at once. The arbiter decides, where one is "
        "configured; without one the secondary must be connected and hear of it, or say --fenced.",
        (_FENCED,),
    ),
    _Command(
        "resume",
        "wait for the secondary anew, after solo, drained, closed or yielded",
        "Asks the daemon of the primary to begin anew: to hold what its guest sends, for link.secondary_timeout at "
        "most, to wait for its secondary, and to compare with it. A solo that nobody ordered ends by it too.",
    ),
    _Command(
        "protect",
        "begin to compare with a secondary that is connected",
        "Asks the daemon of the primary for the checkpoint with which comparison begins: with a secondary that has "
        "come back, or with a new one; and waits until the replicas are compared, for checkpoint.timeout and "
        "checkpoint.pause_timeout together at most. Where an arbiter is configured and another host than before is "
        "the secondary, what was won of the arbiter is kept until --fenced says that the former one is off for good.",
        (_REPLACED,),
    ),
    _Command(
        "drain",
        "go on without the secondary after a last checkpoint",
        "For a primary that is about to be stopped: asks its daemon for a last checkpoint, and then to let everything "
        "leave uncompared, if the arbiter agrees or the secondary hears of it, as with solo. A checkpoint that is not "
        "done within link.secondary_timeout is not waited for any longer: then what was held leaves uncompared as "
        "well, and the exit status is 1 though the guest is drained.",
    ),
)


def add_parser(subparsers: Subparsers) -> None:
    for command in _COMMANDS:
        parser = subparsers.add_parser(
            command.verb,
            help=command.summary,
            description=f"{command.description} Exit status: 0 done, 1 not done, 2 no daemon is there.",
        )
        add_guest(parser)
        for name, text in command.options:
            parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)
        _add_timeout(parser)
        parser.set_defaults(handler=_decide, verb=command.verb, flags=[name for name, _ in command.options])
    _add_parser_of_reload(subparsers)


def _add_parser_of_reload(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "reload",
        help="read the configuration of a running guest again",
        description="Asks the daemon to read its configuration file again, like SIGHUP: passthrough rules, "
        "control.uids, link.accept and the certificates of the link. If any other key has changed, nothing is taken "
        "over. Exit status: 0 done, 1 refused, 2 no daemon is there.",
    )
    add_guest(parser)
    _add_timeout(parser)
    parser.set_defaults(handler=_reload)


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive_seconds,
        default=_SECONDS,
        help="how long to wait for the answer (default: %(default)g)",
    )


def _decide(options: argparse.Namespace) -> int:
    arguments = {flag: getattr(options, flag) for flag in options.flags}
    answer = client.ask(control_socket(options), options.verb, options.timeout, arguments)
    print(_line(answer))
    return 0 if answer.get("done") is True else 1


def _line(answer: Mapping[str, object]) -> str:
    """The state that came of it, and why, where the daemon says so; and why nothing came of it."""
    line = ": ".join(str(answer[key]) for key in ("state", "reason") if answer.get(key))
    return f"{line}; not done: {problem}" if (problem := answer.get("problem")) else line


def _reload(options: argparse.Namespace) -> int:
    changed = client.ask(control_socket(options), "reload", options.timeout)["changed"]
    print(f"taken over: {', '.join(changed)}" if changed else "nothing has changed")
    return 0
