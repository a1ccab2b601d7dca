"""The operator's reference keeps step with the code."""

import contextlib
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

from colo_bridge import config
from colo_bridge.compare.decisions import Counters, Reason
from colo_bridge.compare.settings import Settings
from colo_bridge.daemon.endpoint import UnixEndpoint
from colo_bridge.daemon.evidence import EvidenceCounters
from colo_bridge.daemon.qemu_compare import QemuCompare, Sockets
from colo_bridge.link.session import LinkCounters
from colo_bridge.rewrite.limits import RewriteCounters

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = (DOCS / "operations.md").read_text(encoding="utf-8")
COMPARE = (DOCS / "compare.md").read_text(encoding="utf-8")

NO_CONSTANTS = {"listen", "peer", "identity"}
"""Keys whose default is another one on each host, or no value that could stand in a file."""


def test_every_key_is_named():
    sections = [value for value in vars(config).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    keys = {key for section in sections for key in section.model_fields}
    assert {key for key in keys if f"`{key}`" not in REFERENCE and f"[{key}]" not in REFERENCE} == set()


@pytest.mark.parametrize(
    "section",
    [
        config.CompareConfig,
        config.LimitsConfig,
        config.QueueConfig,
        config.CheckpointConfig,
        config.EvidenceConfig,
        config.LinkConfig,
        config.ArbiterConfig,
        config.ControlConfig,
    ],
)
def test_every_default_is_given(section):
    for key, value in section().model_dump(exclude=NO_CONSTANTS).items():
        assert re.search(rf"^\| `{key}` \|.*`{re.escape(json.dumps(value))}`", REFERENCE, re.MULTILINE), key


@pytest.mark.parametrize("counters", [Counters, RewriteCounters, EvidenceCounters, LinkCounters])
def test_every_counter_is_explained(counters):
    assert [field.name for field in fields(counters) if f"`{field.name}`" not in REFERENCE] == []


def test_every_counter_of_compare_is_explained(tmp_path):
    with contextlib.ExitStack() as listening:
        endpoints = [UnixEndpoint(tmp_path / name) for name in "abc"]
        counters = QemuCompare(Sockets(*endpoints), Settings(), listening).counters()
    assert [name for name in counters if f"`{name}`" not in COMPARE + REFERENCE] == []


def test_every_reason_of_a_divergence_is_named():
    assert [reason for reason in Reason if f"`{reason.value}`" not in REFERENCE] == []
