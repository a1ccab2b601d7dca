"""Where the link listens or dials, and when it may do so without TLS."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from colo_bridge.config_link import numeric, refusal_without_tls, split_address
from colo_bridge.errors import OperatorError


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

    @property
    def host(self) -> str:
        """Numeric."""
        return str(self.address[0])


def parse(text: str) -> Address:
    """HOST:PORT; raises OperatorError."""
    try:
        return Address(*split_address(text))
    except ValueError as error:
        raise OperatorError(str(error)) from error


def check_plain(address: str, insecure: bool) -> None:
    """May this numeric address be used without TLS? Raises OperatorError."""
    if refusal := refusal_without_tls(address, insecure):
        raise OperatorError(refusal)


def is_elsewhere(address: str) -> bool:
    """Does the way to this numeric address lead off this host, as far as the address tells?"""
    return not numeric(address).is_loopback


def resolve(address: Address) -> Resolved:
    """The first of its addresses, IPv4 before IPv6; raises OperatorError. Asks a resolver, and may take its time."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OperatorError(f"the host {address.host} is not known: {error.strerror or error}") from error
    family, *_, resolved = min(found, key=lambda each: each[0] != socket.AF_INET)
    return Resolved(family, resolved)
