"""Configurations: accepted, or refused in one line; whole ones, and what is added to a good one."""

from __future__ import annotations

from colo_bridge.config import parse
from colo_bridge.errors import OperatorError

_GOOD = """
role = "primary"
guest = "web"
[[nic]]
primary_port = "tap0"
secondary_port = "tap1"
queue = 700
"""
_OF_TWO_HOSTS = """
role = "secondary"
guest = "web"
[[nic]]
secondary_port = "tap0"
bridge = "br0"
[link]
peer = "127.0.0.1:9000"
"""


def one_input(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for whole in (text, _GOOD + text, _OF_TWO_HOSTS + text):
        try:
            config = parse(whole)
        except OperatorError as error:
            assert error.problem.startswith("configuration")
            assert error.problem.isprintable(), "more than one line, or control characters"
            assert error.problem == error.problem.strip()
        else:
            assert config.guest in str(config.control_socket)
