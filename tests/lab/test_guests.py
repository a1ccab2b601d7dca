"""Virtual machines of the lab, as far as that can be told without one."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colo_bridge import config
from colo_bridge.errors import OperatorError, PeerError
from colo_bridge.lab import configuration
from colo_bridge.lab.guests import accelerator, machine, operator, parts
from colo_bridge.lab.guests.machine import Accelerator, Machine
from colo_bridge.lab.guests.parts import Parts
from colo_bridge.lab.layout import Guests, Role
from colo_bridge.lab.options import Options
from colo_bridge.lab.shape import Shape
from tests.checkpoint.fake_qemu import FakeQemu
from tests.lab.helpers import colo

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE = Path("/parts")


def test_the_two_machines_differ_in_their_ports_and_sockets_only() -> None:
    def words(role: Role, port: str) -> set[str]:
        return set(Machine(Parts(PLACE), Accelerator.TCG, role, port).command())

    differing = words(Role.PRIMARY, "cb-p0") ^ words(Role.SECONDARY, "cb-s0")
    assert all("cb-p0" in word or "cb-s0" in word or "/run/cb-lab/" in word for word in differing)


@pytest.mark.parametrize(("accelerator", "preloaded"), [(Accelerator.TCG, True), (Accelerator.KVM, False)])
def test_only_without_kvm_something_is_preloaded(accelerator: Accelerator, preloaded: bool) -> None:
    command = machine.boot(Parts(PLACE), accelerator, Path("/console"))
    assert any(word.startswith("LD_PRELOAD=") for word in command) is preloaded


def test_a_machine_that_can_have_no_guests_is_told_why(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(parts.ENVIRONMENT, str(tmp_path / "parts"))
    (tmp_path / "uname").write_text("#!/bin/sh\necho riscv64\n")
    (tmp_path / "uname").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(OperatorError, match="the guests are for x86-64, and this is riscv64"):
        parts.get()


def test_parts_that_are_there_are_not_made_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(parts.ENVIRONMENT, str(tmp_path))
    found = Parts(tmp_path)
    for part in (found.qemu, found.kernel, found.initrd, found.without_kvm):
        part.parent.mkdir(exist_ok=True)
        part.touch()
    monkeypatch.setenv("PATH", "")
    assert parts.get() == found


def test_whether_kvm_boots_a_guest_is_tried_once(tmp_path, monkeypatch) -> None:
    answers = [True]
    monkeypatch.setattr(accelerator, "_KVM", tmp_path)
    monkeypatch.setattr(accelerator, "_boots_on_kvm", lambda _: answers.pop())
    assert [accelerator.choose(Parts(tmp_path)) for _ in range(2)] == [Accelerator.KVM] * 2


def test_without_kvm_nothing_is_tried(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(accelerator, "_KVM", tmp_path / "missing")
    assert accelerator.choose(Parts(tmp_path)) is Accelerator.TCG


def test_the_scripts_are_in_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith('"colo_bridge.lab.guests"'))
    directory = ROOT / "colo_bridge/lab/guests"
    others = {path.name for path in directory.iterdir() if path.is_file() and path.suffix != ".py"}
    assert {name for name in others if f'"{name}"' in line} == others
    for script in ("prepare", "get-qemu", "make-guest"):
        subprocess.run(["bash", "-n", directory / script], check=True)


@pytest.mark.parametrize("shape", Shape)
def test_the_daemons_find_their_virtual_machines(shape: Shape) -> None:
    options = Options(shape=shape, guests=Guests.QEMU)
    found = [config.parse(configuration.make(options, host)).checkpoint for host in shape.hosts]
    assert {each.provider for each in found} == {"qmp"}
    sockets = {path for each in found for path in (each.qmp, each.qmp_primary, each.qmp_secondary) if path}
    assert sockets == {"/run/cb-lab/primary/qmp", "/run/cb-lab/secondary/qmp"}


def test_virtual_machines_are_not_left_without_daemons() -> None:
    done = colo("lab", "up", "--native", "--guests", "qemu")
    assert done.returncode == 2
    assert "leave out --native" in done.stderr


@contextmanager
def fake_qemu(path: Path) -> Iterator[FakeQemu]:
    """One that answers in a thread of its own."""
    loop, qemu = asyncio.new_event_loop(), FakeQemu(path)
    loop.run_until_complete(qemu.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield qemu
    finally:
        asyncio.run_coroutine_threadsafe(qemu.die(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_what_qemu_refuses_is_told(tmp_path) -> None:
    with fake_qemu(tmp_path / "qmp") as qemu:
        qemu.refuses.add("migrate")
        with pytest.raises(PeerError, match="QEMU refused migrate: not now"):
            operator.execute(qemu.path, "migrate", {"uri": "unix:/x"})
        assert operator.execute(qemu.path, "query-status")["status"] == "running"


def test_no_qemu_is_an_error(tmp_path) -> None:
    with pytest.raises(PeerError, match="no QEMU answered query-status"):
        operator.execute(tmp_path / "qmp", "query-status")
