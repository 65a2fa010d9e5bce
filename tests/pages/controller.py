"""A controller that plays its part without Flink: what is asked of jobs is done on paper, one step a round."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bar.clock import now_ms
from control.home import Home
from control.jobs.ledger import JobLedger, JobRun
from control.jobs.operations import Kind, Operation, Outcome, StopMode
from control.jobs.states import Desired, State

ROUND_S = 0.5
CAUSE = 'Traceback (most recent call last):\n  File "bars.py", line 7, in main\nValueError: no such column'


class PlayedController:
    """Carries out operations in two rounds: the first says so, the second does it."""

    def __init__(self, home: Home) -> None:
        self.home, self.ledger = home, JobLedger.open(home)

    def round(self) -> None:
        given_up = {one.job for one in self.ledger.statuses() if one.state == State.FAILED}
        for job in self.ledger.jobs():
            operation = self.ledger.open_operation(job.name)
            if operation is None:
                if job.name not in given_up:
                    self._say(job.name)
            elif operation.sentence == Operation.sentence:
                self.ledger.advance(operation, sentence="The job is being worked on.")
                self._say(job.name, "The job is being worked on.")
            else:
                self._carry_out(operation)

    def done(self) -> None:
        """Make rounds until nothing is open."""
        while any(self.ledger.open_operation(job.name) for job in self.ledger.jobs()):
            self.round()
        self.round()

    def fail(self, name: str) -> JobRun:
        """Have a job's run fail, and nobody start another."""
        run = self.ledger.runs(name)[0]
        self.ledger.end_run(run.id, State.FAILED.value, CAUSE)
        self.ledger.set_status(name, State.FAILED.value, "It failed 5 times in a row and is not tried again.", run.id)
        return run

    def close(self) -> None:
        self.ledger.close()

    def _carry_out(self, operation: Operation) -> None:
        kind, changes = operation.kind, dict[str, object]()
        stops = kind in (Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.DELETE)
        newest = next((run for run in self.ledger.runs(operation.job) if run.end is None), None)
        if operation.takes_savepoint and newest is not None:
            folder = self.home.flink / "savepoints" / operation.id / "savepoint-1"
            folder.mkdir(parents=True)
            (folder / "_metadata").touch()
            self.ledger.keep_savepoint(operation, newest, folder.as_uri())
        if stops and newest is not None:
            with_savepoint = operation.wanted.mode is StopMode.SAVEPOINT
            self.ledger.end_run(newest.id, (State.STOPPED if with_savepoint else State.CANCELED).value)
        if kind is Kind.STOP:
            changes["desired"] = Desired.STOPPED.value
        if kind is Kind.UPGRADE:
            changes["version"] = operation.wanted.to_version
        if changes:
            self.ledger.change_job(operation.job, **changes)
        if kind in (Kind.START, Kind.RESTART, Kind.UPGRADE):
            job = self.ledger.job(operation.job)
            saved = self.ledger.savepoints(job.name)
            restore = operation.wanted.restore or (saved[0].path if saved else None)
            self.ledger.start_run(JobRun(uuid.uuid4().hex, job.name, now_ms(), "jm", restore, job.version), operation)
        self.ledger.finish(operation, Outcome.DONE, "It is done.", changes, forget=kind is Kind.DELETE)
        if kind is not Kind.DELETE:
            self._say(operation.job)

    def _say(self, name: str, sentence: str = "") -> None:
        run = next((run for run in self.ledger.runs(name) if run.end is None), None)
        state = State.STOPPED if run is None else State.RUNNING
        self.ledger.set_status(name, state.value, sentence or state.sentence, run.id if run else None)


@contextmanager
def playing(home: Home) -> Iterator[threading.Event]:
    """Have a thread make rounds until the block ends, but for while the event that is lent is set."""
    stop, pause = threading.Event(), threading.Event()

    def play() -> None:
        controller = PlayedController(home)
        while not stop.wait(ROUND_S):
            if not pause.is_set():
                controller.round()
        controller.close()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield pause
    finally:
        stop.set()
        thread.join()
