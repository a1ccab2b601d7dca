"""The configuration of a guest on two hosts: what each side needs and refuses, and what both must have alike."""

import re
import socket

import pytest

from colo_bridge import config
from colo_bridge.cli import toml
from tests.test_config import GOOD, refusal

PRIMARY = """
role = "primary"
guest = "web"
[[nic]]
primary_port = "tap0"
queue = 700
[link]
listen = "127.0.0.1:9000"
"""
SECONDARY = """
role = "secondary"
guest = "web"
[[nic]]
secondary_port = "tap0"
bridge = "br0"
[link]
peer = "127.0.0.1:9000"
"""
LISTEN = 'listen = "127.0.0.1:9000"\n'
TLS = 'tls_directory = "/etc/colo-bridge/tls"\naccept = ["host-b"]\n'


def test_each_of_two_hosts_has_a_short_file():
    primary, secondary = config.parse(PRIMARY), config.parse(SECONDARY)
    assert (primary.two_hosts, secondary.two_hosts, config.parse(GOOD).two_hosts) == (True, True, False)
    assert primary.link.identity == socket.gethostname()
    assert (primary.nic[0].queue_number, secondary.nic[0].bridge) == (700, "br0")
    assert secondary.link.on_primary_lost == "wait"


@pytest.mark.parametrize(
    ("text", "old", "new", "sentence"),
    [
        (GOOD, '"primary"', '"secondary"', "role: 'secondary' needs the section [link]"),
        (GOOD, "queue = 700", "", "key nic[1].queue is missing"),
        (GOOD, 'secondary_port = "tap1"', "", "key nic[1].secondary_port is missing"),
        (GOOD, "queue = 700", 'queue = 700\nbridge = "br0"', "nic[1].bridge has no meaning for both replicas on one"),
        (GOOD, "queue = 700", 'queue = 700\n[arbiter]\ncommand = ["x"]', "arbiter.command has no meaning without the"),
        (PRIMARY, 'primary_port = "tap0"', "", "key nic[1].primary_port is missing"),
        (PRIMARY, "queue = 700", "", "key nic[1].queue is missing"),
        (PRIMARY, "queue = 700", 'queue = 700\nbridge = "br0"', "nic[1].bridge has no meaning for the primary of two"),
        (
            PRIMARY,
            "queue = 700",
            'queue = 700\nsecondary_port = "tap1"',
            "nic[1].secondary_port has no meaning for",
        ),
        (
            PRIMARY,
            "[link]",
            '[arbiter]\ncommand = ["x"]\n[queue]\nbypass_when_dead = true\n[link]',
            "queue.bypass_when_dead: no guest may speak with [arbiter]",
        ),
        (PRIMARY, 'listen = "127.0.0.1:9000"', "", "key link.listen is missing"),
        (PRIMARY, "[link]", '[link]\npeer = "127.0.0.1:9000"', "link.peer has no meaning for the primary"),
        (PRIMARY, "[link]", "[link]\nlisten_at = 1", "unknown key link.listen_at (did you mean listen?)"),
        (SECONDARY, 'secondary_port = "tap0"', "", "key nic[1].secondary_port is missing"),
        (SECONDARY, 'bridge = "br0"', "", "key nic[1].bridge is missing"),
        (
            SECONDARY,
            'bridge = "br0"',
            'bridge = "br0"\nqueue = 1',
            "nic[1].queue has no meaning for the secondary",
        ),
        (SECONDARY, 'peer = "127.0.0.1:9000"', "", "key link.peer is missing"),
        (
            SECONDARY,
            "[link]",
            '[link]\non_primary_lost = "arbiter"',
            "link.on_primary_lost: 'arbiter' needs the key",
        ),
        (
            SECONDARY,
            "[link]",
            '[arbiter]\ngive_back = ["x"]\n[link]',
            "arbiter: give_back has no meaning without the key command",
        ),
        (
            PRIMARY,
            "[link]",
            '[arbiter]\ncomand = ["x"]\n[link]',
            "unknown key arbiter.comand (did you mean com",
        ),
    ],
)
def test_each_kind_of_daemon_has_its_own_keys(text, old, new, sentence):
    assert sentence in refusal(text.replace(old, new))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ('listen = "nowhere"', "link.listen: 'nowhere' is no address of the link"),
        ('listen = "host:65536"', "link.listen: 'host:65536' is no address of the link"),
        ('listen = "127.0.0.1:0"', "link.listen: '127.0.0.1:0' names no port"),
        ('listen = "192.0.2.1:9000"', "link: listen: the link to or at 192.0.2.1 needs TLS"),
        ('listen = "[2001:db8::1]:9000"', "link: listen: the link to or at 2001:db8::1 needs TLS"),
        ('listen = "0.0.0.0:9000"\ninsecure = true', "link: listen: the link does not listen at 0.0.0.0 without TLS"),
        ('listen = "[::]:9000"\ninsecure = true', "link: listen: the link does not listen at :: without TLS"),
        (
            'listen = "[::ffff:0.0.0.0]:9000"\ninsecure = true',
            "link: listen: the link does not listen at ::ffff:0.0.0.0 without TLS",
        ),
        ('listen = "[::ffff:192.0.2.1]:9000"', "link: listen: the link to or at ::ffff:192.0.2.1 needs TLS"),
        (LISTEN + 'tls_directory = "/etc/tls"', "link: tls_directory needs the key accept"),
        (LISTEN + 'tls_directory = "tls"', "link.tls_directory: "),
        (LISTEN + TLS + "insecure = true", "link: insecure has no meaning with tls_directory"),
        (LISTEN + 'accept = ["host-b"]', "link: accept has no meaning without tls_directory"),
        (LISTEN + 'accept = [""]', "link.accept[1]: "),
        (LISTEN + 'identity = ""', "link.identity: "),
        (LISTEN + 'identity = "a\\nb"', "link.identity: only characters that can be printed"),
        (LISTEN + "heartbeat_timeout = 0.25", "link: heartbeat_timeout must be longer than heartbeat_interval"),
        (LISTEN + "queue_bytes = 1000", "link.queue_bytes: "),
        (LISTEN + 'on_secondary_lost = "open"', "link.on_secondary_lost: "),
    ],
)
def test_a_link_that_cannot_or_must_not_be_is_refused(keys, sentence):
    assert sentence in refusal(PRIMARY.replace(LISTEN, keys))


@pytest.mark.parametrize(
    "keys",
    [
        'listen = "0.0.0.0:9000"\n' + TLS,
        'listen = "192.0.2.1:9000"\ninsecure = true',
        'listen = "host-a.example:9000"',
        'listen = "[::1]:9000"',
        'listen = "[::ffff:127.0.0.1]:9000"',
        'listen = "127.0.0.5:9000"\non_primary_lost = "arbiter"\n[arbiter]\ncommand = ["/bin/true"]',
    ],
)
def test_a_link_that_may_be_survives_being_printed(keys):
    parsed = config.parse(PRIMARY.replace(LISTEN, keys))
    assert config.parse(toml.dump(parsed.model_dump(exclude_none=True))) == parsed


@pytest.mark.parametrize(
    ("text", "keys", "sentence"),
    [
        (GOOD, 'qmp = "/run/qmp"', "checkpoint.qmp has no meaning without [link]: the key is qmp_primary"),
        (PRIMARY, 'qmp_primary = "/run/qmp"', "checkpoint.qmp_primary has no meaning with [link]: the key is qmp"),
        (SECONDARY, 'qmp_secondary = "/run/qmp"', "checkpoint.qmp_secondary has no meaning with [link]"),
        (SECONDARY, 'provider = "qmp"', "checkpoint: provider 'qmp' needs the key qmp"),
    ],
)
def test_a_daemon_speaks_to_the_hypervisors_of_its_own_host(text, keys, sentence):
    assert sentence in refusal(f"{text}[checkpoint]\n{keys}")


@pytest.mark.parametrize("uids", ["[-1]", "[4294967295]", '["root"]', "1000"])
def test_users_are_numbers(uids):
    assert "control.uids" in refusal(f"{GOOD}[control]\nuids = {uids}")


def test_both_hosts_have_the_same_digest():
    alike = '[checkpoint]\nprovider = "qmp"\nqmp = "/run/{}"\n'
    digests = {config.parse(text + alike.format(at)).digest() for at, text in enumerate((PRIMARY, SECONDARY))}
    assert len(digests) == 1
    assert re.fullmatch("[0-9a-f]{16}", digests.pop())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('guest = "web"', 'guest = "mail"'),
        ("[[nic]]", '[[nic]]\nname = "net1"'),
        ("[link]", "[compare]\ntimeout = 4\n[link]"),
        ("[link]", "[firewall]\nipv6 = false\n[link]"),
        ("[link]", '[[passthrough]]\nname = "a"\nvlan = 7\n[link]'),
        ("[link]", '[checkpoint]\nprovider = "qmp"\nqmp = "/run/qmp"\n[link]'),
    ],
)
def test_what_must_be_alike_is_in_the_digest(old, new):
    assert config.parse(PRIMARY).digest() != config.parse(PRIMARY.replace(old, new)).digest()


def test_whether_there_is_an_arbiter_is_in_the_digest():
    arbiters = [f'[arbiter]\ncommand = ["{name}"]\n[link]' for name in ("x", "y")]
    digests = [config.parse(PRIMARY.replace("[link]", arbiter)).digest() for arbiter in ("[link]", *arbiters)]
    assert digests[0] != digests[1] == digests[2]


def test_what_need_not_be_alike_is_not_in_the_digest():
    other = PRIMARY.replace("tap0", "tap9").replace("700", "701").replace("9000", "9001")
    other += "[limits]\nconnections = 100\n[queue]\nlength = 100\n[control]\nuids = [1000]\n"
    assert config.parse(PRIMARY).digest() == config.parse(other).digest()
