"""The secondary on the other host, as the primary's daemon sees it: its packets, its epochs, its comings and goings.

1. What it sends is compared only while it belongs to the epoch that is compared; `PrimaryEpoch` says so.
2. What clients send to the primary goes to it for as long as the link is up.
3. After a checkpoint that copies nothing its answer is waited for, but not for ever: then the session ends, and the
   next one asks it anew, with nothing in front of the question.
4. One that comes has joined when it has said its first word, which may be that it is the service by now: then nothing
   more may leave here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from colo_bridge.checkpoint.epochs import (
    Action,
    Alignment,
    Begun,
    Fence,
    Forget,
    Parted,
    PauseStream,
    Renew,
    ResumeStream,
    SendBarrier,
    Suspended,
    Wanted,
)
from colo_bridge.checkpoint.primary_epoch import PrimaryEpoch
from colo_bridge.checkpoint.replica import News
from colo_bridge.daemon.greeting import Greeting
from colo_bridge.daemon.linked_path import LinkedPath
from colo_bridge.daemon.moved import messages_of
from colo_bridge.daemon.primary_readers import PrimaryReaders
from colo_bridge.link.end import LinkEnd
from colo_bridge.link.protocol.actions import Closed
from colo_bridge.link.protocol.messages import CheckpointRequest, Failover, Hello, Message, Presence, Statistics
from colo_bridge.wire.framing import Frame

log = logging.getLogger(__name__)


class Told(Protocol):
    """Who hears of it."""

    def secondary_joined(self) -> None: ...

    def secondary_lost(self, why: str, *, link_is_up: bool = False) -> None: ...

    def secondary_is_there(self, presence: Presence) -> None: ...

    def secondary_is_live(self, reason: str) -> None:
        """It is the service now: nothing of this side may leave any more."""

    def comparing(self) -> None:
        """From now on packets are compared."""

    def suspended(self, why: str) -> None:
        """They are not any more, though the secondary is there."""

    def checkpoint_wanted(self, reason: str) -> None: ...

    def checkpoint_made(self) -> None: ...

    def checkpoint_failed(self) -> None:
        """It is tried again; meanwhile the guest may stand still for it."""


class FarSecondary:
    """Owner of the link, and what a checkpoint concerns beside the hypervisor."""

    link: LinkEnd

    def __init__(self, greeting: Greeting, synchronises: bool, told: Told) -> None:
        """`synchronises`: after a checkpoint the secondary's state is the primary's."""
        self.greeting = greeting
        self._told = told
        self._synchronises = synchronises
        self._paths: Mapping[str, LinkedPath] = {}
        self._readers = PrimaryReaders(())
        self._ask_hypervisor: Callable[[Callable[[], None]], None] = lambda answered: answered()
        self._newcomer: Hello | None = None
        self.has_joined = False
        self._peer_instance = ""
        self._rests = False
        self._patience = greeting.config.checkpoint.timeout
        self._asked_at: float | None = None
        self.is_live = False
        """Whether it is connected, and the service."""
        self.epoch = PrimaryEpoch(greeting.nics, synchronises)
        self.statistics: Mapping[str, int] = {}

    def serve(
        self,
        paths: Sequence[LinkedPath],
        readers: PrimaryReaders,
        ask_hypervisor: Callable[[Callable[[], None]], None],
    ) -> None:
        """`ask_hypervisor` calls what it is given once everything that the hypervisor has said was told."""
        self._paths = {path.nic: path for path in paths}
        self._readers = readers
        self._ask_hypervisor = ask_hypervisor

    # Before and after a time without comparison.

    def rest(self) -> None:
        """Nothing is compared until `begin`, or a checkpoint that copies state."""
        self._rests = True
        self._peer_instance = ""

    def begin(self) -> None:
        """Compare as soon as can be: connections of before are unsynchronised."""
        if not self._rests:
            return
        self._rests = False
        if self.has_joined and not self._synchronises:
            peer = self.link.peer
            self._peer_instance = peer.instance if peer is not None else ""
            self._perform(self.epoch.link_up(same_peer=False))

    def tick(self, now: float) -> None:
        """To be called several times a second: a secondary that does not answer a barrier holds the guest up."""
        if not self.epoch.awaits_answer:
            self._asked_at = None
        elif self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at >= self._patience:
            self.link.disconnect(f"a checkpoint was made, and the secondary did not answer for {self._patience:g} s")

    # What the link tells.

    def hello(self) -> Hello:
        return self.greeting.hello()

    def link_up(self, peer: Hello) -> None:
        self._newcomer = peer

    def _join(self, peer: Hello) -> None:
        same = peer.instance == self._peer_instance
        self._peer_instance = peer.instance
        self._told.secondary_joined()
        self.has_joined = True
        if self._synchronises or not self._rests:
            self._perform(self.epoch.link_up(same))

    def _goes_live(self, reason: str) -> None:
        self._part()
        self.rest()
        self.is_live = True
        self._told.secondary_is_live(reason)

    def _part(self) -> None:
        self._newcomer = None
        self.has_joined = self.is_live = False
        self._asked_at = None
        self._perform(self.epoch.link_down())

    def link_down(self, closed: Closed) -> None:
        self._part()
        self.statistics = {}
        self._told.secondary_lost(f"the link is down: {closed.error}")

    def link_packets(self, nic: str, buffer: bytearray, frames: list[Frame]) -> None:
        self._paths[nic].from_secondary(buffer, frames)

    def link_barrier(self, stream: str, epoch: int) -> None:
        self._perform(self.epoch.barrier(stream, epoch))

    def link_message(self, message: Message) -> None:
        match message:
            case CheckpointRequest(reason):
                log.warning("the secondary asks for a checkpoint: %s", reason)
                self._perform(self.epoch.requested(reason))
            case Failover(reason):
                self._goes_live(reason)
            case Presence():
                if (newcomer := self._newcomer) is not None:
                    self._newcomer = None
                    self._join(newcomer)
                self._told.secondary_is_there(message)
            case Statistics(counters):
                self.statistics = counters

    def link_room(self, nic: str) -> None:
        """What found no room was dropped: its senders repeat it."""

    # What a checkpoint does.

    def told(self, news: News) -> None:
        """What the primary's hypervisor does."""
        self._perform(self.epoch.told(news))

    def stopped(self, primary: bool) -> None:
        if primary:
            for path in self._paths.values():
                path.stopped()
            self._readers.rest()

    def checkpoint_done(self, synchronised: bool) -> None:
        # One that copies state has told its news.
        if not synchronised:
            self._perform(self.epoch.done())
        self._told.checkpoint_made()

    def checkpoint_failed(self, why: str) -> None:
        self._perform(self.epoch.failed(why))
        self._told.checkpoint_failed()

    def goes_on(self) -> None:
        self._readers.start()

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case SendBarrier(epoch):
                    self.link.barrier(epoch)
                case Fence(epoch):
                    self._fence(epoch)
                case Renew(synchronised, nic):
                    self._renew(synchronised, nic)
                case Forget():
                    for path in self._paths.values():
                        path.forget()
                case Begun():
                    self._tell_what_is_moved()
                    self._told.comparing()
                case Suspended(detail):
                    self._told.suspended(detail)
                case Parted():
                    self._told.secondary_lost("the replicas are no longer in COLO", link_is_up=True)
                case Wanted(cause):
                    self._told.checkpoint_wanted(cause.value)
                case PauseStream(nic):
                    self.link.pause(nic)
                case ResumeStream(nic):
                    self.link.resume(nic)
        for name, path in self._paths.items():
            path.accepts = self.epoch.accepts[name]

    def _tell_what_is_moved(self) -> None:
        for name, path in self._paths.items():
            for message in messages_of(name, path.offsets()):
                self.link.send(message)

    def _fence(self, epoch: int) -> None:
        self._ask_hypervisor(lambda: self._perform(self.epoch.fenced(epoch)))

    def _renew(self, synchronised: bool, nic: str | None) -> None:
        if synchronised and self.epoch.alignment is Alignment.ALIGNED:
            # Also where it had begun before, and everything was let pass since.
            self._told.comparing()
        for name, path in self._paths.items():
            if nic in (None, name):
                path.checkpoint_done(synchronised)
