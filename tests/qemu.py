"""A QEMU without a guest: its network filters and its comparator, for what they are worth."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.peers import SECONDS, Compare, Comparison, mark, wait_for

_WITHOUT_GUEST = (
    *("qemu-system-x86_64", "-machine", "none", "-nodefaults"),
    *("-nographic", "-serial", "none", "-monitor", "none"),
)
_LARGEST = 1 << 17


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([*_WITHOUT_GUEST, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
        assert process.poll() is None, "QEMU ended by itself"
    finally:
        process.terminate()
        process.wait(SECONDS)


class Card:
    """A network backend of QEMU without a card: what we send comes from the guest, what we receive goes to it."""

    def __init__(self, directory: Path, name: str, hub: int) -> None:
        ours, self._theirs = str(directory / f"{name}.test"), str(directory / f"{name}.qemu")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(ours)
        self.socket.settimeout(SECONDS)
        # A backend without a peer throws everything away before its filters; a hub's port is peer enough.
        self.arguments = (
            "-netdev",
            f"dgram,id={name},local.type=unix,local.path={self._theirs},remote.type=unix,remote.path={ours}",
            *("-netdev", f"hubport,id=hub-{name},hubid={hub},netdev={name}"),
        )

    def wait(self) -> None:
        wait_for(Path(self._theirs).exists)

    def send(self, frame: bytes) -> None:
        self.socket.sendto(frame, self._theirs)

    def receive(self) -> bytes:
        return self.socket.recv(_LARGEST)


@contextlib.contextmanager
def filters(compare: Compare) -> Iterator[dict[str, Card]]:
    """Two replicas and a network, each with a filter-redirector connected to `compare`."""
    support = ",vnet_hdr_support=on" if compare.vnet else ""
    with tempfile.TemporaryDirectory(prefix="cb-qemu-") as directory:
        cards = {name: Card(Path(directory), name, hub) for hub, name in enumerate(("primary", "secondary", "network"))}
        arguments = [word for card in cards.values() for word in card.arguments]
        for card, queue, way, name in (
            ("primary", "tx", "outdev", "primary-in"),
            ("secondary", "tx", "outdev", "secondary-in"),
            ("network", "rx", "indev", "out"),
        ):
            arguments += ["-chardev", f"socket,id={name},path={compare.paths[name]},reconnect=1"]
            arguments += [
                "-object",
                f"filter-redirector,id=to-{name},netdev={card},queue={queue},{way}={name}{support}",
            ]
        wait_for(lambda: "out: listening" in compare.log())
        with running(*arguments):
            for card in cards.values():
                card.wait()
            wait_for(lambda: _are_connected(cards, compare))
            yield cards
        for card in cards.values():
            card.socket.close()


def _are_connected(cards: dict[str, Card], compare: Compare) -> bool:
    """Whether a frame of each replica arrives: until QEMU knows of its own connections it throws them away."""
    probe, before = mark(), compare.counters().get("not_ip_thrown_away", 0)
    for replica in ("secondary", "primary"):
        cards[replica].send(probe)
    cards["network"].socket.settimeout(0.1)
    try:
        while cards["network"].receive() != probe:
            pass
    except TimeoutError:
        return False
    cards["network"].socket.settimeout(SECONDS)
    return compare.counters().get("not_ip_thrown_away", 0) > before


@contextlib.contextmanager
def comparator(vnet: bool) -> Iterator[Comparison]:
    """QEMU's own colo-compare, with clients on its sockets."""
    with tempfile.TemporaryDirectory(prefix="cb-qemu-") as directory:
        paths = {name: f"{directory}/{name}" for name in ("primary-in", "secondary-in", "out")}
        arguments = [f"socket,id={name},path={path},server=on,wait=off" for name, path in paths.items()]
        settings = "primary_in=primary-in,secondary_in=secondary-in,outdev=out,iothread=io"
        with running(
            *(word for argument in arguments for word in ("-chardev", argument)),
            *("-object", "iothread,id=io"),
            *("-object", f"colo-compare,id=compare,{settings}{',vnet_hdr_support=on' if vnet else ''}"),
        ) as process:
            comparison = Comparison(paths)
            comparison.process = process
            comparison.vnet = vnet
            comparison.connect_all()
            _wait_for_its_reader(comparison)
            yield comparison
            comparison.disconnect_all()


def _wait_for_its_reader(comparison: Comparison) -> None:
    """What leaves before QEMU has accepted the reader is thrown away."""
    reader = comparison.out.socket
    reader.settimeout(0.05)
    wait_for(lambda: _passes(comparison))
    reader.settimeout(SECONDS)


def _passes(comparison: Comparison) -> bool:
    try:
        comparison.out_after_primary()
    except TimeoutError:
        return False
    return True
