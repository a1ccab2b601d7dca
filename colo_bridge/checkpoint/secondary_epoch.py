"""The secondary's side of the epochs: when what it sends belongs to one, and what may be given to its guest.

With a provider that copies state; *can* means: the era's barrier has come on all streams, the hypervisor is in COLO,
the guest does not stand still.

    alignment       event                                next      actions
    --------------  -----------------------------------  --------  -------------------------------------
    any             the first barrier of a new era       BEGUN     Suspended if it was Begun
    BEGUN           anything after which it can          FENCING   Fence
    FENCING         stopped                              BEGUN     -
    FENCING         fenced                               ALIGNED   SendBarrier with the era's first number
    ALIGNED         resumed                              ALIGNED   SendBarrier of the next number
    ALIGNED         spoiled, goes on, lost               APART     RequestCheckpoint, Suspended if it was Begun
    any             link down                            APART     -
    any             stopped                              -         Drain, ReadGuest(False)
    any             resumed                              -         Synchronised, ReadGuest(True)
    any             spoiled                              -         Synchronised, ReadGuest(True)
    any             goes on, lost                        -         ReadGuest(True)
    ALIGNED         a barrier one ahead of us            the same  PauseStream, until `epoch` is as far

Only while ALIGNED anything is sent.  A stream is delivered while, besides, the guest does not stand still and the
last barrier equals `epoch`, once the era has a checkpoint; everything else is thrown away: it is part of the state that
the guest takes over, or nobody can tell whether it is.  `Begun` follows when all streams are delivered.

With a provider that copies nothing all is sent and delivered while the link is up, and a barrier that has come on all
streams is answered once all that was sent before has been read.
"""

from __future__ import annotations

from collections.abc import Sequence

from colo_bridge.checkpoint.epochs import (
    LEFT_COLO,
    Action,
    Alignment,
    Begun,
    Drain,
    Fence,
    ReadGuest,
    RequestCheckpoint,
    SendBarrier,
    Suspended,
    Synchronised,
    count_of,
    next_era,
)
from colo_bridge.checkpoint.replica import News
from colo_bridge.checkpoint.streams import Streams

_NEW_ERA = "the primary has begun anew"
_MISCOUNTED = "the two sides have counted different checkpoints"
_JOINED = "the secondary has entered COLO"
_SPOILED = "the secondary went on before all that it had sent was read"
_GOES_ON = "the secondary has gone on without a checkpoint"


class SecondaryEpoch:
    """Every event returns what to do, in order; see the table above."""

    def __init__(self, streams: Sequence[str], synchronises: bool) -> None:
        """`streams`: the NICs; `synchronises`: whether the provider copies state."""
        self.alignment = Alignment.APART
        self.epoch = 0
        """Of what this side sends."""
        self.checkpoints = 0
        """That the guest has made, in all eras."""
        self.sends = False
        """Whether what the guest sends goes to the primary's side."""
        self.delivers = dict.fromkeys(streams, False)
        """Whether what a stream brings goes to the guest."""
        self.synchronised = False
        """Whether the guest has taken over the primary's state, and has since got what the primary got."""
        self._synchronises = synchronises
        self._in_colo = False
        self._standing = False
        self._announced = 0
        self._streams = Streams(streams)

    # The link.

    def link_up(self) -> list[Action]:
        self.epoch = self._announced = 0
        self._streams.forget()
        if not self._synchronises:
            self.sends = True
            self._deliver(True)
        return []

    def link_down(self) -> list[Action]:
        """Its streams are gone."""
        self._streams.end()
        self._part()
        return []

    def barrier(self, stream: str, epoch: int) -> list[Action]:
        """What follows on this stream belongs to this epoch of the primary."""
        if stream in self._streams:
            self._streams.reached(stream, epoch)
        if not self._synchronises:
            return self._answer()
        # The stream of a NIC may still be behind, in an era that another stream has left.
        if epoch >= next_era(self._announced):
            self._announced = epoch
            return self._new_era()
        if self.alignment is not Alignment.ALIGNED or stream not in self._streams:
            return self._fence()
        if epoch > self.epoch + 1:
            # It cannot be while both count the same checkpoints.
            return self._lose_count(_MISCOUNTED)
        if epoch <= self.epoch:
            return self._judge()
        # Ahead of us.
        return [*self._streams.pause(stream), *self._judge()]

    # The hypervisor.

    def told(self, news: News) -> list[Action]:
        """What this side's hypervisor does."""
        match news:
            case News.STOPPED:
                return self._stopped()
            case News.PAUSED:
                return []
            case News.RESUMED:
                return self._resumed()
            case News.JOINED:
                self._in_colo = True
                return self._go_on(_JOINED)
            case News.LOST:
                self._in_colo = False
                return self._go_on(LEFT_COLO)
            case News.GOES_ON:
                return self._go_on(_GOES_ON)
            case News.SPOILED:
                self._in_colo = True
                # It has the primary's state all the same, and may go live before the next checkpoint.
                return [Synchronised(), *self._go_on(_SPOILED)]

    def fenced(self, epoch: int) -> list[Action]:
        """The hypervisor has answered, and all that it said before was told."""
        if self.alignment is not Alignment.FENCING or epoch != self._announced:
            return []
        self.alignment = Alignment.ALIGNED
        self.epoch = epoch
        self.sends = True
        return [SendBarrier(epoch)]

    def _stopped(self) -> list[Action]:
        self._standing = True
        self._fence_anew()
        self._judge()
        return [Drain(), ReadGuest(False)]

    def _resumed(self) -> list[Action]:
        self._in_colo, self._standing = True, False
        self.checkpoints += 1
        if self.alignment is not Alignment.ALIGNED:
            return [Synchronised(), ReadGuest(True), *self._fence()]
        self.epoch += 1
        return [Synchronised(), SendBarrier(self.epoch), *self._judge(), ReadGuest(True), *self._streams.resume()]

    def _go_on(self, reason: str) -> list[Action]:
        """It runs, as far as anybody can tell, and there was no checkpoint."""
        self._standing = False
        self._fence_anew()
        if self.alignment is Alignment.ALIGNED:
            return [ReadGuest(True), *self._lose_count(reason)]
        return [ReadGuest(True), *self._fence()]

    # Eras.

    def _new_era(self) -> list[Action]:
        suspended = self._suspend(_NEW_ERA)
        self.alignment = Alignment.BEGUN
        return [*suspended, *self._fence(), *self._streams.resume()]

    def _lose_count(self, reason: str) -> list[Action]:
        return [RequestCheckpoint(reason), *self._suspend(reason), *self._streams.resume()]

    def _fence(self) -> list[Action]:
        can_be = self._streams.all_are_at >= self._announced and self._in_colo and not self._standing
        if self.alignment is not Alignment.BEGUN or not can_be:
            return []
        self.alignment = Alignment.FENCING
        return [Fence(self._announced)]

    def _fence_anew(self) -> None:
        if self.alignment is Alignment.FENCING:
            self.alignment = Alignment.BEGUN

    def _begin(self) -> list[Action]:
        was_synchronised, self.synchronised = self.synchronised, True
        return [] if was_synchronised else [Begun()]

    def _suspend(self, reason: str) -> list[Action]:
        was_synchronised = self.synchronised
        self._part()
        return [Suspended(reason)] if was_synchronised else []

    def _part(self) -> None:
        """Send and deliver nothing more."""
        self.alignment = Alignment.APART
        self.sends = self.synchronised = False
        self._deliver(False)

    # Streams.

    def _judge(self) -> list[Action]:
        """Look again at which streams are delivered."""
        if not self._synchronises:
            return []
        # Whoever has made a checkpoint in this era is in line with us: the primary's first barrier alone says nothing.
        can_be = self.alignment is Alignment.ALIGNED and count_of(self.epoch) > 0 and not self._standing
        for nic, reached in self._streams.items():
            self.delivers[nic] = can_be and reached == self.epoch
        return self._begin() if all(self.delivers.values()) else []

    def _deliver(self, delivers: bool) -> None:
        for nic in self.delivers:
            self.delivers[nic] = delivers

    # A command, or nobody.

    def _answer(self) -> list[Action]:
        complete = self._streams.all_are_at
        if complete <= self.epoch:
            return []
        self.epoch = complete
        return [Drain(), SendBarrier(complete), *self._begin()]
