"""What this daemon says of itself when the link begins."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

from colo_bridge.config import Config, LinkConfig
from colo_bridge.link.protocol.conversation import CONTROL
from colo_bridge.link.protocol.messages import VERSION, Hello, Role

NEVER = 1e9
"""Seconds, announced by a primary that lets nothing out however long its secondary is gone."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """`instance` tells this process from the one that served the guest before it."""

    role: Role
    config: Config
    link: LinkConfig
    instance: str = field(default_factory=lambda: secrets.token_hex(8))

    def renewed(self, config: Config) -> Greeting:
        """The same process with a configuration that was read again, for the sessions to come."""
        return replace(self, config=config)

    @property
    def nics(self) -> tuple[str, ...]:
        return tuple(nic.name for nic in self.config.nic)

    def hello(self) -> Hello:
        """Stream and session are filled in by the link; epochs begin anew with each session, by barriers."""
        return Hello(
            version=VERSION,
            role=self.role,
            identity=self.link.identity,
            guest=self.config.guest,
            configuration=self.config.digest(),
            stream=CONTROL,
            session="",
            epoch=0,
            secondary_timeout=self._patience(),
            instance=self.instance,
        )

    def _patience(self) -> float:
        if self.role is not Role.PRIMARY:
            return 0.0
        # Where a dead daemon lets all pass, what has left since it was last heard nobody knows.
        if self.config.compare.mode == "observe" or self.config.queue.bypass_when_dead:
            return 0.0
        return self.link.secondary_timeout if self.link.on_secondary_lost == "solo" else NEVER
