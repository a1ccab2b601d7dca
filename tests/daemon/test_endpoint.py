"""Where `compare` may listen, and where not."""

from __future__ import annotations

import socket
import stat

import pytest

from colo_bridge.daemon import endpoint
from colo_bridge.daemon.endpoint import Listener, TcpEndpoint, UnixEndpoint
from colo_bridge.errors import OperatorError


@pytest.fixture
def listen():
    made = []

    def listen(text, insecure=False):
        made.append(Listener(endpoint.parse(text), insecure))
        return made[-1]

    yield listen
    for listener in made:
        listener.close()


@pytest.mark.parametrize(
    "text", ["unix:/run/x", "unix:x:y", "tcp:127.0.0.1:9004", "tcp:localhost:0", "tcp:[::1]:65535"]
)
def test_an_address_reads_as_it_is_written(text):
    assert str(endpoint.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "unix", "unix:", "/tmp/x", "tcp:1", "tcp::1", "tcp:h:65536", "tcp:h:-1", "udp:h:1", "tcp:::1:5", "tcp:h:1x"],
)
def test_anything_else_is_refused(text):
    with pytest.raises(OperatorError, match="is no address"):
        endpoint.parse(text)


def test_a_unix_socket_is_its_owners_alone_and_goes_at_the_end(tmp_path):
    path = tmp_path / "a"
    listener = Listener(UnixEndpoint(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listener.close()
    assert not path.exists()


def test_a_dead_processs_socket_is_replaced(tmp_path, listen):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a"))
    listen(f"unix:{tmp_path}/a")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "a"))


def test_a_living_ones_is_not(tmp_path, listen):
    listen(f"unix:{tmp_path}/a")
    with pytest.raises(OperatorError, match="already running"):
        listen(f"unix:{tmp_path}/a")


def test_a_successors_socket_stays(tmp_path, listen):
    first = listen(f"unix:{tmp_path}/a")
    (tmp_path / "a").unlink()
    listen(f"unix:{tmp_path}/a")
    first.close()
    assert (tmp_path / "a").exists()


def test_what_is_no_socket_stays(tmp_path, listen):
    (tmp_path / "a").write_text("precious")
    with pytest.raises(OperatorError, match="is no socket"):
        listen(f"unix:{tmp_path}/a")
    assert (tmp_path / "a").read_text() == "precious"


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/tmp/" + "long" * 30])
def test_a_path_that_cannot_be_is_one_sentence(path, listen):
    with pytest.raises(OperatorError, match=f"cannot listen at unix:{path}: "):
        listen(f"unix:{path}")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost"])
def test_tcp_on_this_host_with_a_port_of_the_kernels_choice(host, listen):
    chosen = listen(f"tcp:{host}:0").endpoint
    assert isinstance(chosen, TcpEndpoint)
    with socket.socket() as client:
        client.connect((host, chosen.port))


def test_a_port_that_is_taken_is_one_sentence(listen):
    taken = listen("tcp:127.0.0.1:0").endpoint
    with pytest.raises(OperatorError, match=f"cannot listen at {taken}: "):
        listen(str(taken))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_tcp_for_other_hosts_has_to_be_insisted_on_and_is_said(host, listen, caplog):
    with pytest.raises(OperatorError, match="can be reached from other hosts"):
        listen(f"tcp:{host}:0")
    assert caplog.text == ""
    listen(f"tcp:{host}:0", insecure=True)
    assert "can be reached from other hosts" in caplog.text
