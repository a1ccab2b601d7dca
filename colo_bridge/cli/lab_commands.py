"""What the commands of `colo-bridge lab` do; each returns an exit status."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from pyroute2 import config as pyroute2_config

from colo_bridge.errors import OperatorError
from colo_bridge.lab import bench, demo, execute, failover, files, lifecycle, records
from colo_bridge.lab.layout import GUEST_ADDRESS, GUEST_IPV6_ADDRESS, Guests, Mode, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.shape import Shape


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
    roles = execute.where(arguments.where)
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
    return 0 if records.made() else 1


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


def _failover(arguments: argparse.Namespace) -> int:
    _end_in_order()
    length, rate = arguments.megabytes * 1_000_000, arguments.rate * 1_000_000
    plan = failover.Plan(length, rate, arguments.rounds, arguments.delay)
    document = failover.run(plan, _options(arguments), bench.reporter(quiet=arguments.json))
    print(json.dumps(document) if arguments.json else failover.table(document))
    return 0 if document["ok"] else 1


def _options(arguments: argparse.Namespace) -> Options:
    own = {Role.HOST_A: tuple(arguments.settings_a), Role.HOST_B: tuple(arguments.settings_b)}
    if arguments.shape is Shape.ONE_HOST and (arguments.no_tls or arguments.arbiter or any(own.values())):
        raise OperatorError("this lab has one host", "--no-tls, --arbiter, --set-a and --set-b are for two")
    mode = Mode.NATIVE if getattr(arguments, "native", False) else Mode.PROTECTED
    guests = Guests(getattr(arguments, "guests", Guests.NAMESPACES))
    if mode is Mode.NATIVE and guests is Guests.QEMU:
        raise OperatorError("without its daemon there is no second virtual machine", "leave out --native")
    return Options(
        mode,
        arguments.shape,
        arguments.backend,
        tuple(arguments.settings),
        own,
        tls=not arguments.no_tls,
        arbiter=arguments.arbiter,
        guests=guests,
    )


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


COMMANDS = {
    "up": _up,
    "down": _down,
    "exec": _exec,
    "status": _status,
    "demo": _demo,
    "bench": _bench,
    "failover": _failover,
}
