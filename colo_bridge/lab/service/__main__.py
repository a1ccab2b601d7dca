"""`python -m colo_bridge.lab.service serve|http|get|put|turns`: see the package for the protocol, `http` for HTTP."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from dataclasses import asdict
from typing import Any

from colo_bridge.lab.layout import GUEST_ADDRESS
from colo_bridge.lab.service import client
from colo_bridge.lab.service.client import Outcome, Request
from colo_bridge.lab.service.http import HttpServer
from colo_bridge.lab.service.server import Server

PORT = 7000
"""Used by nothing well known."""
HTTP_PORT = 80
ANY_ADDRESS = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"

_SERVERS: dict[str, type[Server | HttpServer]] = {"serve": Server, "http": HttpServer}


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes, or print one JSON report; 0 when everything was right."""
    options = _parser().parse_args(arguments)
    if options.operation in _SERVERS:
        return _serve(options)
    report = _turns(options) if options.operation == "turns" else _transfers(options)
    print(json.dumps(report))
    return 0 if report["correct"] else 1


def _serve(options: argparse.Namespace) -> int:
    with _SERVERS[options.operation]((options.host, options.port)) as server:
        server.serve_forever()
    return 0


def _transfers(options: argparse.Namespace) -> dict[str, Any]:
    request = Request(
        options.operation, options.host, options.port, options.bytes, options.seed, options.verify, options.timeout
    )
    return report_of(request, client.transfer_many(request, options.connections, options.processes))


def report_of(request: Request, outcomes: list[Outcome]) -> dict[str, Any]:
    """What a report says: of all connections together, and of each."""
    slowest = max(outcome.seconds for outcome in outcomes)
    return {
        "operation": request.operation,
        "bytes": request.length * len(outcomes),
        "seconds": slowest,
        "gbps": request.length * len(outcomes) * 8 / slowest / 1e9,
        "correct": all(outcome.correct for outcome in outcomes),
        "connections": [asdict(outcome) for outcome in outcomes],
    }


def _turns(options: argparse.Namespace) -> dict[str, Any]:
    try:
        return {"operation": "turns", **asdict(client.turns(options.host, options.port, options.count))}
    except OSError as error:
        return {"operation": "turns", "correct": False, "problem": str(error) or type(error).__name__}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m colo_bridge.lab.service", description=__doc__)
    operations = parser.add_subparsers(dest="operation", required=True)
    _address(operations.add_parser("serve", help="serve until a signal comes"), ANY_ADDRESS)
    _address(operations.add_parser("http", help="serve over HTTP until a signal comes"), ANY_ADDRESS, HTTP_PORT)
    for name in ("get", "put"):
        _transfer_options(operations.add_parser(name, help=f"{name} bytes, in one connection or many"))
    turns = operations.add_parser("turns", help="send one byte, wait for it to come back, and again")
    turns.add_argument("--count", type=int, default=10_000)
    _address(turns, GUEST_ADDRESS)
    return parser


def _transfer_options(parser: argparse.ArgumentParser) -> None:
    _address(parser, GUEST_ADDRESS)
    parser.add_argument("--bytes", type=int, default=200_000_000, help="in each connection")
    parser.add_argument("--seed", type=int, default=0, help="of the first connection; each has its own")
    parser.add_argument("--verify", action="store_true", help="look at every byte (slower)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds of silence that are a failure")
    parser.add_argument("--connections", type=int, default=1, help="at once, in each process")
    parser.add_argument("--processes", type=int, default=1)


def _address(parser: argparse.ArgumentParser, host: str, port: int = PORT) -> None:
    parser.add_argument("--host", default=host)
    parser.add_argument("--port", type=int, default=port)


if __name__ == "__main__":
    sys.exit(main())
