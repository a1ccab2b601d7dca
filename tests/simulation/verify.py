"""What a simulated connection must show: nothing stalls, and little is waited for.

- A run stalls if anything diverges or is undelivered at the end, at the client or at either replica.
- Where packets are lost, the compare timeout may fire if the stacks' own retransmission timers (RFC 6298) ran for the
  like of it: then the same run, with a patient comparator, must end by itself.
- After a checkpoint that copied nothing, what it acknowledged to the client may be lost to the secondary for good.
- Where nothing is lost, no wait is longer than the delayed ACKs of the stacks and the least RTO explain, or than it is
  natively.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from tests.simulation import run
from tests.simulation.run import CURES, Outcome
from tests.simulation.scenario import Scenario, make

LOSS = 0.01
_PATIENT = replace(CURES, timeout=1e9)
_LONG_TIMERS = CURES.timeout / 2
_LEAST_RTO = 0.2


class Verdict(enum.Enum):
    FINE = "fine"
    EXPLAINED = "explained by the stacks' own timers"
    LOST_INPUT = "lost input to a checkpoint that copies nothing"
    LATE = "late"
    STALLED = "stalled"


def verify(seed: int, loss: float = LOSS, checkpoints: str = "none") -> Verdict:
    scenario = make(seed, loss, checkpoints)
    outcome = run.protected(scenario)
    if outcome.stalled:
        if outcome.lost_input and checkpoints == "command":
            return Verdict.LOST_INPUT
        patient = run.protected(scenario, _PATIENT)
        explained = not patient.stalled and patient.timer_seconds > _LONG_TIMERS
        return Verdict.EXPLAINED if explained else Verdict.STALLED
    if scenario.lossless and not scenario.checkpoints and _is_late(scenario, outcome):
        return Verdict.LATE
    return Verdict.FINE


def _is_late(scenario: Scenario, outcome: Outcome) -> bool:
    delayed = max(stack.delayed_ack for stack in (scenario.client, scenario.primary, scenario.secondary))
    if outcome.longest_wait <= delayed + _LEAST_RTO:
        return False
    return outcome.longest_wait > delayed + _LEAST_RTO + run.native(scenario).longest_wait
