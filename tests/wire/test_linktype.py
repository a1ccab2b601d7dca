"""Link headers of captures, and where IP stands behind them."""

from __future__ import annotations

import pytest

from colo_bridge.wire.linktype import addresses, as_ethernet, ip_offset
from tests import packets

PACKET = packets.udp()[14:]
ENDS = (bytes((10, 0, 0, 2)), bytes((10, 0, 0, 9)))


@pytest.mark.parametrize("tags", [b"", b"\x81\0\0\7", b"\x88\xa8\0\7\x81\0\0\7", b"\x81\0\0\7" * 3])
def test_addresses_are_found_behind_any_tags(tags: bytes) -> None:
    frame = bytes(12) + tags + b"\x08\x00" + PACKET
    assert ip_offset(frame) == 14 + len(tags)
    assert addresses(frame) == ENDS


def test_addresses_that_are_not_whole_are_none() -> None:
    for kind, header in ((b"\x08\x00", b"\x45" + bytes(19)), (b"\x86\xdd", b"\x60" + bytes(39))):
        whole = bytes(12) + kind + header
        assert addresses(whole) is not None
        assert all(addresses(whole[:length]) is None for length in range(len(whole)))


def test_what_is_not_ip_has_none() -> None:
    assert ip_offset(packets.arp()) is None
    assert addresses(packets.arp()) is None


def test_an_unknown_link_type_has_no_form() -> None:
    assert as_ethernet(127) is None


def test_the_form_is_a_copy_that_may_be_written_to() -> None:
    form = as_ethernet(1)
    assert form is not None
    assert form(b"frame") == bytearray(b"frame")
