"""TCP options are found where they stand, and a broken list is read up to the break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_bridge.wire.options import Options, SynOptions, TimestampsAt, read_options, read_syn_options
from tests import packets


def test_no_options():
    assert read_options(b"", 0, 0) == Options()


def test_timestamps_as_stacks_send_them():
    options = packets.timestamps(1, 2)
    assert read_options(options, 0, len(options)).timestamps == (TimestampsAt(4, 8),)


def test_indexes_count_from_the_start_of_the_buffer():
    buffer = bytes(54) + packets.timestamps(1, 2)
    assert read_options(buffer, 54, len(buffer)).timestamps == (TimestampsAt(58, 62),)


def test_every_sack_edge():
    options = packets.nop(2) + packets.sack((1, 2), (3, 4))
    assert read_options(options, 0, len(options)).sack_edges == (4, 8, 12, 16)


@given(st.booleans(), st.integers(0, 3), st.integers(0, 5), st.binary(max_size=4))
def test_the_common_layouts_are_read_as_the_slow_way_reads_them(stamped: bool, blocks: int, lead: int, rest: bytes):
    """NOPs in front force the slow way."""
    options = packets.timestamps(1, 2) if stamped else b""
    options += packets.nop(2) + packets.sack(*[(3, 4)] * blocks) if blocks else b""
    options += rest
    plain = read_options(bytes(lead) + options, lead, lead + len(options))
    slow = read_options(bytes(lead - 1) + packets.nop() + options, lead - 1, lead + len(options)) if lead else plain
    assert plain == slow


def test_options_of_a_syn():
    options = (
        packets.maximum_segment_size()
        + packets.sack_permitted()
        + packets.bare_timestamps(1)
        + packets.nop()
        + packets.window_scale()
    )
    assert read_options(options, 0, len(options)) == Options(timestamps=(TimestampsAt(8, 12),))


def test_nothing_is_read_behind_the_end_of_the_list():
    options = b"\x00" + packets.bare_timestamps(1)
    assert read_options(options, 0, len(options)) == Options()


def test_the_end_given_is_not_passed():
    options = packets.timestamps(1, 2)
    assert read_options(options, 0, 11) == Options(malformed=True)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"\x08", id="no length"),
        pytest.param(b"\x08\x00" + bytes(8), id="length 0"),
        pytest.param(b"\x08\x01" + bytes(8), id="length 1"),
        pytest.param(b"\x08\x0a" + bytes(7), id="longer than the header"),
        pytest.param(b"\x05\xff" + bytes(8), id="much longer than the header"),
    ],
)
def test_a_broken_list_is_read_up_to_the_break(broken):
    options = packets.timestamps(1, 2) + broken
    assert read_options(options, 0, len(options)) == Options(timestamps=(TimestampsAt(4, 8),), malformed=True)


@pytest.mark.parametrize("option", [b"\x08\x06" + bytes(4), b"\x05\x06" + bytes(4), b"\x1e\x04" + bytes(2)])
def test_unusual_lengths_and_unknown_kinds_are_skipped(option):
    options = option + packets.bare_timestamps(1)
    assert read_options(options, 0, len(options)) == Options(
        timestamps=(TimestampsAt(len(option) + 2, len(option) + 6),)
    )


@given(st.binary(max_size=40))
def test_whatever_the_bytes_indexes_stay_inside(data):
    options = read_options(data, 0, len(data))
    for at in (*(place.echo for place in options.timestamps), *options.sack_edges):
        assert 0 <= at <= len(data) - 4


def test_what_a_syn_offers():
    options = packets.maximum_segment_size(1400) + packets.sack_permitted() + packets.timestamps(1)
    options += packets.nop() + packets.window_scale(9)
    offered = read_syn_options(bytes(54) + options, 54, 54 + len(options))
    assert offered == SynOptions(1400, 9, True, True)
    assert str(offered) == "MSS 1400, window scale 9, SACK, timestamps"
    assert str(read_syn_options(b"", 0, 0)) == "nothing"


def test_a_window_scale_above_fourteen_counts_as_fourteen():
    assert read_syn_options(packets.window_scale(15), 0, 3).window_scale == 14


@pytest.mark.parametrize("option", [b"\x02\x03\x05", b"\x03\x04\x07\x07", b"\x04\x03\x00", b"\x08\x02"])
def test_options_of_a_wrong_length_offer_nothing(option):
    assert read_syn_options(option, 0, len(option)) == SynOptions()


@given(st.binary(max_size=40))
def test_whatever_the_bytes_an_offer_is_read(data):
    offered = read_syn_options(data, 0, len(data))
    assert offered.segment_size is None or offered.segment_size <= 0xFFFF
    assert offered.window_scale is None or offered.window_scale <= 14
