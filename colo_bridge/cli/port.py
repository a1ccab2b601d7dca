"""`colo-bridge port create|delete NAME`: a guest port for a secondary that nothing leaves by."""

from __future__ import annotations

import argparse
import pwd
import re

from colo_bridge.cli import privileges
from colo_bridge.cli.arguments import Subparsers

_MAC = re.compile(r"[0-9a-f]([02468ace])(:[0-9a-f]{2}){5}", re.IGNORECASE)
"""Of one station, not a group."""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "port",
        help="make a guest port for a secondary that nothing leaves by",
        description="Makes and deletes persistent TAP devices for the QEMU of a secondary guest. What the guest sends "
        "there reaches nobody, whatever becomes of the daemon, until the daemon redirects it to itself.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    create = commands.add_parser("create", help="make a port, up and on no bridge")
    create.add_argument("name", metavar="NAME", type=_name, help="of the device, 15 characters at most")
    create.add_argument("--mac", metavar="ADDRESS", type=_mac, help="of the host's end (default: by chance)")
    create.add_argument("--owner", metavar="USER", type=_user, help="name or number of who may attach a guest to it")
    create.set_defaults(handler=_create)
    delete = commands.add_parser("delete", help="delete a port that `port create` made")
    delete.add_argument("name", metavar="NAME", type=_name, help="of the device")
    delete.set_defaults(handler=_delete)


def _create(options: argparse.Namespace) -> int:
    privileges.require()
    from colo_bridge.kernel import guest_port

    guest_port.create(options.name, address=options.mac, owner=options.owner)
    return 0


def _delete(options: argparse.Namespace) -> int:
    privileges.require()
    from colo_bridge.kernel import guest_port

    guest_port.delete(options.name)
    return 0


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", text) or text in (".", ".."):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a device")
    return text


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address of a device, like 02:00:00:00:00:01")
    return text


def _user(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user {text!r}") from None
