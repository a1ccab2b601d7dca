"""The packet-level cases of tests/vectors/comparator.json through the sockets of `colo-bridge compare`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import forms
from tests.peers import Compare, comparing

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "comparator.json").read_text())["vectors"]
BY_NAME = {vector["id"]: vector for vector in VECTORS}
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "IPv6": forms.over_ipv6,
    "802.1Q": lambda frame: forms.tagged(frame, 7),
    "802.1ad and 802.1Q, IPv6": lambda frame: forms.tagged(forms.over_ipv6(frame), 8, 7, outer=0x88A8),
}


class Labels:
    """Which packet of a vector left: two of them may have the same bytes."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self._waiting = [
            (bytes.fromhex(step["frame"]), step["label"]) for step in vector["steps"] if step.get("side") == "primary"
        ]

    def of(self, frames: list[bytes]) -> list[str]:
        return [self._of(frame) for frame in frames]

    def _of(self, frame: bytes) -> str:
        index = [waiting for waiting, _ in self._waiting].index(frame)
        return self._waiting.pop(index)[1]


def play(compare: Compare, vector: dict[str, Any]) -> list[dict[str, Any]]:
    labels, outcome = Labels(vector), []
    for step in vector["steps"]:
        left = labels.of(take(compare, step))
        requests = compare.notified()
        assert set(requests) <= {b"DO_CHECKPOINT"}
        outcome.append({"released": left, "checkpoint_requests": len(requests)})
    return outcome


def take(compare: Compare, step: dict[str, Any]) -> list[bytes]:
    """Do one step; what left because of it."""
    if step.get("event") == "checkpoint-done":
        compare.notify.send(b"COLO_CHECKPOINT")
        assert compare.notified() == []
        return compare.out_after_primary()
    frame = bytes.fromhex(step["frame"])
    if step["side"] == "primary":
        compare.primary.send(frame)
        return compare.out_after_primary()
    compare.secondary.send(frame)
    return compare.out_after_secondary()


def verify(vector: dict[str, Any]) -> None:
    with comparing() as compare:
        outcome = play(compare, vector)
        malformed = compare.counters().get("malformed_primary", 0)
    wanted = [
        {"released": step["released"], "checkpoint_requests": step["checkpoint_requests"]} for step in vector["steps"]
    ]
    assert outcome in [wanted, *vector.get("also_acceptable", [])]
    assert malformed == len(vector.get("dropped", []))


@pytest.mark.parametrize("vector", VECTORS, ids=BY_NAME)
def test_vector(vector: dict[str, Any]) -> None:
    verify(vector)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", ["T04", "H10", "C01", "U06", "I02"])
def test_vector_over_ipv6_and_in_vlans(name: str, form: Callable[[bytes], bytes]) -> None:
    """One of each kind; all of them are played in these forms without the sockets."""
    steps = [
        {**step, "frame": form(bytes.fromhex(step["frame"])).hex()} if "frame" in step else step
        for step in BY_NAME[name]["steps"]
    ]
    verify({**BY_NAME[name], "steps": steps})
