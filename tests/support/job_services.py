"""A job service for the tests of what people may ask of jobs."""

import json
from collections.abc import Iterator

import pytest

from barmill.audit.roles import Actor
from barmill.audit.trail import Record, Search, search
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from control.jobs.model import JobRun, Operation, Outcome
from control.jobs.service import JobService

ADA = Actor.of_account("ada")


@pytest.fixture
def service(home: Home) -> Iterator[JobService]:
    with JobService.open(home, ADA) as opened:
        opened.repository.db.table("accounts").insert({"name": "ada", "role": "admin", "disabled": 0, "created_ms": 1})
        yield opened


def spec_text(name: str = "bars", **fields: object) -> str:
    return json.dumps({"name": name, **fields})


def finish(service: JobService, operation: Operation, **changes: object) -> None:
    service.repository.finish(operation, Outcome.DONE, "It is done.", changes)


def running(service: JobService, name: str = "bars") -> JobRun:
    """Make a job, have it started, and note the run that the controller would have made."""
    service.create(spec_text(name))
    operation = service.start(name)
    run = JobRun(f"{name:0<32}", name, now_ms(), "jm")
    service.repository.start_run(run, operation)
    finish(service, operation)
    return run


def saved(service: JobService, run: JobRun) -> Operation:
    """Have a savepoint taken, with files where the controller would have put them."""
    operation = service.take_savepoint(run.job)
    folder = service.repository.home.flink / "savepoints" / operation.id / "savepoint-1"
    folder.mkdir(parents=True)
    (folder / "_metadata").touch()
    service.repository.keep_savepoint(operation, run, folder.as_uri())
    finish(service, operation)
    return operation


def trail(service: JobService) -> list[Record]:
    return search(service.repository.db, Search())
