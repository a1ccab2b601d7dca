"""The primary's side of the epochs: when what the secondary sends may be compared.

With a provider that copies state; *can* means: the link is up, the hypervisor in COLO, the guest does not stand still.

    alignment       event                                next      actions
    --------------  -----------------------------------  --------  -------------------------------------
    any             link up, joined, goes on, spoiled,   BEGUN     Suspended if it was Begun; SendBarrier
                    requested, failed: if it can now               of a new era
    any             the same, or lost: if it cannot      APART     Suspended if it was Begun; SendBarrier
                                                                   of a new era, if it was ALIGNED
    BEGUN           the era's barrier, on all streams    FENCING   Fence
    BEGUN, FENCING  stopped                              APART     -
    FENCING         fenced                               ALIGNED   Wanted
    ALIGNED         resumed                              ALIGNED   Begun if it was not, Renew, SendBarrier of the
                                                                   next number
    any other       resumed                              BEGUN     Renew, SendBarrier of a new era
    any             link down                            APART     -
    but APART       a barrier one ahead of us            the same  PauseStream, until `epoch` is as far

After lost, and where the secondary says in its request that it has left COLO, Parted stands for Suspended.
A stream is accepted while ALIGNED and behind a barrier that equals `epoch`, once the era has a checkpoint: what the
primary sends after that the secondary will send as well.

With a provider that copies nothing there is one guest's life and no pause: a barrier goes out at link up and when a
checkpoint is done, the secondary answers it once it has sent all that was before, and a stream is accepted from its
first answer on.  What was held leaves with the answer: until it has come on all of them `awaits_answer` says so, and
the owner ends a link on which it does not come.  `Begun` follows when all streams are accepted.
"""

from __future__ import annotations

from collections.abc import Sequence

from colo_bridge.checkpoint.cause import Cause
from colo_bridge.checkpoint.epochs import (
    LEFT_COLO,
    Action,
    Alignment,
    Begun,
    Fence,
    Forget,
    Parted,
    Renew,
    SendBarrier,
    Suspended,
    Wanted,
    count_of,
    next_era,
)
from colo_bridge.checkpoint.replica import News
from colo_bridge.checkpoint.streams import Streams

_OVER = (Cause.LOST, Cause.LEFT)
"""What COLO does not outlast."""


class PrimaryEpoch:
    """Every event returns what to do, in order; see the table above."""

    def __init__(self, streams: Sequence[str], synchronises: bool) -> None:
        """`streams`: the NICs; `synchronises`: whether the provider copies state."""
        self.alignment = Alignment.APART
        self.epoch = 0
        """Of what this side sends."""
        self.accepts = dict.fromkeys(streams, False)
        """Whether what a stream brings may be compared."""
        self.comparing = False
        """Whether all of them are accepted."""
        self._synchronises = synchronises
        self._linked = False
        self._in_colo = False
        self._standing = False
        self._streams = Streams(streams)
        self._has_begun = False
        self._cause = Cause.LINK
        self._to_renew: set[str] = set()

    @property
    def awaits_answer(self) -> bool:
        """Whether something is held after a checkpoint until the secondary answers its barrier."""
        return self._linked and bool(self._to_renew)

    # The link.

    def link_up(self, same_peer: bool) -> list[Action]:
        """`same_peer`: it is the secondary of before, and nothing has left without it since."""
        self._linked = True
        if self._synchronises:
            return self._align(Cause.LINK)
        suspended = self._suspend()
        if same_peer:
            return [*suspended, *self._new_era()]
        self._to_renew.clear()
        return [*suspended, Forget(), *self._new_era()]

    def link_down(self) -> list[Action]:
        """Its streams are gone."""
        self._linked = False
        self._has_begun = False
        self._streams.end()
        return self._part()

    def barrier(self, stream: str, epoch: int) -> list[Action]:
        """What follows on this stream belongs to this epoch of the secondary."""
        if stream not in self._streams:
            return []
        self._streams.reached(stream, epoch)
        if not self._synchronises:
            return self._answered(stream)
        if self.alignment is Alignment.APART:
            return []
        if epoch > self.epoch + 1:
            # It cannot be while both count the same checkpoints.
            return self._align(Cause.SECONDARY)
        self._judge()
        return [*self._fence(), *(self._streams.pause(stream) if epoch > self.epoch else [])]

    def failed(self, why: str) -> list[Action]:
        """A checkpoint that was asked for did not begin, or does not end: the secondary may not be there any more."""
        return self._align(Cause.FAILED, why) if self._synchronises else []

    def requested(self, reason: str) -> list[Action]:
        """The secondary has lost count; `reason`: in its words."""
        cause = Cause.LEFT if reason == LEFT_COLO else Cause.SECONDARY
        return self._align(cause, reason) if self._synchronises else []

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
            case News.LOST:
                self._in_colo = self._standing = False
                return self._align(Cause.LOST)
            case News.GOES_ON:
                self._standing = False
                return self._align(Cause.CONTINUED)
            case News.JOINED | News.SPOILED:
                self._in_colo, self._standing = True, False
                return self._align(Cause.START if news is News.JOINED else Cause.SPOILED)

    def fenced(self, epoch: int) -> list[Action]:
        """The hypervisor has answered, and all that it said before was told."""
        if self.alignment is not Alignment.FENCING or epoch != self.epoch:
            return []
        self.alignment = Alignment.ALIGNED
        return [Wanted(self._cause)]

    def _stopped(self) -> list[Action]:
        self._standing = True
        return [] if self.alignment is Alignment.ALIGNED else self._part()

    def _resumed(self) -> list[Action]:
        self._in_colo, self._standing = True, False
        if self.alignment is not Alignment.ALIGNED:
            return [Renew(True), *self._align(self._cause)]
        self.epoch += 1
        self._judge()
        return [*self._begin(), Renew(True), SendBarrier(self.epoch), *self._streams.resume()]

    # A command, or nobody.

    def done(self) -> list[Action]:
        """A provider that copies nothing has made a checkpoint."""
        self._to_renew.update(self.accepts)
        return self._new_era() if self._linked else []

    def _answered(self, nic: str) -> list[Action]:
        renewed: list[Action] = []
        if nic in self._to_renew and self._streams[nic] == self.epoch:
            self._to_renew.remove(nic)
            renewed = [Renew(False, nic)]
        self._judge()
        return [*renewed, *(self._begin() if self.comparing else [])]

    # Eras.

    def _align(self, cause: Cause, detail: str = "") -> list[Action]:
        """Begin anew, as soon as it can be; `detail`: more than the cause says, for the log."""
        self._cause = cause
        was_aligned = self.alignment is Alignment.ALIGNED
        suspended = self._suspend(detail)
        begun: list[Action] = []
        if self._linked and self._in_colo and not self._standing:
            begun = self._new_era()
            self.alignment = Alignment.BEGUN
        elif self._linked and was_aligned:
            # It will be for nothing, but what comes now must not pass for the era of before.
            begun = self._new_era()
        return [*suspended, *begun, *self._streams.resume()]

    def _part(self) -> list[Action]:
        return [*self._suspend(), *self._streams.resume()]

    def _new_era(self) -> list[Action]:
        self.epoch = next_era(self.epoch)
        return [SendBarrier(self.epoch)]

    def _suspend(self, detail: str = "") -> list[Action]:
        """Take nothing more of the secondary's."""
        self.alignment = Alignment.APART
        had_begun, self._has_begun = self._has_begun, False
        self._streams.forget()
        self._judge()
        if not had_begun:
            return []
        return [Parted() if self._cause in _OVER else Suspended(detail or self._cause.value)]

    def _fence(self) -> list[Action]:
        if self.alignment is not Alignment.BEGUN or self._streams.all_are_at < self.epoch:
            return []
        self.alignment = Alignment.FENCING
        return [Fence(self.epoch)]

    # Streams.

    def _judge(self) -> None:
        """Look again at which streams are accepted."""
        for nic, reached in self._streams.items():
            self.accepts[nic] = self._in_force(reached)
        self.comparing = all(self.accepts.values())

    def _begin(self) -> list[Action]:
        had_begun, self._has_begun = self._has_begun, True
        return [] if had_begun else [Begun()]

    def _in_force(self, reached: int) -> bool:
        if not self._synchronises:
            return self._linked and reached > 0
        return self.alignment is Alignment.ALIGNED and count_of(self.epoch) > 0 and reached == self.epoch
