"""Packet-level cases with the right outcome: tests/vectors/comparator.json.

Each is played as it is, and translated: to IPv6, to frames in VLANs, and cut into fragments.  The outcome must be
the same.  Frames that are not IP, or too short to be, are the same in every form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colo_bridge.compare.comparator import Comparator
from colo_bridge.wire.frame import parse_frame
from colo_bridge.wire.packet import MalformedPacket
from tests import forms

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "comparator.json").read_text())["vectors"]

Frames = list[bytes]


def in_fragments(frame: bytes, number: int) -> Frames:
    """Cut behind the first eight bytes, the second part ahead of the first."""
    body = int.from_bytes(frame[16:18], "big") - 20 if frame[12:14] == b"\x08\0" else 0
    return forms.fragments(frame, 8, identification=number)[::-1] if body > 8 else [frame]


FORMS: dict[str, Callable[[bytes, int], Frames]] = {
    "as it is": lambda frame, _: [frame],
    "IPv6": lambda frame, _: [forms.over_ipv6(frame)],
    "IPv6 behind extension headers": lambda frame, _: [
        forms.over_ipv6(
            frame, (forms.HOP_BY_HOP, forms.options_header()), (forms.FRAGMENT, forms.fragment_header(0, False, 7))
        )
    ],
    "802.1Q": lambda frame, _: [forms.tagged(frame, 7)],
    "802.1ad and 802.1Q, IPv6": lambda frame, _: [forms.tagged(forms.over_ipv6(frame), 8, 7, outer=0x88A8)],
    "fragments": in_fragments,
}


def play(vector: dict[str, Any], form: str = "as it is") -> tuple[list[dict[str, Any]], list[str]]:
    """Feed a vector to a comparator; what each step caused, and what was dropped."""
    comparator = Comparator()
    outcome, dropped = [], []
    for number, step in enumerate(vector["steps"]):
        requests = comparator.counters()["checkpoint_requests"]
        if step.get("event") == "checkpoint-done":
            comparator.checkpoint_done(synchronised=True)
        else:
            for frame in frames(step, form, number):
                feed(comparator, step, frame, number / 1000)
        requests = comparator.counters()["checkpoint_requests"] - requests
        outcome.append({"released": once(comparator.released), "checkpoint_requests": requests})
        dropped += once(comparator.dropped)
        comparator.released.clear()
        comparator.dropped.clear()
    return outcome, dropped


def frames(step: dict[str, Any], form: str, number: int) -> Frames:
    frame = bytes.fromhex(step["frame"])
    return FORMS[form](frame, number) if is_ip(frame) else [frame]


def is_ip(frame: bytes) -> bool:
    return len(frame) >= 34 and frame[12:14] == b"\x08\0"


def once(tokens: list[str]) -> list[str]:
    """Tokens without what follows from the same packet: its fragments leave together."""
    return [token for at, token in enumerate(tokens) if not at or tokens[at - 1] != token]


def feed(comparator: Comparator, step: dict[str, Any], frame: bytes, now: float) -> None:
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["id"] for vector in VECTORS])
def test_vector(vector: dict[str, Any], form: str) -> None:
    outcome, dropped = play(vector, form)
    wanted = [
        {"released": step["released"], "checkpoint_requests": step["checkpoint_requests"]} for step in vector["steps"]
    ]
    assert outcome in [wanted, *vector.get("also_acceptable", [])]
    assert dropped == vector.get("dropped", dropped)


def test_which_vectors_are_the_same_in_every_form() -> None:
    """Those of ARP and of nothing but a frame that is too short for IP; X08 has one of these among others."""
    same = [
        vector["id"]
        for vector in VECTORS
        if not any(is_ip(bytes.fromhex(step["frame"])) for step in vector["steps"] if "frame" in step)
    ]
    assert same == ["X01", "X02", "X05"]
