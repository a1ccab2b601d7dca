"""The six acts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict

from colo_bridge.errors import GuestError
from colo_bridge.lab import daemon, failover, files, ftp, lifecycle, workload
from colo_bridge.lab.demo.stage import LARGE, MARKED, SMALL, UPLOAD, Props, lay_out, room
from colo_bridge.lab.demo.story import Plan, Story, Timing, Transfer
from colo_bridge.lab.ftp import FtpMode
from colo_bridge.lab.layout import CHECKPOINT_LOG, Mode
from colo_bridge.lab.options import Options
from colo_bridge.lab.transfer import Content

Announce = Callable[[str], None]
"""Told what begins now."""


class Demo:
    """Plays the acts: protected and native labs take turns, each started fresh."""

    def __init__(self, plan: Plan, announce: Announce) -> None:
        self._plan = plan
        self._announce = announce
        self._story = Story()

    def play(self) -> Story:
        lifecycle.check_none_is_up()
        self._announce("making the files")
        directory = files.directory(room(self._plan))
        try:
            props = lay_out(self._plan, directory)
            for number in range(1, self._plan.rounds + 1):
                self._protected(props, number)
                self._native(props, number)
            self._count()
            self._lose_host(props)
        finally:
            files.remove()
        return self._story

    def _protected(self, props: Props, number: int) -> None:
        self._announce("starting a protected lab")
        with _lab(Mode.PROTECTED, props):
            if number == 1:
                self._whole(props)
                self._turn(Mode.PROTECTED)
            self._time(props, Mode.PROTECTED, number)
            if number == self._plan.rounds:
                self._diverge(props)
            self._story.statuses.append(daemon.status())

    def _native(self, props: Props, number: int) -> None:
        self._announce("starting a native lab")
        with _lab(Mode.NATIVE, props):
            if number == 1:
                self._turn(Mode.NATIVE)
            self._time(props, Mode.NATIVE, number)

    def _transfers(self) -> list[Transfer]:
        plan = self._plan
        sizes = [("get", SMALL, plan.small), ("get", LARGE, plan.large), ("put", UPLOAD, plan.small)]
        return [Transfer(*size, ftp_mode) for ftp_mode in FtpMode for size in sizes]

    def _whole(self, props: Props) -> None:
        """Act 1: real transfers, every byte looked at."""
        for transfer in self._transfers():
            self._announce(f"act 1: {transfer}, protected, with SHA-256")
            check = self._check_get if transfer.operation == "get" else self._check_put
            check(props, transfer)

    def _check_get(self, props: Props, transfer: Transfer) -> None:
        done = ftp.curl_get(transfer.name, transfer.ftp_mode)
        right = done.sha256 == props.digests[transfer.name]
        self._story.expect(1, f"{transfer}: the client has the right bytes", right and not done.problem, done.problem)

    def _check_put(self, props: Props, transfer: Transfer) -> None:
        props.forget_upload()
        done = ftp.curl_put(props.primary(SMALL), UPLOAD, transfer.ftp_mode)
        for guest, file in props.uploads().items():
            right = file.exists() and files.sha256(file) == props.digests[SMALL]
            self._story.expect(
                1, f"{transfer}: the {guest} has the right bytes", right and not done.problem, done.problem
            )

    def _time(self, props: Props, mode: Mode, number: int) -> None:
        """Act 2: the same transfers with a sink that costs nothing."""
        for transfer in self._transfers():
            self._announce(f"act 2: {transfer}, {mode}, round {number}")
            try:
                self._story.timings.append(Timing(transfer, mode, _seconds(props, transfer)))
            except GuestError as error:
                self._story.expect(2, f"{transfer}, {mode}: complete", False, str(error))

    def _turn(self, mode: Mode) -> None:
        """Act 3: request and response, one byte each."""
        self._announce(f"act 3: {self._plan.turns} turns of one byte, {mode}")
        turns = workload.client(["turns", "--count", str(self._plan.turns)])
        self._story.turns[mode] = turns
        text = f"{self._plan.turns} turns of one byte, {mode}: every answer right"
        self._story.expect(3, text, turns["correct"], turns.get("problem", ""))

    def _diverge(self, props: Props) -> None:
        """Act 4: one byte of the secondary's file differs."""
        self._announce("act 4: one byte differs in the secondary")
        before = daemon.content_divergences()
        with ThreadPoolExecutor(1) as pool:
            transfer = pool.submit(ftp.curl_get, MARKED, FtpMode.PASSIVE)
            self._story.reported = daemon.watch_divergence(before, transfer.done)
        done = transfer.result()
        self._story.injected = asdict(props.mark)
        right = done.sha256 == props.digests[MARKED] and not done.problem
        self._story.expect(4, "the client has the primary's bytes", right, done.problem)
        found = daemon.content_divergences() - before
        self._story.expect(4, "one byte differs: one divergence is reported", found == 1, f"{found} reported")
        self._expect_place()
        self._story.expect(4, "the checkpoint command was run", CHECKPOINT_LOG.exists())

    def _expect_place(self) -> None:
        reported = self._story.reported or {}
        right = {key: reported.get(key) for key in self._story.injected} == self._story.injected
        place = f"byte {self._story.injected['stream_offset']} of the file"
        text = f"it is reported at {place}"
        self._story.expect(4, text, right and reported.get("reason") == "content", f"reported: {reported}")

    def _count(self) -> None:
        """Act 5: what the daemons counted."""
        divergences = self._story.divergences()
        self._story.expect(5, "no divergence of content but the one", divergences.get("content") == 1, str(divergences))
        # A timeout ended a stall, which costs time and no bytes: it is shown, and no failure.
        others = {kind: count for kind, count in divergences.items() if kind not in ("content", "timeout")}
        self._story.expect(5, "no divergence of any other kind", not any(others.values()), str(others))

    def _lose_host(self, props: Props) -> None:
        """Act 6: two hosts, of which the primary's dies in mid-download and in mid-upload."""
        self._announce("act 6: the primary's host dies, twice")
        content = Content(props.primary(SMALL), self._plan.small, props.seeds[SMALL], props.digests[SMALL])
        plan = failover.Plan(content.length, int(content.length / self._plan.failover_seconds))
        for outcome in failover.both(content, plan, Options(), self._announce):
            self._story.failovers.append(outcome)
            text = f"{outcome.operation}: it ends on its connection with the right bytes"
            self._story.expect(6, text, outcome.ok, outcome.problem)


@contextmanager
def _lab(mode: Mode, props: Props) -> Iterator[None]:
    """A fresh lab with both services running in it."""
    with lifecycle.running(Options(mode)):
        ftp.serve(props.directories)
        workload.start_service()
        yield


def _seconds(props: Props, transfer: Transfer) -> float:
    if transfer.operation == "get":
        return ftp.timed_get(transfer.name, transfer.ftp_mode)
    props.forget_upload()
    return ftp.timed_put(props.primary(SMALL), UPLOAD, transfer.ftp_mode)
