"""A real FTP service in both guests (vsftpd), a real client (curl), and a client that only measures."""

from __future__ import annotations

import ftplib
import hashlib
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from colo_bridge.errors import GuestError, OperatorError
from colo_bridge.lab import workload
from colo_bridge.lab.layout import CLIENT_ADDRESS, GUEST_ADDRESS, RUN_DIR, Role
from colo_bridge.lab.service.server import discard
from colo_bridge.lab.topology import enter

CONTROL_PORT = 21
PASSIVE_PORT = 30_000
ROOT = RUN_DIR / "ftp"
"""What both servers serve: each sees its own guest's directory there, so that both give it the same name."""
SECONDS = 120
"""A transfer that takes longer has failed."""


class FtpMode(StrEnum):
    """Who opens the data connection: the client (passive) or the guest, from port 20 (active)."""

    PASSIVE = "passive"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Transferred:
    """The end of one transfer."""

    seconds: float
    sha256: str = ""
    problem: str = ""


_SETTINGS = f"""\
listen=YES
listen_port={CONTROL_PORT}
background=NO
anonymous_enable=YES
no_anon_password=YES
run_as_launching_user=YES
anon_root={ROOT}
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
pasv_min_port={PASSIVE_PORT}
pasv_max_port={PASSIVE_PORT}
connect_from_port_20=YES
isolate=NO
isolate_network=NO
seccomp_sandbox=NO
xferlog_enable=NO
ftpd_banner=colo-bridge lab
"""


def serve(directories: dict[Role, Path]) -> None:
    """Start vsftpd in each guest, with the guest's own directory; it ends with the lab."""
    if shutil.which("vsftpd") is None:
        raise OperatorError("the program vsftpd is missing", "install the package vsftpd")
    ROOT.mkdir(exist_ok=True)
    settings = RUN_DIR / "vsftpd.conf"
    settings.write_text(_SETTINGS, encoding="ascii")
    script = 'mount --bind "$1" "$2" && exec vsftpd "$3"'
    commands = {
        role: ["unshare", "--mount", "sh", "-c", script, "sh", str(directory), str(ROOT), str(settings)]
        for role, directory in directories.items()
    }
    workload.serve_in_guests(commands, CONTROL_PORT)


def curl_get(name: str, mode: FtpMode) -> Transferred:
    """Get a file with curl; the SHA-256 is that of the bytes that reached the client."""
    begin = time.monotonic()
    digest = hashlib.sha256()
    with subprocess.Popen(_curl(mode, _url(name)), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout and child.stderr
        while part := child.stdout.read(1 << 20):
            digest.update(part)
        problem = child.stderr.read().decode(errors="replace").strip()
    return Transferred(time.monotonic() - begin, digest.hexdigest(), problem if child.returncode else "")


def curl_put(file: Path, name: str, mode: FtpMode) -> Transferred:
    """Put a file with curl."""
    begin = time.monotonic()
    command = _curl(mode, "--upload-file", str(file), _url(name))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Transferred(time.monotonic() - begin, problem=done.stderr.strip() if done.returncode else "")


def timed_get(name: str, mode: FtpMode) -> float:
    """Seconds for getting a file whose bytes are thrown away unseen; raises GuestError."""
    return _timed("get", mode, name, name)


def timed_put(file: Path, name: str, mode: FtpMode) -> float:
    """Seconds for putting a file that the kernel sends from memory; raises GuestError."""
    return _timed("put", mode, str(file), name)


def _curl(mode: FtpMode, *arguments: str) -> list[str]:
    active = ["--ftp-port", CLIENT_ADDRESS] if mode is FtpMode.ACTIVE else []
    common = ["curl", "--silent", "--show-error", "--max-time", str(SECONDS)]
    return enter(Role.CLIENT, [*common, *active, *arguments])


def _url(name: str) -> str:
    return f"ftp://{GUEST_ADDRESS}/{name}"


def _timed(operation: str, mode: FtpMode, source: str, name: str) -> float:
    module = [sys.executable, "-m", "colo_bridge.lab.ftp", operation, mode, source, name]
    done = subprocess.run(enter(Role.CLIENT, module), capture_output=True, text=True, check=False)
    if done.returncode:
        raise GuestError(f"{operation} of {name} ({mode}) failed: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout)


def _measure(operation: str, mode: FtpMode, source: str, name: str) -> float:
    """Runs in the client's namespace: seconds from the request until the server said that all is there."""
    with ftplib.FTP(GUEST_ADDRESS, timeout=SECONDS) as session:
        session.login()
        session.set_pasv(mode is FtpMode.PASSIVE)
        session.voidcmd("TYPE I")
        transfer = _get if operation == "get" else _put
        return transfer(session, source, name)


def _get(session: ftplib.FTP, _source: str, name: str) -> float:
    length = session.size(name) or 0
    begin = time.monotonic()
    with session.transfercmd(f"RETR {name}") as data:
        discard(data, length)
    session.voidresp()
    return time.monotonic() - begin


def _put(session: ftplib.FTP, source: str, name: str) -> float:
    begin = time.monotonic()
    with Path(source).open("rb") as content, session.transfercmd(f"STOR {name}") as data:
        data.sendfile(content)
    session.voidresp()
    return time.monotonic() - begin


if __name__ == "__main__":
    print(_measure(sys.argv[1], FtpMode(sys.argv[2]), sys.argv[3], sys.argv[4]))
