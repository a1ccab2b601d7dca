"""What `lab up` is asked to make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from colo_bridge.lab.layout import Guests, Mode, Role
from colo_bridge.lab.shape import Shape


@dataclass(frozen=True, slots=True)
class Options:
    """A lab that is not there yet."""

    mode: Mode = Mode.PROTECTED
    shape: Shape = Shape.ONE_HOST
    backend: str = "auto"
    settings: tuple[str, ...] = ()
    """SECTION.KEY=VALUE, on top of the lab's own configuration; for every daemon."""
    host_settings: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    """The same for the daemon of one host."""
    tls: bool = True
    """On the link between two hosts."""
    arbiter: bool = False
    """Two hosts have one that lets either of them go on alone, and never both."""
    guests: Guests = Guests.NAMESPACES
    """Virtual machines are for a lab with daemons only."""
