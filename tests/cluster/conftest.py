"""Jobs on a real cluster, steered as people and the controller steer them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from barmill.audit.roles import Actor
from barmill.platform.clock import now_ms, wait_until
from barmill.platform.home import Home
from control.flink.rest import FlinkRest
from control.jobs.decisions import Decision
from control.jobs.model import JobRun, Operation, Outcome
from control.jobs.reconciler import Reconciler
from control.jobs.repository import JobRepository
from control.jobs.service import JobService
from control.jobs.views import JobView, view
from tests.support.cluster import PROGRAMS

TIMEOUT_S = 180


@dataclass
class Steering:
    """A home's jobs: what people ask for through `service`, and the controller's rounds in the test's hand."""

    home: Home
    flink: FlinkRest
    program: Path
    service: JobService = field(init=False)
    reconciler: Reconciler = field(init=False)
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.service = JobService.open(self.home, Actor("ada"))
        self.restart_controller(self.flink)

    def restart_controller(self, flink: FlinkRest) -> None:
        """Begin with a new controller, as after the old one was killed."""
        self.reconciler = Reconciler(self.home, flink, JobRepository.open(self.home), self.program)

    @property
    def repository(self) -> JobRepository:
        return self.service.repository

    def create(self, name: str, **fields: object) -> None:
        self.service.create(json.dumps({"name": name, **fields}))

    def started(self, name: str = "counter") -> str:
        """Create a job, have it run and return its run's id."""
        self.create(name)
        self.done(self.service.start(name))
        return self.run(name).id

    def counted(self) -> None:
        """Wait until the job has written something new."""
        before = len(self.counts())
        assert wait_until(lambda: len(self.counts()) > before, TIMEOUT_S)

    def no_seam(self) -> None:
        """Assert that the job went on where it was: every count comes once."""
        counts = self.counts()
        assert counts == list(range(1, len(counts) + 1))

    def reconcile_jobs(self) -> None:
        self.decisions += self.reconciler.reconcile_jobs().values()

    def until(self, condition: Callable[[], bool]) -> None:
        """Make rounds until the condition holds."""

        def look() -> bool:
            self.reconcile_jobs()
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
        found = self.repository.operation(operation.id)
        assert found is not None
        return found

    def view(self, name: str) -> JobView:
        statuses = {status.job: status for status in self.repository.statuses()}
        return view(self.repository, self.repository.job(name), statuses.get(name), now_ms())

    def active(self, name: str) -> list[str]:
        return [job.id for job in self.flink.jobs() if job.name == name and not job.state.is_terminal]

    def run(self, name: str) -> JobRun:
        return self.repository.runs(name)[0]

    def counts(self) -> list[int]:
        """Return what all runs of the counting program have written: every count once, if no state was lost."""
        target = self.home.bars_db
        return [int(line) for line in target.read_text().split()] if target.exists() else []

    def end(self) -> None:
        for job in self.flink.jobs():
            if not job.state.is_terminal and self.repository.run(job.id) is not None:
                self.flink.cancel(job.id)
        self.repository.close()


@pytest.fixture
def steering(
    home: Home, shared_home: Home, shared_flink: FlinkRest, request: pytest.FixtureRequest
) -> Iterator[Steering]:
    """Jobs of a separate home on the shared cluster; their program counts rows, or is named by a parameter."""
    (home.flink / "checkpoints").symlink_to(shared_home.flink / "checkpoints")
    name = getattr(request, "param", "counter.py")
    steering = Steering(home, shared_flink, PROGRAMS / name)
    yield steering
    steering.end()
