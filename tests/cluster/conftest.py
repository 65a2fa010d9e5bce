"""Jobs on a real cluster, steered as people and the controller steer them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bar.clock import now_ms
from control.flink.rest import FlinkRest
from control.home import Home
from control.jobs.book import JobBook
from control.jobs.ledger import JobLedger, JobRun
from control.jobs.operations import Operation, Outcome
from control.jobs.reconcile import Decision
from control.jobs.reconciler import Reconciler
from control.jobs.views import JobView, view
from control.people.roles import Actor
from control.waiting import wait_until
from tests.cluster.test_cluster import PROGRAMS

TIMEOUT_S = 90


@dataclass
class Steering:
    """A home's jobs: what people ask for through `book`, and the controller's rounds in the test's hand."""

    home: Home
    flink: FlinkRest
    program: Path
    book: JobBook = field(init=False)
    reconciler: Reconciler = field(init=False)
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = JobBook.open(self.home, Actor("ada"))
        self.restart_controller(self.flink)

    def restart_controller(self, flink: FlinkRest) -> None:
        """Begin with a new controller, as after the old one was killed."""
        self.reconciler = Reconciler(self.home, flink, JobLedger.open(self.home), self.program)

    @property
    def ledger(self) -> JobLedger:
        return self.book.ledger

    def create(self, name: str, **fields: object) -> None:
        self.book.create(json.dumps({"name": name, **fields}))

    def started(self, name: str = "counter") -> str:
        """Create a job, have it run and return its run's id."""
        self.create(name)
        self.done(self.book.start(name))
        return self.run(name).id

    def counted(self) -> None:
        """Wait until the job has written something new."""
        before = len(self.counts())
        assert wait_until(lambda: len(self.counts()) > before, TIMEOUT_S)

    def no_seam(self) -> None:
        """Assert that the job went on where it was: every count comes once."""
        counts = self.counts()
        assert counts == list(range(1, len(counts) + 1))

    def round(self) -> None:
        self.decisions += self.reconciler.round().values()

    def until(self, condition: Callable[[], bool]) -> None:
        """Make rounds until the condition holds."""

        def look() -> bool:
            self.round()
            return condition()

        assert wait_until(look, TIMEOUT_S, every_s=0.2), self.decisions[-3:]

    def done(self, operation: Operation | None, outcome: Outcome = Outcome.DONE) -> Operation:
        """Make rounds until an operation has ended, and return it as it ended."""
        assert operation is not None
        self.until(lambda: not self.now(operation).open)
        ended = self.now(operation)
        assert ended.outcome is outcome, ended.sentence
        return ended

    def now(self, operation: Operation) -> Operation:
        found = self.ledger.operation(operation.id)
        assert found is not None
        return found

    def view(self, name: str) -> JobView:
        statuses = {status.job: status for status in self.ledger.statuses()}
        return view(self.ledger, self.ledger.job(name), statuses.get(name), now_ms())

    def active(self, name: str) -> list[str]:
        return [job.id for job in self.flink.jobs() if job.name == name and not job.state.terminal]

    def run(self, name: str) -> JobRun:
        return self.ledger.runs(name)[0]

    def counts(self) -> list[int]:
        """Return what all runs of the counting program have written: every count once, if no state was lost."""
        target = self.home.bars_db
        return [int(line) for line in target.read_text().split()] if target.exists() else []

    def end(self) -> None:
        for job in self.flink.jobs():
            if not job.state.terminal and self.ledger.run(job.id) is not None:
                self.flink.cancel(job.id)
        self.ledger.close()


@pytest.fixture
def steering(
    home: Home, shared_home: Home, shared_flink: FlinkRest, request: pytest.FixtureRequest
) -> Iterator[Steering]:
    """Jobs of a home of its own on the shared cluster; their program counts rows, or is named by a parameter."""
    (home.flink / "checkpoints").symlink_to(shared_home.flink / "checkpoints")
    name = getattr(request, "param", "counter.py")
    one = Steering(home, shared_flink, PROGRAMS / name)
    yield one
    one.end()
