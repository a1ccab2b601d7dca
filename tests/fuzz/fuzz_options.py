"""TCP options: what is found lies within the list, whatever stands behind it."""

from __future__ import annotations

from colo_bridge.wire.options import read_options, window_scale


def one_input(data: bytes) -> None:
    options = read_options(data, 0, len(data))
    edges = [*options.sack_edges, *(at for stamps in options.timestamps for at in (stamps.value, stamps.echo))]
    assert all(2 <= at <= len(data) - 4 for at in edges)
    assert len(set(edges)) == len(edges)
    assert 0 <= window_scale(data, 0, len(data)) <= 14
    assert read_options(data + b"\x08\x0a" * 20, 0, len(data)) == options
    assert window_scale(data + b"\x03\x03\x07" * 20, 0, len(data)) == window_scale(data, 0, len(data))
