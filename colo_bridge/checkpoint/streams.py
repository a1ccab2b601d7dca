"""The streams of the other side, as one side's epochs see them: how far each is, and which of them wait."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable

from colo_bridge.checkpoint.epochs import Action, PauseStream, ResumeStream


class Streams:
    """One for each NIC; 0: it has said no epoch yet."""

    def __init__(self, names: Iterable[str]) -> None:
        self._epochs = dict.fromkeys(names, 0)
        self._paused: dict[str, None] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._epochs

    def __getitem__(self, name: str) -> int:
        """What follows on it belongs to this epoch of the other side."""
        return self._epochs[name]

    def items(self) -> ItemsView[str, int]:
        return self._epochs.items()

    @property
    def all_are_at(self) -> int:
        """The epoch that each of them has reached."""
        return min(self._epochs.values())

    def reached(self, name: str, epoch: int) -> None:
        self._epochs[name] = epoch

    def forget(self) -> None:
        """As if nothing had been said on them."""
        self._epochs = dict.fromkeys(self._epochs, 0)

    def pause(self, name: str) -> list[Action]:
        self._paused[name] = None
        return [PauseStream(name)]

    def resume(self) -> list[Action]:
        """All that wait."""
        waiting, self._paused = self._paused, {}
        return [ResumeStream(name) for name in waiting]

    def end(self) -> None:
        """They are gone: nothing waits any more."""
        self._paused.clear()
