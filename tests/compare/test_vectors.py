"""Packet-level cases with the right outcome: tests/vectors/comparator.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import MalformedPacket

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "comparator.json").read_text())["vectors"]


def play(vector: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Feed a vector to a comparator; what each step caused, and what was dropped."""
    comparator = Comparator()
    outcome, dropped = [], []
    for now, step in enumerate(vector["steps"]):
        requests = comparator.counters()["checkpoint_requests"]
        if step.get("event") == "checkpoint-done":
            comparator.checkpoint_done(synchronised=True)
        else:
            feed(comparator, step, now / 1000)
        requests = comparator.counters()["checkpoint_requests"] - requests
        outcome.append({"released": list(comparator.released), "checkpoint_requests": requests})
        dropped += comparator.dropped
        comparator.released.clear()
        comparator.dropped.clear()
    return outcome, dropped


def feed(comparator: Comparator, step: dict[str, Any], now: float) -> None:
    frame = bytes.fromhex(step["frame"])
    try:
        packet = parse_frame(frame, 0, len(frame))
    except MalformedPacket:
        if step["side"] == "primary":
            comparator.primary_malformed(step["label"], len(frame))
        else:
            comparator.secondary_malformed(len(frame))
        return
    if step["side"] == "primary":
        comparator.primary(packet, step["label"], now)
    else:
        comparator.secondary(packet, now)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_vector(vector: dict[str, Any]) -> None:
    outcome, dropped = play(vector)
    wanted = [
        {"released": step["released"], "checkpoint_requests": step["checkpoint_requests"]} for step in vector["steps"]
    ]
    assert outcome in [wanted, *vector.get("also_acceptable", [])]
    assert dropped == vector.get("dropped", dropped)
