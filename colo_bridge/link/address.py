"""Where the link listens or dials, and when it may do so without TLS."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from dataclasses import dataclass
from typing import Any

from colo_bridge.errors import OperatorError

log = logging.getLogger(__name__)

_FORM = re.compile(r"(?:\[([^]]+)\]|([^:\[\]]+)):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Port 0 lets the kernel choose one, where that makes sense."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """As the kernel takes it."""

    family: int
    address: tuple[Any, ...]


def parse(text: str) -> Address:
    """HOST:PORT; raises OperatorError."""
    found = _FORM.fullmatch(text)
    if found and int(found[3]) <= 0xFFFF:
        return Address(found[1] or found[2], int(found[3]))
    raise OperatorError(f"{text!r} is no address of the link", "HOST:PORT, as in 192.0.2.1:9000 or [2001:db8::1]:9000")


def check_plain(address: str, insecure: bool) -> None:
    """May this numeric address be used without TLS? Raises OperatorError; what was insisted on is logged."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.is_loopback:
        return
    if parsed.is_unspecified:
        raise OperatorError(f"the link does not listen at {address} without TLS", "name one address, or configure TLS")
    if not insecure:
        raise OperatorError(
            f"the link to or at {address} needs TLS",
            "`colo-bridge pki init` makes certificates; or say insecure = true",
        )
    log.warning("the link at %s has no TLS: whoever is on the way can read and forge what the guest sends", address)


def resolve(address: Address) -> Resolved:
    """The first of its addresses, IPv4 before IPv6; raises OperatorError. Asks a resolver, and may take its time."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OperatorError(f"the host {address.host} is not known: {error.strerror or error}") from error
    family, *_, resolved = min(found, key=lambda each: each[0] != socket.AF_INET)
    return Resolved(family, resolved)
