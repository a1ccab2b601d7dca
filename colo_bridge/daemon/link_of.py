"""From the configuration to an end of the link."""

from __future__ import annotations

from pathlib import Path

from colo_bridge.config import Config, LinkConfig
from colo_bridge.errors import InternalError
from colo_bridge.link import address
from colo_bridge.link.client import LinkClient
from colo_bridge.link.end import LinkEnd
from colo_bridge.link.protocol.actions import Timing
from colo_bridge.link.protocol.backoff import Backoff
from colo_bridge.link.server import LinkServer
from colo_bridge.link.session import LinkOwner, LinkSettings
from colo_bridge.link.tls import CLIENT, SERVER, Credentials

_LONGEST_PAUSE = 1.0
"""Seconds between two tries to dial: a guest that nobody protects is waiting, and it is one connection."""


def section(config: Config) -> LinkConfig:
    if config.link is None:
        raise InternalError("a daemon of two hosts was made without [link]")
    return config.link


def listen(config: Config, owner: LinkOwner) -> LinkEnd:
    """Raises OperatorError if it cannot; where nothing says at which address, nobody will ever connect."""
    link = section(config)
    if not link.listen:
        return LinkEnd(_settings(config), owner, None)
    credentials = _credentials(link, SERVER)
    return LinkServer(address.parse(link.listen), _settings(config), owner, credentials, link.insecure)


def dial(config: Config, owner: LinkOwner) -> LinkClient:
    """Raises OperatorError if the certificates cannot be used."""
    link = section(config)
    credentials = _credentials(link, CLIENT)
    backoff = Backoff(longest=_LONGEST_PAUSE)
    return LinkClient(address.parse(link.peer), _settings(config), owner, credentials, link.insecure, backoff)


def _settings(config: Config) -> LinkSettings:
    link = section(config)
    # A stream is paused for the rest of a checkpoint at most.
    patience = config.checkpoint.timeout + config.checkpoint.pause_timeout
    timing = Timing(interval=link.heartbeat_interval, timeout=link.heartbeat_timeout, patience=patience)
    return LinkSettings(tuple(nic.name for nic in config.nic), timing, link.queue_bytes)


def _credentials(link: LinkConfig, kind: str) -> Credentials | None:
    return Credentials(Path(link.tls_directory), kind, link.accept) if link.tls_directory else None
