"""What a reader may rely on in every file: direction of imports, purity, size, run bits, links."""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from colo_bridge import config

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "colo_bridge"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(path for path in [*(ROOT / "scripts").iterdir(), *(ROOT / ".ci").iterdir()] if path.is_file())
LONGEST = 400

# Who may import whom: itself and whatever has a lower rank.
RANKS = {
    "errors": 0,
    "config_sections": 0,
    "config_link": 1,
    "config": 2,
    "wire": 2,
    "compare": 3,
    "rewrite": 3,
    "checkpoint": 3,
    "membership": 3,
    "kernel": 4,
    "link": 5,
    "daemon": 6,
    "lab": 7,
    "cli": 8,
}
PURE = ("wire", "compare", "rewrite", "checkpoint", "membership")
IMPURE_MODULES = {
    *("asyncio", "concurrent", "ctypes", "datetime", "fcntl", "io", "logging", "multiprocessing", "os", "pathlib"),
    *("random", "secrets", "select", "selectors", "shutil", "signal", "socket", "subprocess", "sys", "tempfile"),
    *("threading", "time", "uuid", "netfilterqueue", "iptc", "pyroute2", "uvloop", "rich", "qemu"),
}
IMPURE_CALLS = {"open", "print", "input", "eval", "exec"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path: Path) -> list[str]:
    """Full names of all imported modules, wherever in the file."""
    names = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def own_packages_imported(path: Path) -> set[str]:
    own = [name.split(".") for name in imports_of(path) if name.split(".")[0] == "colo_bridge"]
    return {parts[1] for parts in own if len(parts) > 1 and parts[1] in RANKS}


def is_pure(path: Path) -> bool:
    if package_of(path) == "link":
        return "protocol" in path.parts
    return package_of(path) in PURE and "providers" not in path.parts


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    here = package_of(path)
    if here not in RANKS:
        assert here in ("__init__", "__main__")
        return
    wrong = {other for other in own_packages_imported(path) - {here} if RANKS[other] >= RANKS[here]}
    assert wrong == set()


@pytest.mark.parametrize("path", [path for path in MODULES if is_pure(path)], ids=name_of)
def test_pure_modules_touch_nothing(path):
    assert {name.split(".")[0] for name in imports_of(path)} & IMPURE_MODULES == set()
    calls = {
        node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert calls & IMPURE_CALLS == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_short_and_say_what_they_are(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert ast.get_docstring(tree_of(path)) or package_of(path) == "__init__"


def test_there_are_pure_modules_to_look_at():
    assert {package_of(path) for path in MODULES if is_pure(path)} >= {"wire", "checkpoint", "membership", "link"}


@pytest.mark.parametrize("path", [*SCRIPTS, *(ROOT / "tests/systemd").glob("*")], ids=name_of)
def test_what_is_run_has_its_run_bit_and_what_is_sourced_has_none(path):
    if path.is_file():
        is_script = path.read_text(encoding="utf-8").startswith("#!")
        assert os.access(path, os.X_OK) == is_script


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_are_well_formed(path):
    shebang = path.read_text(encoding="utf-8").splitlines()[0]
    if "python" in shebang:
        ast.parse(path.read_text(encoding="utf-8"))
        return
    checked = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    "document", ["README.md", "docs/operations.md", "docs/compare.md", "docs/lab.md", "docs/failures.md"]
)
def test_links_in_documents_lead_somewhere(document):
    path = ROOT / document
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_sample_configuration_is_valid():
    sample = (ROOT / "systemd/example.toml.sample").read_text(encoding="utf-8")
    config.parse(sample)
    config.parse(re.sub(r"^# (\[|\w+ =)", r"\1", sample, flags=re.MULTILINE))


def test_the_first_screen_has_the_two_commands():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20])
    assert "sudo scripts/quickstart" in first_screen
    assert "sudo scripts/test" in first_screen
