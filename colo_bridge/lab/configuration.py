"""The configuration files of the lab's daemons: ordinary ones, with the operator's settings on top."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from colo_bridge import config
from colo_bridge.config import Config
from colo_bridge.errors import OperatorError
from colo_bridge.kernel import links
from colo_bridge.lab import records
from colo_bridge.lab.layout import (
    ARBITER_FILE,
    CHECKPOINT_LOG,
    EVIDENCE_DIR,
    GUEST_NAME,
    GUESTS,
    LINK_ADDRESSES,
    LINK_TCP_PORT,
    PKI_DIR,
    Guests,
)
from colo_bridge.lab.options import Options
from colo_bridge.lab.shape import Host

Document = dict[str, Any]

_ARBITER = """\
ln -s "$COLO_IDENTITY" "$0" 2>/dev/null; [ "$(readlink "$0")" = "$COLO_IDENTITY" ]"""
"""A test-and-set: the first one makes the link, and whoever made it may go on, however often it asks."""
_GIVE_BACK = """[ "$(readlink "$0")" != "$COLO_IDENTITY" ] || rm "$0\""""


def make(options: Options, host: Host) -> str:
    """The text of a host's file, checked; raises OperatorError for a setting that the daemon would refuse."""
    document = _common(options, host)
    if options.shape.has_link:
        document |= _of_two(options, host)
    for setting in (*options.settings, *options.host_settings.get(host.role, ())):
        _apply(document, setting)
    text = _toml(document)
    config.parse(text, f"the configuration of the lab's {host.role}")
    return text


def current(host: Host | None = None) -> Config:
    """The configuration of a host of the lab that is up; of the one that compares, if none is named."""
    return config.load((host or records.comparing_host()).config_file)


def host_names(shape_hosts: Sequence[Host]) -> list[list[str]]:
    """What the certificate of each of two hosts says: its name and its address."""
    return [[host.role.value, address] for host, address in zip(shape_hosts, LINK_ADDRESSES, strict=True)]


def _common(options: Options, host: Host) -> Document:
    return {
        "role": host.daemon_role,
        "guest": GUEST_NAME,
        "run_dir": str(host.role.directory),
        "nic": [{"name": "net0", **host.nic}],
        "firewall": {"backend": options.backend, "ipv6": links.has_ipv6()},
        "checkpoint": _checkpoint(options, host),
        "evidence": {"directory": str(EVIDENCE_DIR)},
    }


def _checkpoint(options: Options, host: Host) -> Document:
    """Who makes them: a command that says at once that it is done, where guests have no state to copy, or QEMU."""
    if options.guests is Guests.NAMESPACES:
        return {"command": ["/bin/sh", "-c", f"date +%s.%N >> {CHECKPOINT_LOG}"]}
    if options.shape.has_link:
        return {"provider": "qmp", "qmp": str(host.guest.qmp_socket)}
    sockets = {f"qmp_{guest}": str(guest.qmp_socket) for guest in GUESTS}
    return {"provider": "qmp", **sockets}


def _of_two(options: Options, host: Host) -> Document:
    """What a daemon needs beside the rest to reach the other one."""
    addresses = {each.role: address for each, address in zip(options.shape.hosts, LINK_ADDRESSES, strict=True)}
    other = next(role for role in addresses if role != host.role)
    own = host.role.value
    # A secondary that has gone live listens too.
    link: Document = {"identity": own, "listen": f"{addresses[host.role]}:{LINK_TCP_PORT}"}
    if host.daemon_role == "secondary":
        link["peer"] = f"{addresses[other]}:{LINK_TCP_PORT}"
    link |= {"tls_directory": str(PKI_DIR / own), "accept": [other]} if options.tls else {"insecure": True}
    scripts = {"command": _ARBITER, "give_back": _GIVE_BACK} if options.arbiter else {}
    arbiter = {key: ["/bin/sh", "-c", script, str(ARBITER_FILE)] for key, script in scripts.items()}
    return {"link": link} | ({"arbiter": arbiter} if arbiter else {})


def _apply(document: Document, setting: str) -> None:
    path, equals, text = setting.partition("=")
    section, dot, key = path.strip().partition(".")
    if not (equals and dot and key):
        raise OperatorError(f"setting {setting!r} is not SECTION.KEY=VALUE", "for example queue.bypass_when_dead=true")
    target = document["nic"][0] if section == "nic" else document.setdefault(section, {})
    if not isinstance(target, dict):
        raise OperatorError(f"{section} is not a section of the configuration")
    target[key] = _value(text.strip())


def _value(text: str) -> object:
    """A TOML value; what is none is taken as a string, so that words need no quotes."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value


def _toml(document: Document) -> str:
    plain = {key: value for key, value in document.items() if not _is_table(value)}
    parts = [_lines(plain)]
    parts += [f"[[nic]]\n{_lines(nic)}" for nic in document["nic"]]
    parts += [f"[{key}]\n{_lines(value)}" for key, value in document.items() if isinstance(value, dict)]
    return "\n".join(parts)


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))


def _lines(table: Mapping[str, Any]) -> str:
    # JSON's strings, numbers, booleans and arrays are TOML as well.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
