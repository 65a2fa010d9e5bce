"""A job book for the tests of what people may ask of jobs."""

import json
from collections.abc import Iterator

import pytest

from bar.clock import now_ms
from control.audit import Record, Search, search
from control.home import Home
from control.jobs.book import JobBook
from control.jobs.ledger import JobRun
from control.jobs.operations import Operation, Outcome
from control.people.roles import Actor

ADA = Actor.of_account("ada")


@pytest.fixture
def book(home: Home) -> Iterator[JobBook]:
    with JobBook.open(home, ADA) as opened:
        opened.ledger.db.table("accounts").insert({"name": "ada", "role": "admin", "disabled": 0, "created_ms": 1})
        yield opened


def spec_text(name: str = "bars", **fields: object) -> str:
    return json.dumps({"name": name, **fields})


def finish(book: JobBook, operation: Operation, **changes: object) -> None:
    book.ledger.finish(operation, Outcome.DONE, "It is done.", changes)


def running(book: JobBook, name: str = "bars") -> JobRun:
    """Make a job, have it started, and note the run that the controller would have made."""
    book.create(spec_text(name))
    operation = book.start(name)
    run = JobRun(f"{name:0<32}", name, now_ms(), "jm")
    book.ledger.start_run(run, operation)
    finish(book, operation)
    return run


def saved(book: JobBook, run: JobRun) -> Operation:
    """Have a savepoint taken, with files where the controller would have put them."""
    operation = book.take_savepoint(run.job)
    folder = book.ledger.home.flink / "savepoints" / operation.id / "savepoint-1"
    folder.mkdir(parents=True)
    (folder / "_metadata").touch()
    book.ledger.keep_savepoint(operation, run, folder.as_uri())
    finish(book, operation)
    return operation


def trail(book: JobBook) -> list[Record]:
    return search(book.ledger.db, Search())
