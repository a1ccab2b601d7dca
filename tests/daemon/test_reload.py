"""What a running daemon takes over from its file, and what it refuses to."""

from __future__ import annotations

import pytest

from colo_bridge.config import parse
from colo_bridge.daemon.reload import changed_keys
from colo_bridge.errors import OperatorError
from tests.test_config import GOOD, SECOND_NIC
from tests.test_config_link import LISTEN, PRIMARY, TLS

RULE = '[[passthrough]]\nname = "ssh"\nguest_ports = 22\n'


@pytest.mark.parametrize(
    ("addition", "changed"),
    [
        ("", []),
        (RULE, ["passthrough"]),
        ("[control]\nuids = [1000]\n", ["control.uids"]),
        (RULE + "[control]\nuids = [1000]\n", ["passthrough", "control.uids"]),
        ("[compare]\ntimeout = 3.0\n", []),
    ],
)
def test_rules_and_users_are_taken_over(addition: str, changed: list[str]) -> None:
    assert changed_keys(parse(GOOD), parse(GOOD + addition)) == changed
    assert changed_keys(parse(GOOD + addition), parse(GOOD)) == changed


def test_whom_the_link_accepts_is_taken_over() -> None:
    before = PRIMARY.replace(LISTEN, LISTEN + TLS)
    assert changed_keys(parse(before), parse(before.replace('"host-b"', '"host-b", "host-c"'))) == ["link.accept"]


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        (GOOD, GOOD + "[compare]\ntimeout = 4", "compare.timeout"),
        (GOOD, GOOD + RULE + "[compare]\ntimeout = 4", "compare.timeout"),
        (GOOD, GOOD.replace("700", "701"), "nic[1].queue"),
        (GOOD + SECOND_NIC, GOOD + SECOND_NIC.replace("tap3", "tap4"), "nic[2].secondary_port"),
        (GOOD, GOOD + SECOND_NIC, "nic"),
        (GOOD, GOOD.replace("web", "mail") + "[limits]\nconnections = 100", "guest, limits.connections"),
        (GOOD, 'evidence = false\nrun_dir = "/tmp/run"' + GOOD, "run_dir, evidence.enabled"),
        (GOOD, PRIMARY, "nic[1].secondary_port, link"),
        (PRIMARY, PRIMARY.replace(LISTEN, LISTEN + TLS), "link.tls_directory"),
    ],
)
def test_any_other_key_needs_a_restart_and_is_named(old: str, new: str, keys: str) -> None:
    with pytest.raises(OperatorError) as caught:
        changed_keys(parse(old), parse(new))
    assert str(caught.value) == f"nothing was taken over: a change of {keys} needs a restart"
