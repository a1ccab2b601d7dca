"""`lab bench`: GET, PUT and request/response, native and protected in turn."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from colo_bridge.lab import daemon, lifecycle, workload
from colo_bridge.lab.counters import add_up
from colo_bridge.lab.layout import GUEST_ADDRESS, Mode
from colo_bridge.lab.options import Options

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    length: int
    """Bytes of each transfer."""
    turns: int
    address: str = GUEST_ADDRESS


def run(plan: Plan, options: Options, report: Report) -> dict[str, Any]:
    """Measure; every round starts a lab of its own, so that neither mode finds the other's leavings."""
    runs: list[dict[str, Any]] = []
    statuses: list[dict[str, Any]] = []
    for number in range(1, plan.rounds + 1):
        for mode in Mode:
            with lifecycle.running(replace(options, mode=mode)):
                workload.start_service()
                runs.append({"round": number, "mode": mode.value, **measure(plan)})
                if mode is Mode.PROTECTED:
                    statuses.append(daemon.status())
            report(_line(runs[-1]))
    counted = {"counters": add_up(status["counters"] for status in statuses)}
    diverged = {"divergences": add_up(status["divergences"] for status in statuses)}
    return {"runs": runs, "median": _medians(runs), **counted, **diverged}


def measure(plan: Plan) -> dict[str, Any]:
    """One round in the lab that is up, with the service running in both guests."""
    host = ("--host", plan.address)
    get = workload.client(["get", "--bytes", str(plan.length), *host])
    put = workload.client(["put", "--bytes", str(plan.length), *host])
    turns = workload.client(["turns", "--count", str(plan.turns), *host])
    return {
        "get_gbps": get["gbps"],
        "put_gbps": put["gbps"],
        "rr_p50_us": turns.get("p50_us"),
        "rr_p99_us": turns.get("p99_us"),
        "correct": get["correct"] and put["correct"] and turns["correct"],
    }


def reporter(quiet: bool) -> Report:
    """Says each round on standard error as it ends."""
    return (lambda _line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))


def table(result: dict[str, Any]) -> str:
    """The medians for a person."""
    grid = Table("", "native", "protected", "ratio")
    for name, unit in (("get", "gbps"), ("put", "gbps"), ("rr", "p50_us")):
        row = result["median"][name]
        cells = [_number(row[f"{mode.value}_{unit}"]) for mode in Mode]
        grid.add_row(f"{name} {unit}", *cells, _number(row["ratio"]))
    console = Console(width=72)
    with console.capture() as captured:
        console.print(grid)
    return captured.get().rstrip()


def _medians(runs: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    return {
        "get": _compare(runs, "get_gbps", "gbps"),
        "put": _compare(runs, "put_gbps", "gbps"),
        "rr": _compare(runs, "rr_p50_us", "p50_us"),
    }


def _compare(runs: list[dict[str, Any]], value: str, unit: str) -> dict[str, float | None]:
    native, protected = (_median(runs, mode, value) for mode in Mode)
    ratio = protected / native if native and protected else None
    return {f"native_{unit}": native, f"protected_{unit}": protected, "ratio": ratio}


def _median(runs: list[dict[str, Any]], mode: Mode, value: str) -> float | None:
    """Only rounds whose bytes were right count."""
    found = [run[value] for run in runs if run["mode"] == mode and run["correct"]]
    return statistics.median(found) if found else None


def _line(run: dict[str, Any]) -> str:
    figures = f"GET {_number(run['get_gbps'])} Gbit/s, PUT {_number(run['put_gbps'])} Gbit/s"
    turns = f"request/response p50 {_number(run['rr_p50_us'])} µs"
    return f"round {run['round']} {run['mode']}: {figures}, {turns}{'' if run['correct'] else ', WRONG'}"


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"
