"""The configuration: every wrong file is refused with one sentence that names the key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge import config
from colo_bridge.cli import toml
from colo_bridge.errors import OperatorError

GOOD = """
role = "primary"
guest = "web"
[[nic]]
primary_port = "tap0"
secondary_port = "tap1"
queue = 700
"""
SECOND_NIC = '[[nic]]\nname = "net1"\nprimary_port = "tap2"\nsecondary_port = "tap3"\nqueue = 701\n'


def refusal(text: str) -> str:
    with pytest.raises(OperatorError) as caught:
        config.parse(text, "web.toml")
    return str(caught.value)


def test_a_short_file_gets_the_defaults():
    parsed = config.parse(GOOD)
    assert parsed.nic[0].name == "net0"
    assert parsed.compare.timeout == 3.0
    assert parsed.compare.tagged == "drop"
    assert parsed.firewall.ipv6
    assert not parsed.queue.bypass_when_dead
    assert parsed.checkpoint.command == ()


@pytest.mark.parametrize(
    ("keys", "provider"),
    [
        ("", "none"),
        ('command = ["/bin/true"]', "command"),
        ('provider = "none"\ncommand = ["/bin/true"]', "none"),
        ('provider = "qmp"\nqmp_primary = "/run/primary.qmp"', "qmp"),
    ],
)
def test_a_command_is_the_provider_unless_another_one_is_named(keys, provider):
    assert config.parse(f"{GOOD}[checkpoint]\n{keys}").checkpoint.provider == provider


def test_paths_are_named_after_the_guest():
    parsed = config.parse(GOOD)
    assert parsed.control_socket == Path("/run/colo-bridge/web.sock")
    assert parsed.state_file == Path("/run/colo-bridge/web.json")


def test_several_network_cards():
    assert [nic.queue for nic in config.parse(GOOD + SECOND_NIC).nic] == [700, 701]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('role = "primary"', "", "web.toml: key role is missing"),
        ('guest = "web"', 'gest = "web"', "unknown key gest (did you mean guest?)"),
        ('guest = "web"', '"" = 1', 'unknown key ""'),
        ('guest = "web"', '"two\\nlines" = 1', 'unknown key "two\\nlines"'),
        ("queue = 700", "queu = 700", "unknown key nic[1].queu (did you mean queue?)"),
        ("queue = 700", 'queue = "700"', "nic[1].queue: "),
        ("queue = 700", "queue = 65536", "nic[1].queue: "),
        ("queue = 700", "queue = true", "nic[1].queue: "),
        ('"tap1"', '"tap0"', "port 'tap0' is used twice in [[nic]]"),
        ('"tap1"', '"a-name-far-too-long-for-linux"', "nic[1].secondary_port: "),
        ('"tap1"', '"tap 1"', "nic[1].secondary_port: "),
        ('"web"', '"Web Server"', "guest: "),
        ('"web"', '"../x"', "guest: "),
        ('role = "primary"', 'role = "observer"', "role: "),
        ('role = "primary"', 'role = "primary"\nrun_dir = "run"', "run_dir: "),
        ('role = "primary"', 'role = "primary"\nrole = "primary"', "web.toml is not valid TOML"),
    ],
)
def test_a_wrong_value_is_named(old, new, sentence):
    assert sentence in refusal(GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("addition", "sentence"),
    [
        ("[compare]\ntimeout = 0.0", "compare.timeout: "),
        ("[compare]\ntimeout = -1.0", "compare.timeout: "),
        ("[compare]\ntimeout = inf", "compare.timeout: "),
        ("[compare]\ntimeout = nan", "compare.timeout: "),
        ('[compare]\ntimeout = "3s"', "compare.timeout: "),
        ('[compare]\ntagged = "maybe"', "compare.tagged: "),
        ("[compare]\ntimout = 1.0", "unknown key compare.timout (did you mean timeout?)"),
        ("[limits]\nheld_packets = 1", "limits.held_packets: "),
        ("[limits]\nheld_packets = 100.5", "limits.held_packets: "),
        ("[queue]\nbypass_when_dead = 1", "queue.bypass_when_dead: "),
        ('[firewall]\nbackend = "pf"', "firewall.backend: "),
        ('[firewall]\nipv6 = "no"', "firewall.ipv6: "),
        ('[checkpoint]\ncommand = "rm -rf x"', "checkpoint.command: "),
        ('[checkpoint]\ncommand = [""]', "checkpoint.command[1]: "),
        ('[checkpoint]\nprovider = "qmp"', "checkpoint: provider 'qmp' needs the key qmp_primary"),
        ('[checkpoint]\nprovider = "command"', "checkpoint: provider 'command' needs the key command"),
        ('[checkpoint]\nqmp_primary = "run/qmp"', "checkpoint.qmp_primary"),
        (f'[checkpoint]\nqmp_secondary = "/{"x" * 107}"', "checkpoint.qmp_secondary"),
        ("[checkpoint]\nperiod = -1.0", "checkpoint.period: "),
        ("[chekpoint]\ntimeout = 1.0", "unknown key chekpoint (did you mean checkpoint?)"),
        ('[compare]\nmode = "obsreve"', "compare.mode: "),
        ('[[passthrough]]\nname = "a"\nvlan = 7\n' * 2, "name 'a' is used twice in [[passthrough]]"),
        ("".join(f'[[passthrough]]\nname = "a{at}"\nvlan = 7\n' for at in range(65)), "passthrough: "),
        (SECOND_NIC.replace("701", "700"), "queue '700' is used twice in [[nic]]"),
        (SECOND_NIC.replace("net1", "net0"), "name 'net0' is used twice in [[nic]]"),
    ],
)
def test_a_wrong_section_is_named(addition, sentence):
    assert sentence in refusal(GOOD + addition)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("", "passthrough[1]: the rule 'a' names no traffic"),
        ('protocol = "sctp"', "passthrough[1].protocol: 'sctp' is no protocol"),
        ("protocol = true", "passthrough[1].protocol: True is no protocol"),
        ("protocol = 255", "passthrough[1].protocol: 255 is no protocol"),
        ('guest_address = "10.0.0.1/8"', "passthrough[1].guest_address: 10.0.0.1/8 has host bits set"),
        ('peer_address = "10.0.0.0/40"', "passthrough[1].peer_address: '10.0.0.0/40' does not appear to be"),
        ("peer_address = 10", "passthrough[1].peer_address: "),
        ('guest_ports = "9-3"', "passthrough[1].guest_ports: the range 9-3 is reversed"),
        ('peer_ports = "65536"', "passthrough[1].peer_ports: '65536' is no port"),
        ("peer_ports = -5", "passthrough[1].peer_ports: -5 is no port"),
        ('peer_ports = "5-"', "passthrough[1].peer_ports: '5-' is no port"),
        ('protocol = "icmp"\nguest_ports = 5', "passthrough[1]: guest_ports needs the protocol tcp or udp"),
        ("protocol = 58\npeer_ports = 5", "passthrough[1]: peer_ports needs the protocol tcp or udp"),
        ('opened_by = "client"', "passthrough[1]: opened_by needs the protocol tcp"),
        ('protocol = "tcp"\nopened_by = "me"', "passthrough[1].opened_by: "),
        ("vlan = 4095", "passthrough[1].vlan: "),
        ('guest_address = "10.0.0.0/8"\npeer_address = "fd00::/8"', "guest_address and peer_address are of different"),
        ("protocl = 6", "unknown key passthrough[1].protocl (did you mean protocol?)"),
    ],
)
def test_a_wrong_passthrough_rule_is_named(keys, sentence):
    assert sentence in refusal(GOOD + '[[passthrough]]\nname = "a"\n' + keys)


def test_to_observe_is_to_hold_nothing_whatever_else_is_set():
    text = (
        GOOD
        + '[compare]\nmode = "observe"\ntagged = "drop"\nunsynchronised = "hold"\n[queue]\naccept_when_full = false'
    )
    parsed = config.parse(text)
    assert (parsed.compare.tagged, parsed.compare.unsynchronised) == ("pass", "pass")
    assert parsed.queue.bypass_when_dead
    assert parsed.queue.accept_when_full


def test_whole_seconds_need_no_fraction():
    assert config.parse(GOOD + "[compare]\ntimeout = 5").compare.timeout == 5.0


@given(st.text(max_size=60))
def test_any_text_gives_a_configuration_or_one_sentence(text):
    try:
        config.parse(text)
    except OperatorError as error:
        assert str(error)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(OperatorError, match=r"cannot read .*none\.toml: No such file"):
        config.load(tmp_path / "none.toml")


def test_a_file_that_is_not_text_is_one_sentence(tmp_path):
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OperatorError, match="is not UTF-8"):
        config.load(path)


def test_what_check_prints_is_the_same_configuration():
    parsed = config.parse(GOOD + SECOND_NIC + '[checkpoint]\ncommand = ["/bin/echo", "a\\"b\\\\", "ü\\u007f"]')
    assert config.parse(toml.dump(parsed.model_dump(exclude_none=True))) == parsed


def test_passthrough_rules_survive_being_printed():
    rules = ['protocol = "tcp"\nguest_ports = 22\nopened_by = "client"', 'peer_address = "fd00::/8"\nvlan = 7']
    parsed = config.parse(GOOD + "".join(f'[[passthrough]]\nname = "r{at}"\n{rule}\n' for at, rule in enumerate(rules)))
    assert config.parse(toml.dump(parsed.model_dump(exclude_none=True))) == parsed


@given(st.lists(st.text(min_size=1, alphabet=st.characters(exclude_categories=("Cs",)))))
def test_any_command_survives_being_printed(command):
    document = {**config.parse(GOOD).model_dump(exclude_none=True), "checkpoint": {"command": tuple(command)}}
    assert config.parse(toml.dump(document)).checkpoint.command == tuple(command)


@pytest.mark.parametrize("switch", ["evidence = false\n" + GOOD, GOOD + "[evidence]\nenabled = false"])
def test_evidence_can_be_switched_off_in_a_word_or_in_its_section(switch):
    assert not config.parse(switch).evidence.enabled
    assert config.parse(GOOD).evidence.enabled


def test_evidence_is_a_section_or_a_boolean():
    with pytest.raises(OperatorError, match="evidence: "):
        config.parse('evidence = "no"\n' + GOOD)
