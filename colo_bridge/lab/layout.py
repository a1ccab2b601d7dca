"""Names, addresses and places of the lab: everything that its other modules agree on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

RUN_DIR = Path("/run/cb-lab")
"""State of a lab that is up; only root may read it."""
MODE_FILE = RUN_DIR / "mode"
"""Holds what was made, like `native one-host namespaces`; written last, so it says that `lab up` ended well."""
CONFIG_FILE = RUN_DIR / "lab.toml"
"""Of the one daemon of a lab with one host; `shape` has the places of every shape."""
DAEMON_LOG = RUN_DIR / "daemon.log"
PKI_DIR = RUN_DIR / "pki"
"""The certificates of the two hosts."""
PROCESS_DIR = RUN_DIR / "processes"
"""One record for each process that `lab down` has to end."""
LOG_DIR = RUN_DIR / "logs"
CHECKPOINT_LOG = RUN_DIR / "checkpoints.log"
"""One line for each checkpoint that a daemon asked for."""
ARBITER_FILE = RUN_DIR / "arbiter"
"""A symbolic link to the name of the host that may go on alone: who makes it first has won."""
EVIDENCE_DIR = RUN_DIR / "evidence"
MIGRATION_SOCKET = RUN_DIR / "migration"
"""Carries the state of the primary's virtual machine to the secondary's."""
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

LINK_ADDRESSES = ("192.168.77.1", "192.168.77.2")
"""Of the two hosts, on the cable between them."""
LINK_PREFIX_LENGTH = 30
LINK_TCP_PORT = 7777

BRIDGE = "cb-br0"
SWITCH = "cb-sw0"
"""The bridge that is the network between the client and two hosts."""
UPLINK_PORT = "cb-u0"
"""By which the bridge of one of two hosts reaches the switch."""
LINK_PORT = "cb-l0"
"""An end of the cable between the two hosts."""
CLIENT_PORT = "cb-c0"
PRIMARY_PORT = "cb-p0"
SECONDARY_PORT = "cb-s0"
GUEST_DEVICE = "eth0"
QUEUE_NUMBER = 77
GUEST_NAME = "lab"


class Role(StrEnum):
    """Who lives in a namespace."""

    CLIENT = "client"
    NETWORK = "network"
    HOST = "host"
    HOST_A = "host-a"
    HOST_B = "host-b"
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

    @property
    def qmp_socket(self) -> Path:
        """Where a daemon finds the QEMU of this guest."""
        return self.directory / "qmp"

    @property
    def operators_socket(self) -> Path:
        """The same for anybody else: such a socket serves one client."""
        return self.directory / "operator.qmp"


GUESTS = (Role.PRIMARY, Role.SECONDARY)


class Guests(StrEnum):
    """What the two replicas are."""

    NAMESPACES = "namespaces"
    QEMU = "qemu"


class Mode(StrEnum):
    """What stands between the client and the guests."""

    NATIVE = "native"
    PROTECTED = "protected"
