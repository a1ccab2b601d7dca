"""The primary on the other host, as the secondary's daemon sees it: what clients sent it, its epochs, its comings.

What the guest sends goes there, and what comes from there goes to the guest, only while both belong to the same epoch;
`SecondaryEpoch` says so. Once the guest is to go live none of this concerns it any more, but for one thing: a
checkpoint that its hypervisor had begun may still give it the primary's state.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from colo_bridge.checkpoint.epochs import (
    Action,
    Begun,
    Drain,
    Fence,
    PauseStream,
    ReadGuest,
    RequestCheckpoint,
    ResumeStream,
    SendBarrier,
    Suspended,
    Synchronised,
)
from colo_bridge.checkpoint.replica import News
from colo_bridge.checkpoint.secondary_epoch import SecondaryEpoch
from colo_bridge.daemon.greeting import Greeting
from colo_bridge.daemon.moved import offsets_of
from colo_bridge.daemon.secondary_path import Out, SecondaryPath
from colo_bridge.daemon.secondary_readers import SecondaryReaders
from colo_bridge.link.end import LinkEnd
from colo_bridge.link.protocol.actions import Closed
from colo_bridge.link.protocol.messages import CheckpointRequest, Failover, Hello, Message, Moved, Standing
from colo_bridge.wire.framing import Frame

log = logging.getLogger(__name__)

_MISSED = 1.5
"""Heartbeats without a sign of the primary after which what the guest sends is kept as well."""


class Told(Protocol):
    """Who hears of it."""

    def primary_joined(self, peer: Hello) -> None: ...

    def primary_lost(self, why: str) -> None: ...

    def primary_stands(self, standing: Standing) -> None: ...


class FarPrimary:
    """Owner of the link."""

    link: LinkEnd

    def __init__(self, greeting: Greeting, synchronises: bool, told: Told) -> None:
        """`synchronises`: after a checkpoint the guest's state is the primary's."""
        self._suspicion = greeting.link.heartbeat_interval * _MISSED
        self.greeting = greeting
        self._told = told
        self._paths: Mapping[str, SecondaryPath] = {}
        self._readers = SecondaryReaders(())
        self._ask_hypervisor: Callable[[Callable[[], None]], None] = lambda answered: answered()
        self._live = ""
        self._is_handed_over = False
        self.epoch = SecondaryEpoch(greeting.nics, synchronises)

    def serve(
        self,
        paths: Sequence[SecondaryPath],
        readers: SecondaryReaders,
        ask_hypervisor: Callable[[Callable[[], None]], None],
    ) -> None:
        """`ask_hypervisor` calls what it is given once everything that the hypervisor has said was told."""
        self._paths = {path.nic: path for path in paths}
        self._readers = readers
        self._ask_hypervisor = ask_hypervisor

    def go_live(self, reason: str) -> None:
        """Tell the primary, now or whenever it comes back; nothing else is said to it any more."""
        self._live = reason
        for path in self._paths.values():
            # Until the way to the clients is open.
            path.out, path.delivers = Out.KEEP, False
        self.link.send(Failover(reason))
        self._readers.read(True)

    def hand_over(self) -> None:
        """The paths are somebody else's from now on."""
        self._is_handed_over = True

    def choose_ways(self) -> None:
        """Where what the guest sends goes; to be called several times in `_MISSED` heartbeats."""
        if self._live:
            return
        heard = self.link.heard
        is_heard = heard is not None and time.monotonic() - heard < self._suspicion
        for name, path in self._paths.items():
            path.delivers = self.epoch.delivers[name]
            if self.link.up and not self.epoch.sends:
                path.out = Out.DISCARD
            else:
                path.out = Out.LINK if self.link.up and is_heard else Out.KEEP

    # What the link tells.

    def hello(self) -> Hello:
        return self.greeting.hello()

    def link_up(self, peer: Hello) -> None:
        if self._live:
            log.warning("the primary %s is there again: it is told that this side is live", peer.identity)
            self.link.send(Failover(self._live))
            return
        self._told.primary_joined(peer)
        self._perform(self.epoch.link_up())

    def link_down(self, closed: Closed) -> None:
        self._perform(self.epoch.link_down())
        for name in self._paths:
            # Nothing waits for it any more.
            self._readers.room(name)
        self._told.primary_lost(f"the link is down: {closed.error}")

    def link_packets(self, nic: str, buffer: bytearray, frames: list[Frame]) -> None:
        self._paths[nic].from_primary(buffer, frames)

    def link_barrier(self, stream: str, epoch: int) -> None:
        self._perform(self.epoch.barrier(stream, epoch))

    def link_message(self, message: Message) -> None:
        match message:
            case Standing():
                self._told.primary_stands(message)
            case Moved(nic, anew):
                if path := self._paths.get(nic):
                    path.rewriter.inherit(offsets_of(message), anew=anew)

    def link_room(self, nic: str) -> None:
        self._readers.room(nic)

    # What the hypervisor does.

    def told(self, news: News) -> None:
        self._perform(self.epoch.told(news))

    def _perform(self, actions: Sequence[Action]) -> None:
        if self._is_handed_over:
            return
        for action in actions:
            match action:
                case Drain():
                    for path in self._paths.values():
                        path.stopped()
                case Synchronised():
                    for path in self._paths.values():
                        path.synchronised()
                case _ if self._live:
                    """It is about what the two sides had in common."""
                case SendBarrier(epoch):
                    self.link.barrier(epoch)
                case ReadGuest(on):
                    self._readers.read(on)
                case Fence(epoch):
                    self._fence(epoch)
                case RequestCheckpoint(reason):
                    log.warning("the primary is asked for a checkpoint: %s", reason)
                    self.link.send(CheckpointRequest(reason))
                case Begun():
                    log.info("the replicas are synchronised")
                case Suspended(detail):
                    log.warning("the replicas are not known to be synchronised any more: %s", detail)
                case PauseStream(nic):
                    self.link.pause(nic)
                case ResumeStream(nic):
                    self.link.resume(nic)
        self.choose_ways()

    def _fence(self, epoch: int) -> None:
        self._ask_hypervisor(lambda: self._perform(self.epoch.fenced(epoch)))
