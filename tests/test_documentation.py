"""The operator's reference keeps step with the code."""

import asyncio
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
from colo_bridge.daemon.primary import Primary
from colo_bridge.daemon.qemu_compare import QemuCompare, Sockets
from colo_bridge.daemon.record import LIVE, Record
from colo_bridge.daemon.secondary import Secondary
from colo_bridge.link.session import LinkCounters
from colo_bridge.membership.primary_state import PrimaryState
from colo_bridge.membership.secondary import SecondaryState
from colo_bridge.rewrite.limits import RewriteCounters
from tests.daemon.hosts import QMP, configurations

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


@pytest.mark.parametrize(("daemon", "word"), [(Primary, ""), (Secondary, ""), (Secondary, LIVE)])
@pytest.mark.parametrize("sections", [QMP, ""], ids=["qmp", "none"])
def test_every_field_and_counter_of_two_hosts_has_its_row(tmp_path, daemon, word, sections):
    async def ask():
        Record(str(tmp_path / "b"), "web").write(word)
        *both, cable = configurations(tmp_path, sections=sections)
        cable.forget()
        return daemon(both[daemon is Secondary]).status()

    status = asyncio.run(ask())
    names = [*status, *status["counters"]]
    plain = {name: name.removeprefix("rewriter_").removeprefix("link_") for name in names}
    rows = re.findall(r"^\| (`.*?) \|", REFERENCE, re.MULTILINE)
    told = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert [name for name in names if not {name, plain[name]} & told] == []


@pytest.mark.parametrize("states", [PrimaryState, SecondaryState])
def test_every_state_of_two_hosts_is_explained(states):
    section = REFERENCE.partition("| state | of | meaning |")[2].partition("\n\n")[0]
    assert [state for state in states if f"`{state.value}`" not in section] == []


def test_every_reason_of_a_divergence_is_named():
    assert [reason for reason in Reason if f"`{reason.value}`" not in REFERENCE] == []
