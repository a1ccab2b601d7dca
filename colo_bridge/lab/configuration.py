"""The daemon's configuration file for the lab: an ordinary one, with the operator's settings on top."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from colo_bridge import config
from colo_bridge.config import Config
from colo_bridge.errors import OperatorError
from colo_bridge.kernel import links
from colo_bridge.lab.layout import (
    CHECKPOINT_LOG,
    CONFIG_FILE,
    GUEST_NAME,
    PRIMARY_PORT,
    QUEUE_NUMBER,
    RUN_DIR,
    SECONDARY_PORT,
)

Document = dict[str, Any]


def make(backend: str, settings: Iterable[str]) -> str:
    """The text of the file, checked; raises OperatorError for a setting that the daemon would refuse."""
    document = _defaults(backend)
    for setting in settings:
        _apply(document, setting)
    text = _toml(document)
    config.parse(text, "the lab's configuration")
    return text


def current() -> Config:
    """The configuration of the lab that is up."""
    return config.load(CONFIG_FILE)


def _defaults(backend: str) -> Document:
    nic = {"name": "net0", "primary_port": PRIMARY_PORT, "secondary_port": SECONDARY_PORT, "queue": QUEUE_NUMBER}
    # The lab's guests have no state to copy: its checkpoint says at once that it is done.
    checkpoint = ["/bin/sh", "-c", f"date +%s.%N >> {CHECKPOINT_LOG}"]
    return {
        "role": "primary",
        "guest": GUEST_NAME,
        "run_dir": str(RUN_DIR),
        "nic": [nic],
        "firewall": {"backend": backend, "ipv6": links.has_ipv6()},
        "checkpoint": {"command": checkpoint},
    }


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
