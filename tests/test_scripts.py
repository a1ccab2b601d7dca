"""`scripts/install` and `scripts/uninstall`, in a mount and network namespace of their own, without a network."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A copy of /etc and an empty /run hide the host's; the new environment sees the dependencies that the
# checkout's has, so that pip needs no network (its setting reads "isolation: no", whatever the name says).
SCENARIO = """
set -euo pipefail
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
cp -a /etc/. /mnt
mount --move /mnt /etc
mount -t tmpfs -o mode=755 tmpfs /run
export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0

"$PYTHON" -m venv "$PREFIX/venv"
packages() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
packages "$PYTHON" >"$(packages "$PREFIX/venv/bin/python")/borrowed.pth"

scripts/install --prefix "$PREFIX"
scripts/install --prefix "$PREFIX"
[ "$("$PREFIX/venv/bin/colo-bridge" --version)" = "$("$PYTHON" -m colo_bridge --version)" ]
"$PREFIX/venv/bin/python" -P -c 'import colo_bridge; print(colo_bridge.__file__)' | grep -q "^$PREFIX/venv/"
grep -q "^ExecStart=$PREFIX/venv/bin/colo-bridge run " /etc/systemd/system/colo-bridge@.service
"$PREFIX/venv/bin/colo-bridge" check /etc/colo-bridge/example.toml.sample >/dev/null
cp /etc/colo-bridge/example.toml.sample /etc/colo-bridge/mine.toml

mkdir /run/colo-bridge
touch /run/colo-bridge/guest.json
if scripts/uninstall --prefix "$PREFIX" 2>"$PREFIX/refusal"; then exit 1; fi
grep -q 'still diverted' "$PREFIX/refusal"
rm /run/colo-bridge/guest.json "$PREFIX/refusal"

scripts/uninstall --prefix="$PREFIX"
[ ! -e "$PREFIX" ]
[ ! -e /etc/systemd/system/colo-bridge@.service ]
[ "$(ls /etc/colo-bridge)" = mine.toml ]
"""


def test_install_and_uninstall(tmp_path):
    finished = subprocess.run(
        ["unshare", "--mount", "--net", "bash", "-c", SCENARIO],
        cwd=ROOT,
        env={**os.environ, "PREFIX": str(tmp_path / "prefix"), "PYTHON": str(ROOT / ".venv/bin/python")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("script", ["install", "uninstall"])
@pytest.mark.parametrize(
    "arguments", [["--prefix", "/"], ["--prefix", "opt"], ["--prefix"], ["--prefix=/a b"], ["--perfix", "/x"]]
)
def test_a_wrong_prefix_is_refused(script, arguments):
    finished = subprocess.run([ROOT / "scripts" / script, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr.startswith("colo-bridge: error: ")


def test_the_benchmark_of_the_comparator():
    command = ["scripts/bench-comparator", "--packets", "10", "--rounds", "1", "--idle", "2", "4", "--held", "0", "3"]
    table, figures = (
        subprocess.run(
            [sys.executable, *command, *as_json], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        for as_json in ([], ["--json"])
    )
    assert "memory of an idle connection" in table
    assert [(line["size"], line["idle"], line["held"]) for line in json.loads(figures)["lines"]] == [
        *((size, 2, held) for size in (1, 1_448, 65_483) for held in (0, 3)),
        *((size, 4, 0) for size in (1, 1_448, 65_483)),
    ]


@pytest.mark.parametrize("script", ["install", "uninstall", "quickstart", "test"])
def test_every_script_explains_itself(script):
    finished = subprocess.run([ROOT / "scripts" / script, "--help"], capture_output=True, text=True, check=False)
    assert finished.returncode == 0
    assert finished.stdout.startswith(script)


@pytest.mark.parametrize("script", ["install", "uninstall", "quickstart", "test"])
def test_without_root_it_is_one_sentence(script):
    """From a copy: the checkout may lie where only root may read."""
    wrapper = ["setpriv", "--reuid=65534", "--clear-groups", "--", "bash"]
    with tempfile.TemporaryDirectory(prefix="cb-scripts-") as copy:
        Path(copy).chmod(0o755)
        shutil.copytree(ROOT / "scripts", Path(copy) / "scripts")
        command = [*wrapper, Path(copy) / "scripts" / script]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert "needs root" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
