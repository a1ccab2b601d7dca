"""The sections of a guest on two hosts: the link between them, and who decides when it is gone."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from colo_bridge.config_sections import Argument, OptionalPath, Seconds, Section

_ADDRESS = re.compile(r"(?:\[([^]]+)\]|([^:\[\]]+)):(\d{1,5})", re.ASCII)


def split_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [HOST]:PORT; raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if found and int(found[3]) <= 0xFFFF:
        return found[1] or found[2], int(found[3])
    raise ValueError(f"{text!r} is no address of the link (HOST:PORT, as in 192.0.2.1:9000 or [2001:db8::1]:9000)")


def numeric(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A numeric address without its scope, and as IPv4 what IPv6 only wraps; raises ValueError."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed


def refusal_without_tls(address: str, insecure: bool) -> str:
    """Why this numeric address must not be used without TLS; empty if it may. Raises ValueError."""
    parsed = numeric(address)
    if parsed.is_loopback or (insecure and not parsed.is_unspecified):
        return ""
    if parsed.is_unspecified:
        return f"the link does not listen at {address} without TLS (name one address, or configure TLS)"
    return f"the link to or at {address} needs TLS (`colo-bridge pki init` makes certificates; or say insecure = true)"


def _address(value: str) -> str:
    if value and split_address(value)[1] == 0:
        raise ValueError(f"{value!r} names no port")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("only characters that can be printed")
    return value


LinkAddress = Annotated[str, AfterValidator(_address)]
# As long as the link's messages allow.
Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]


class LinkConfig(Section):
    """The link to the other host, and how long each side waits for the other one."""

    listen: LinkAddress = ""
    """Where the primary listens, and a secondary once it is live and takes a new secondary."""
    peer: LinkAddress = ""
    """Where the secondary finds the primary."""
    identity: Name = Field(default_factory=socket.gethostname)
    """Name of this host towards the other one; by default the host's name."""
    tls_directory: OptionalPath = ""
    """Certificates and keys, laid out like QEMU's; empty: no TLS."""
    accept: tuple[Name, ...] = ()
    """Names of which the other side's certificate must have one."""
    insecure: bool = False
    """Allow a link without TLS that leaves the host."""
    heartbeat_interval: Seconds = 0.25
    """Seconds between two signs of life, on each connection of the link."""
    heartbeat_timeout: Seconds = 2.0
    """Seconds without any on one of them after which the link is lost."""
    queue_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 34)] = 64 << 20
    """Bytes that may wait to be sent, for each NIC."""
    secondary_timeout: Seconds = 5.0
    """Seconds for which the primary holds packets once the secondary is lost, or has never come."""
    on_secondary_lost: Literal["solo", "closed"] = "solo"
    """What the primary does then: let everything leave uncompared, or nothing at all."""
    primary_timeout: Seconds = 5.0
    """Seconds after which a secondary that misses the primary asks the arbiter by itself."""
    on_primary_lost: Literal["wait", "arbiter"] = "wait"
    """Whether it does: only report and wait for an operator, or ask."""

    @model_validator(mode="after")
    def _sensible(self) -> LinkConfig:
        if self.heartbeat_timeout <= self.heartbeat_interval:
            raise ValueError("heartbeat_timeout must be longer than heartbeat_interval")
        if self.tls_directory:
            self._check_tls()
        else:
            self._check_plain()
        return self

    def _check_tls(self) -> None:
        if not self.accept:
            raise ValueError("tls_directory needs the key accept: the names that the other host's certificate may have")
        if self.insecure:
            raise ValueError("insecure has no meaning with tls_directory")

    def _check_plain(self) -> None:
        if self.accept:
            raise ValueError("accept has no meaning without tls_directory")
        for key in ("listen", "peer"):
            if (address := getattr(self, key)) and (refusal := _refusal(split_address(address)[0], self.insecure)):
                raise ValueError(f"{key}: {refusal}")


def _refusal(host: str, insecure: bool) -> str:
    try:
        return refusal_without_tls(host, insecure)
    except ValueError:
        return ""  # a name: its address is judged when the link is used


class ArbiterConfig(Section):
    """The command that decides which side goes on alone: a fence, or a test-and-set that both hosts share."""

    command: tuple[Argument, ...] = ()
    """Program and arguments, run without a shell; its exit status 0 means: this side."""
    give_back: tuple[Argument, ...] = ()
    """Program and arguments by which a side frees what it has won and needs no more; empty: nothing to free."""
    timeout: Seconds = 10.0
    """Seconds after which it is killed, and this side has lost."""

    @model_validator(mode="after")
    def _complete(self) -> ArbiterConfig:
        if self.give_back and not self.command:
            raise ValueError("give_back has no meaning without the key command")
        return self
