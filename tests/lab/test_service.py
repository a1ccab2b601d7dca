"""The deterministic server and its client, over the machine's own loopback."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from colo_bridge.lab.service import __main__ as command
from colo_bridge.lab.service import client
from colo_bridge.lab.service.client import Request
from colo_bridge.lab.service.content import PERIOD, block, first_difference, piece
from colo_bridge.lab.service.http import HttpServer
from colo_bridge.lab.service.server import Server

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Server((HOST, 0)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def request(port: int, operation: str, length: int = 3_000_000, **options) -> Request:
    return Request(operation, HOST, port, length, timeout=10, **options)


@pytest.mark.parametrize("operation", ["get", "put"])
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("length", [0, 1, 256 << 10, 3_000_001])
def test_a_transfer_is_complete_and_right(port: int, operation: str, verify: bool, length: int) -> None:
    outcome = client.transfer(request(port, operation, length, verify=verify))
    assert outcome.correct, outcome.problem


@pytest.mark.parametrize(("connections", "processes"), [(50, 1), (1, 10), (5, 4)])
def test_many_at_once_each_with_bytes_of_its_own(port: int, connections: int, processes: int) -> None:
    outcomes = client.transfer_many(request(port, "get", 200_000, verify=True), connections, processes)
    assert len(outcomes) == connections * processes
    assert all(outcome.correct and outcome.seconds > 0 for outcome in outcomes)


def test_two_servers_say_the_same(port: int) -> None:
    with Server((HOST, 0)) as other:
        threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
        answers = [_raw(number, b"GET 70000 9\n", 70_000) for number in (port, other.server_address[1])]
        other.shutdown()
    assert answers[0] == answers[1] == bytes(piece(block(9), 0, 70_000))


def test_an_unknown_request_is_answered_and_disturbs_nothing(port: int) -> None:
    assert _raw(port, b"HELO you\nGET x\nGET 1 0\n", 13) == b"what?\nwhat?\n" + bytes(block(0)[:1])


def test_a_wrong_byte_is_found_and_named() -> None:
    server = socket.create_server((HOST, 0))
    wrong = bytearray(piece(block(0), 0, 1000))
    wrong[700] ^= 1
    threading.Thread(target=_answer_once, args=(server, bytes(wrong)), daemon=True).start()
    outcome = client.transfer(request(server.getsockname()[1], "get", 1000, verify=True))
    assert not outcome.correct
    assert "byte 700 is" in outcome.problem


def test_an_early_end_is_a_problem_not_a_traceback() -> None:
    server = socket.create_server((HOST, 0))
    threading.Thread(target=_answer_once, args=(server, b"short"), daemon=True).start()
    outcome = client.transfer(request(server.getsockname()[1], "get", 1000))
    assert not outcome.correct
    assert "too early" in outcome.problem


def test_content_repeats_after_its_period_only() -> None:
    content = block(3)
    assert piece(content, PERIOD, 5000) == piece(content, 0, 5000)
    assert piece(content, 1 << 20, 5000) != piece(content, 0, 5000)
    assert piece(content, PERIOD - 10, 1000) == bytes(content[PERIOD - 10 : PERIOD]) + bytes(content[:990])
    assert block(3) != block(4)


def test_first_difference() -> None:
    assert first_difference(memoryview(b"abc"), memoryview(b"abc")) is None
    assert first_difference(memoryview(b"abc"), memoryview(b"aXc")) == 1


def test_turns_come_back(port: int) -> None:
    turns = client.turns(HOST, port, 300)
    assert turns.correct
    assert 0 < turns.p50_us <= turns.p99_us <= turns.worst_us


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert client.percentile(values, 50) == 50
    assert client.percentile(values, 99) == 99
    assert client.percentile([7.0], 99) == 7


def test_the_command_reports_json(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["get", "--host", HOST, "--port", str(port), "--bytes", "1000", "--connections", "3", "--verify"]
    assert command.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["bytes"], report["correct"], len(report["connections"])) == (3000, True, 3)


def test_the_command_fails_when_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server((HOST, 0)) as unused:
        port = str(unused.getsockname()[1])
    assert command.main(["turns", "--host", HOST, "--port", port]) == 1
    assert command.main(["get", "--host", HOST, "--port", port]) == 1
    assert not any(json.loads(line)["correct"] for line in capsys.readouterr().out.splitlines())


@pytest.fixture(scope="module")
def http_port() -> Iterator[int]:
    with HttpServer((HOST, 0)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class TestHttp:
    def test_a_download_has_the_seeds_bytes_and_nothing_that_two_replicas_differ_in(self, http_port: int) -> None:
        with HttpServer((HOST, 0)) as other:
            threading.Thread(target=other.serve_forever, args=(0.05,), daemon=True).start()
            question = b"GET /70000/9 HTTP/1.1\r\nConnection: close\r\n\r\n"
            answers = [_raw(number, question, 1 << 20) for number in (http_port, other.server_address[1])]
            other.shutdown()
        assert answers[0] == answers[1]
        assert answers[0].partition(b"\r\n\r\n")[2] == bytes(piece(block(9), 0, 70_000))

    def test_an_upload_is_answered_with_its_sha256(self, http_port: int) -> None:
        content = bytes(block(1)) * 2
        connection = HTTPConnection(HOST, http_port, timeout=10)
        for _ in range(2):  # The connection goes on.
            connection.request("PUT", "/x", content)
            answer = connection.getresponse()
            assert (answer.status, answer.read().decode()) == (201, hashlib.sha256(content).hexdigest() + "\n")
        connection.close()

    def test_a_paced_download_takes_its_time(self, http_port: int) -> None:
        begin = time.monotonic()
        connection = HTTPConnection(HOST, http_port, timeout=10)
        connection.request("GET", "/2000000/3/5000000")
        assert connection.getresponse().read() == bytes(block(3))[:PERIOD] + bytes(block(3))[: 2_000_000 - PERIOD]
        connection.close()
        assert time.monotonic() - begin > 0.2

    @pytest.mark.parametrize("path", ["/", "/x/1", "/1", "/1/2/3/4"])
    def test_what_is_not_there(self, http_port: int, path: str) -> None:
        connection = HTTPConnection(HOST, http_port, timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status == 404
        connection.close()


def _raw(port: int, question: bytes, length: int) -> bytes:
    with socket.create_connection((HOST, port), 10) as connection:
        connection.sendall(question)
        with connection.makefile("rb") as answers:
            return answers.read(length)


def _answer_once(server: socket.socket, answer: bytes) -> None:
    with server, server.accept()[0] as connection:
        connection.recv(100)
        connection.sendall(answer)
