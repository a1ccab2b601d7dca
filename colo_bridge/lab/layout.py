"""Names, addresses and places of the lab: everything that its other modules agree on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

RUN_DIR = Path("/run/cb-lab")
"""State of a lab that is up; only root may read it."""
MODE_FILE = RUN_DIR / "mode"
"""Holds `native` or `protected`; written last, so it says that `lab up` ended well."""
CONFIG_FILE = RUN_DIR / "lab.toml"
DAEMON_LOG = RUN_DIR / "daemon.log"
PROCESS_DIR = RUN_DIR / "processes"
"""One record for each process that `lab down` has to end."""
LOG_DIR = RUN_DIR / "logs"
CHECKPOINT_LOG = RUN_DIR / "checkpoints.log"
"""One line for each checkpoint that the daemon asked for."""
NAMESPACE_DIR = Path("/run/netns")

CLIENT_ADDRESS = "10.77.0.1"
GUEST_ADDRESS = "10.77.0.2"
PREFIX_LENGTH = 24
CLIENT_IPV6_ADDRESS = "fd77::1"
GUEST_IPV6_ADDRESS = "fd77::2"
IPV6_PREFIX_LENGTH = 64
CLIENT_MAC = "52:54:00:77:00:01"
GUEST_MAC = "52:54:00:77:00:02"
"""The same in both guests, as after a checkpoint of a virtual machine."""

BRIDGE = "cb-br0"
CLIENT_PORT = "cb-c0"
PRIMARY_PORT = "cb-p0"
SECONDARY_PORT = "cb-s0"
GUEST_DEVICE = "eth0"
QUEUE_NUMBER = 77
GUEST_NAME = "lab"


class Role(StrEnum):
    """Who lives in a namespace."""

    CLIENT = "client"
    HOST = "host"
    PRIMARY = "primary"
    SECONDARY = "secondary"

    @property
    def namespace(self) -> str:
        return f"cb-{self.value}"

    @property
    def namespace_file(self) -> Path:
        return NAMESPACE_DIR / self.namespace

    @property
    def directory(self) -> Path:
        """A directory of this role's own, for whatever runs there."""
        return RUN_DIR / self.value


GUESTS = (Role.PRIMARY, Role.SECONDARY)


class Mode(StrEnum):
    """What stands between the client and the guests."""

    NATIVE = "native"
    PROTECTED = "protected"
