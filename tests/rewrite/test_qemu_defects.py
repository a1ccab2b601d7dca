"""What QEMU's filter-rewriter (7.2 to 10.2) gets wrong, each defect under its name.

The client's number is 100, the secondary's 5000 with TSval 70, the primary's 2000 with TSval 40.
"""

from __future__ import annotations

import pytest

from tests.packets import nop, sack, timestamps
from tests.rewrite.trace import Trace


@pytest.fixture
def trace() -> Trace:
    trace = Trace(cures=True)
    trace.client("S", 100, options=timestamps(900))
    trace.guest("SA", 5000, 101, options=timestamps(70, 900))
    return trace


def test_qemu_defect_ip_options_corrupt_flags_in_the_rewriter(trace):
    """The TCP header is looked for where it would be without them."""
    trace.client("A", 101, 2001, ip_options=nop(8), options=timestamps(901, 40))
    out = trace.guest("FPA", 5001, 101, ip_options=nop(8), options=timestamps(71, 901), payload=b"hello")
    assert (out.seq, out.ack, set(out.flags), out.payload) == (2001, 101, {"F", "P", "A"}, b"hello")
    into = trace.client("FPA", 101, 2007, ip_options=nop(8), options=timestamps(902, 41), payload=b"bye")
    assert (into.seq, into.ack, set(into.flags), into.payload) == (101, 5007, {"F", "P", "A"}, b"bye")


def test_qemu_defect_duplicate_syn_ruins_offsets(trace):
    """The offset is taken anew from whatever SYN comes by."""
    trace.client("A", 101, 2001, options=timestamps(901, 40))
    trace.client("S", 100, options=timestamps(950))
    trace.guest("SA", 5000, 101, options=timestamps(1070, 900))
    trace.ready()
    assert trace.guest("PA", 5001, 101, payload=b"x", options=timestamps(1071, 901)).seq == 2001
    assert trace.client("A", 101, 2002, options=timestamps(951, 1041)).ack == 5002


def test_qemu_defect_sack_untranslated(trace):
    """The secondary believes that the client has octets which it never sent, or takes the option for broken."""
    trace.client("A", 101, 2001, options=timestamps(901, 40))
    into = trace.client("A", 101, 2001, options=timestamps(902, 40) + nop(2) + sack((2100, 2200), (2300, 2400)))
    assert (into.ack, into.sack) == (5001, [(5100, 5200), (5300, 5400)])


def test_qemu_defect_guest_opened_connections():
    """Only connections that a client opens are translated."""
    trace = Trace(cures=True)
    trace.guest("S", 5000, options=timestamps(70))
    into = trace.client("SA", 100, 2001, options=timestamps(900, 40))
    assert (into.ack, into.timestamps) == (5001, (900, 70))
    assert trace.guest("A", 5001, 101, options=timestamps(71, 900)).seq == 2001
    assert trace.guest("PA", 5001, 101, payload=b"hello", options=timestamps(72, 900)).timestamps == (42, 900)
    assert trace.client("A", 101, 2006, options=timestamps(901, 42)).ack == 5006


def test_qemu_defect_timestamp_echo_untranslated(trace):
    """Linux since 6.14 drops a handshake's ACK that echoes what it never sent; the connection hangs."""
    assert trace.client("A", 101, 2001, options=timestamps(901, 40)).timestamps == (901, 70)
    assert trace.guest("PA", 5001, 101, payload=b"x", options=timestamps(75, 901)).timestamps == (45, 901)
    assert trace.client("A", 101, 2002, options=timestamps(902, 45)).timestamps == (902, 75)
