"""Which jobs there are to watch: the one place where monitoring asks the jobs' room."""

import sqlite3
from dataclasses import dataclass

from bar.sqlite_file import StoreMissingError
from control.flink.model import JobState
from control.home import Home
from control.jobs.ledger import JobLedger
from control.jobs.states import Desired
from control.jobs.views import JobView, job_views


@dataclass(frozen=True)
class WatchedJob:
    """A job as the controller last saw it, in one word and one sentence.

    should_run: whether it is meant to run now. run: its present Flink id. run_started_ms: when that was submitted.
    """

    name: str
    should_run: bool
    state: str
    sentence: str
    run: str | None = None
    run_started_ms: int | None = None

    @property
    def running(self) -> bool:
        """Tell whether it runs."""
        return self.state == JobState.RUNNING.value


def watched_jobs(home: Home) -> list[WatchedJob]:
    """Return every job of the home."""
    try:
        with JobLedger.read_only(home) as ledger:
            return [
                WatchedJob(
                    one.name, one.desired == Desired.RUNNING, one.state, one.sentence, one.run, _start_ms(ledger, one)
                )
                for one in job_views(home)
            ]
    except (StoreMissingError, sqlite3.OperationalError):  # nothing has made it, or not all of it, yet
        return []


def _start_ms(ledger: JobLedger, job: JobView) -> int | None:
    run = ledger.run(job.run) if job.run else None
    return run.created_ms if run else None
