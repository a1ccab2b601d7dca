"""Every divergence shows the packets that are at hand."""

from __future__ import annotations

import pytest

from colo_bridge.compare.settings import Settings
from colo_bridge.wire.ipv4 import parse_ipv4
from colo_bridge.wire.packet import FIN, RST, SYN, TcpPacket
from tests import packets
from tests.compare.playbook import Line, Playbook, octets, read_line

OPENING = """
    P a SA 0 ack 1 =>
    S   SA 0 ack 1 => a
"""


def shown(trace: str, *, settings: Settings | None = None) -> tuple[bytes | None, bytes | None]:
    """The packets of the only divergence of a trace."""
    (divergence,) = Playbook(settings=settings or Settings()).run(trace).seen
    return divergence.primary_packet, divergence.secondary_packet


def line(text: str) -> bytes:
    """The IP packet of one line of a playbook."""
    read: Line = read_line(text.split())
    return Playbook().frame(read)[14:]


@pytest.mark.parametrize(
    ("trace", "primary", "secondary"),
    [
        pytest.param(
            "P b 1+10 ack 1 =>\nS 1+10!4 ack 1 => !content", "P b 1+10 ack 1", "S 1+10!4 ack 1", id="different bytes"
        ),
        pytest.param("P b F 1+3 ack 1 =>\nS 1+9 ack 1 => !control", "P b F 1+3 ack 1", "S 1+9 ack 1", id="FIN"),
        pytest.param("S 1+9 ack 1 =>\nP b R 1 => !control", "P b R 1", "S 1+9 ack 1", id="RST of the primary"),
        pytest.param("P b R 1 =>\nS 1+9 ack 1 => !control", "P b R 1", "S 1+9 ack 1", id="RST before octets"),
        pytest.param("P b 1+9 ack 1 =>\nS R 1 => !control", "P b 1+9 ack 1", "S R 1", id="RST of the secondary"),
        pytest.param("S R 1 =>\nP b 1+9 ack 1 => !control", "P b 1+9 ack 1", None, id="octets behind its RST"),
        pytest.param("P b R 1 =>\nS R 5 => !control", "P b R 1", "S R 5", id="RST at different numbers"),
        pytest.param("S R 5 =>\nP b R 1 => !control", "P b R 1", None, id="the secondary's RST first"),
        pytest.param("P b 1+9 ack 1 =>\ntick 4 => !timeout", "P b 1+9 ack 1", None, id="silent secondary"),
        pytest.param("S 1+9 ack 1 =>\ntick 4 => !timeout", None, "S 1+9 ack 1", id="silent primary"),
        pytest.param("P b A 1 ack 9 =>\ntick 4 => !timeout", "P b A 1 ack 9", None, id="floor"),
    ],
)
def test_a_stream_shows_its_segments(trace: str, primary: str | None, secondary: str | None) -> None:
    packets_of_lines = tuple(None if text is None else line(text) for text in (primary, secondary))
    assert shown(OPENING + trace) == packets_of_lines


@pytest.mark.parametrize(
    ("trace", "flags"),
    [
        pytest.param("P a SA 0 ack 1 =>\nS RA 0 ack 1 => !control", (SYN, RST), id="the secondary refuses"),
        pytest.param("S RA 0 ack 1 =>\nP a SA 0 ack 1 => !control", (SYN, None), id="refused before"),
        pytest.param("S SA 0 ack 1 =>\nP a RA 0 ack 1 => !control", (RST, SYN), id="the primary refuses"),
        pytest.param("P a RA 0 ack 1 =>\nS SA 0 ack 1 => !control", (RST, SYN), id="refuses before"),
    ],
)
def test_a_refusal_shows_what_is_refused(trace: str, flags: tuple[int, int | None]) -> None:
    for packet, flag in zip(shown(trace), flags, strict=True):
        assert (packet is None) == (flag is None)
        if packet is not None and flag is not None:
            view = parse_ipv4(packet, 0, len(packet))
            assert isinstance(view, TcpPacket)
            assert view.flags & (SYN | RST | FIN) == flag


def test_segments_are_shown_whole_although_a_part_was_compared() -> None:
    ours, theirs = shown(OPENING + "P b 1+10 ack 1 =>\nS 1+5 ack 1 =>\nS 6+5!8 ack 1 => !content")
    assert ours is not None
    assert ours.endswith(octets(1, 10))
    assert theirs == line("S 6+5!8 ack 1")


@pytest.mark.parametrize(
    ("trace", "primary", "secondary"),
    [
        ("P a udp one =>\nS udp two => !datagram", b"one", b"two"),
        ("P a udp one =>\ntick 4 => !timeout", b"one", None),
        ("S udp two =>\ntick 4 => !timeout", None, b"two"),
    ],
)
def test_datagrams_are_shown(trace: str, primary: bytes | None, secondary: bytes | None) -> None:
    wanted = tuple(None if text is None else packets.udp(payload=text)[14:] for text in (primary, secondary))
    assert shown(trace) == wanted


def test_a_packet_cut_short_is_shown() -> None:
    assert shown("P a cut half => !cut-short") == (line("P a cut half"), None)


def test_without_evidence_datagrams_are_not_kept() -> None:
    assert shown("P a udp one =>\nS udp two => !datagram", settings=Settings(evidence=False)) == (None, None)
