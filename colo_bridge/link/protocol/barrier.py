"""When has a barrier passed all streams? Each stream carries it between the packets of two epochs."""

from __future__ import annotations

from collections.abc import Iterable


class BarrierGate:
    """The epoch that all streams of the other side have reached."""

    def __init__(self, streams: Iterable[str], epoch: int) -> None:
        self.epoch = epoch
        self._reached = dict.fromkeys(streams, epoch)

    def passed(self, stream: str, epoch: int) -> bool:
        """A barrier came on this stream; whether it was the last one that was missing."""
        self._reached[stream] = epoch
        complete = min(self._reached.values())
        if complete == self.epoch:
            return False
        self.epoch = complete
        return True
