"""What can wait: a packet of either side, and the flow that it waits in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from colo_bridge.compare.decisions import Divergence

Token = Any
"""Whatever the caller names a primary packet by; handed back when it is decided."""


@dataclass(slots=True)
class Tokens:
    """The token of a packet that came in fragments: what stands for each of them, in order of arrival."""

    each: list[Token]
    length: int
    """Bytes of all fragments."""
    released: bool | None = None
    """What became of them; None: they wait."""


class Owner(Protocol):
    """A flow that packets wait in."""

    def renew(self, synchronised: bool, /) -> None:
        """A checkpoint is done: release what is held, forget the secondary's."""

    def why_silent(self, item: Item) -> Divergence:
        """What a packet of this flow has been waiting for, as a divergence of reason TIMEOUT."""


class HalfOpen(Protocol):
    """A TCP connection, as far as it is of interest while its SYNs wait."""

    flow: bytes

    def give_up(self) -> None:
        """Forget the SYNs that wait without their equal, to make room."""


class Item:
    """A packet: `length` in bytes of IP, `arrived` in seconds, `token` None for the secondary's."""

    __slots__ = ("arrived", "length", "owner", "token")

    token: Token
    length: int
    owner: Owner
    arrived: float
