"""`lab demo`: a real FTP server runs twice and is seen once, in six acts, with what came of each."""

from __future__ import annotations

import json
import time

from rich.console import Console

from colo_bridge.lab.demo import display
from colo_bridge.lab.demo.acts import Demo
from colo_bridge.lab.demo.story import Plan

__all__ = ["Plan", "run"]


def run(as_json: bool, plan: Plan | None = None) -> int:
    """Play the demo; 1 when an expectation failed. Raises OperatorError and KernelError like `lab up`."""
    console = Console(quiet=as_json)
    begin = time.monotonic()
    with display.progress(console) as stage:
        story = Demo(plan or Plan(), stage).play()
    seconds = time.monotonic() - begin
    if as_json:
        print(json.dumps(story.document() | {"seconds": seconds}))
    else:
        display.closing(console, story, seconds)
    return 0 if story.ok else 1
