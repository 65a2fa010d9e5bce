"""A controller that plays its part without Flink: what is asked of jobs is done on paper, one step a round."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from control.jobs.model import Desired, JobRun, Kind, Operation, Outcome, State, StopMode
from control.jobs.repository import JobRepository

ROUND_S = 0.5
CAUSE = 'Traceback (most recent call last):\n  File "bars.py", line 7, in main\nValueError: no such column'


class PlayedController:
    """Carries out operations in two rounds: the first says so, the second does it."""

    def __init__(self, home: Home) -> None:
        self.home, self.repository = home, JobRepository.open(home)

    def reconcile_jobs(self) -> None:
        given_up = {status.job for status in self.repository.statuses() if status.state == State.FAILED}
        for job in self.repository.jobs():
            operation = self.repository.open_operation(job.name)
            if operation is None:
                if job.name not in given_up:
                    self._say(job.name)
            elif operation.sentence == Operation.sentence:
                self.repository.advance(operation, sentence="The job is being worked on.")
                self._say(job.name, "The job is being worked on.")
            else:
                self._carry_out(operation)

    def done(self) -> None:
        """Make rounds until nothing is open."""
        while any(self.repository.open_operation(job.name) for job in self.repository.jobs()):
            self.reconcile_jobs()
        self.reconcile_jobs()

    def fail(self, name: str) -> JobRun:
        """Let a job's run fail, and start no other."""
        run = self.repository.runs(name)[0]
        self.repository.end_run(run.id, State.FAILED.value, CAUSE)
        self.repository.set_status(
            name, State.FAILED.value, "The job failed 5 times in a row and is not restarted.", run.id
        )
        return run

    def close(self) -> None:
        self.repository.close()

    def _carry_out(self, operation: Operation) -> None:
        kind, changes = operation.kind, dict[str, object]()
        stops = kind in (Kind.STOP, Kind.RESTART, Kind.UPGRADE, Kind.DELETE)
        newest = next((run for run in self.repository.runs(operation.job) if run.end is None), None)
        if operation.takes_savepoint and newest is not None:
            folder = self.home.flink / "savepoints" / operation.id / "savepoint-1"
            folder.mkdir(parents=True)
            (folder / "_metadata").touch()
            self.repository.keep_savepoint(operation, newest, folder.as_uri())
        if stops and newest is not None:
            with_savepoint = operation.parameters.mode is StopMode.SAVEPOINT
            self.repository.end_run(newest.id, (State.STOPPED if with_savepoint else State.CANCELED).value)
        if kind is Kind.STOP:
            changes["desired"] = Desired.STOPPED.value
        if kind is Kind.UPGRADE:
            changes["version"] = operation.parameters.to_version
        if changes:
            self.repository.change_job(operation.job, **changes)
        if kind in (Kind.START, Kind.RESTART, Kind.UPGRADE):
            job = self.repository.job(operation.job)
            saved = self.repository.savepoints(job.name)
            restore = operation.parameters.restore or (saved[0].path if saved else None)
            self.repository.start_run(
                JobRun(uuid.uuid4().hex, job.name, now_ms(), "jm", restore, job.version), operation
            )
        self.repository.finish(operation, Outcome.DONE, "It is done.", changes, delete_job=kind is Kind.DELETE)
        if kind is not Kind.DELETE:
            self._say(operation.job)

    def _say(self, name: str, sentence: str = "") -> None:
        run = next((run for run in self.repository.runs(name) if run.end is None), None)
        state = State.STOPPED if run is None else State.RUNNING
        self.repository.set_status(name, state.value, sentence or state.sentence, run.id if run else None)


@contextmanager
def playing(home: Home) -> Iterator[threading.Event]:
    """Have a thread make rounds until the block ends, but for while the event that is lent is set."""
    stop, pause = threading.Event(), threading.Event()

    def play() -> None:
        controller = PlayedController(home)
        while not stop.wait(ROUND_S):
            if not pause.is_set():
                controller.reconcile_jobs()
        controller.close()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield pause
    finally:
        stop.set()
        thread.join()
