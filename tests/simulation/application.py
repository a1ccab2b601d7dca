"""An application that follows a script, and the bytes that it sends."""

from __future__ import annotations

from random import Random

from tests.simulation.clock import Clock
from tests.simulation.scenario import Script
from tests.simulation.tcp import Endpoint

_LONGEST = 100_000
STREAMS = {"client": Random(1).randbytes(_LONGEST), "guest": Random(2).randbytes(_LONGEST)}


class Application:
    def __init__(self, clock: Clock, endpoint: Endpoint, script: Script, stream: bytes) -> None:
        self.clock = clock
        self.endpoint = endpoint
        self.script = script
        self.stream = stream
        self.due = self.written = self.step = self.chunk = 0
        self.writing = False
        endpoint.on_read = self.has_read

    def has_read(self, count: int) -> None:
        steps = self.script.steps
        while self.step < len(steps) and steps[self.step][0] <= count:
            self.due += steps[self.step][1]
            self.step += 1
        if not self.writing:
            self._write()

    def _write(self) -> None:
        self.writing = True
        while self.written < self.due:
            size = min(self.due - self.written, self.script.chunks[self.chunk % len(self.script.chunks)])
            self.chunk += 1
            octets = self.stream[self.written : self.written + size]
            self.written += size
            self.endpoint.write(octets)
            if self.script.pause and self.written < self.due:
                self.clock.after(self.script.pause, self._write)
                return
        self.writing = False
        self._close()

    def _close(self) -> None:
        endpoint, script = self.endpoint, self.script
        if self.written < script.sends or endpoint.closing:
            return
        if (
            script.closes == "sent"
            or (len(endpoint.read) == script.expects and script.closes == "read")
            or endpoint.ended
        ):
            endpoint.close()

    def copy_onto(self, endpoint: Endpoint) -> Application:
        """The same application, in the same state, on a copy of its endpoint."""
        other = Application(self.clock, endpoint, self.script, self.stream)
        other.due, other.written, other.step, other.chunk = self.due, self.written, self.step, self.chunk
        other.has_read(len(endpoint.read))
        return other

    @property
    def done(self) -> bool:
        return self.endpoint.sent_all and self.endpoint.ended and len(self.endpoint.read) == self.script.expects
