"""The notes about jobs: what is kept, in which order, and what may be noted twice."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bar.clock import now_ms
from bar.sqlite_file import StoreMissingError
from control.audit import Search, search
from control.flink.model import JobState
from control.home import Home
from control.jobs.ledger import Job, JobLedger, JobRun
from control.jobs.operations import Kind, Operation, Outcome, Phase, StopMode, Wanted
from control.jobs.reconcile import Cancel, Close, Observation, Submit, Wait, steady
from control.jobs.specs import NoSuchJobError
from control.jobs.states import Desired, State
from control.jobs.views import job_detail, job_views

OPERATION = Operation("f" * 32, "bars", Kind.UPGRADE, Wanted(from_version=1, to_version=2), "ada", asked_ms=1_000)
RUN = JobRun("a" * 32, "bars", created_ms=1_000, incarnation="jm-1")


@pytest.fixture
def ledger(home: Home) -> Iterator[JobLedger]:
    with JobLedger.open(home) as opened:
        opened.add_version("bars", '{"name": "bars"}', "ada")
        opened.add_job(Job("bars", 1, Desired.STOPPED, created_ms=1))
        yield opened


def test_nothing_is_read_where_nothing_was_written(home: Home) -> None:
    with pytest.raises(StoreMissingError):
        JobLedger.read_only(home)
    assert job_views(home) == ()
    assert job_detail(home, "bars") is None


def test_jobs_and_versions_are_found_by_name(ledger: JobLedger) -> None:
    assert ledger.add_version("bars", '{"name": "bars", "frames": "5m"}', "eve") == 2
    assert [(one.version, one.spec.frames, one.actor) for one in ledger.versions("bars", 1)] == [(2, "5m", "eve")]
    assert ledger.job("bars").version == 1  # a version counts when the job is told so
    with pytest.raises(NoSuchJobError, match="There is no job barz; there is bars"):
        ledger.job("barz")
    with pytest.raises(NoSuchJobError, match="The job bars has no version 3"):
        ledger.spec("bars", 3)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(mode=StopMode.STATELESS),
        Wanted(mode=StopMode.LAST_STATE, restore="file:///s", parallelism=3, savepoint_dir="/d"),
    ],
)
def test_an_operation_reads_as_it_was_written(ledger: JobLedger, wanted: Wanted) -> None:
    operation = replace(OPERATION, wanted=wanted)
    ledger.add_operation(operation)
    assert ledger.operation(OPERATION.id) == operation == ledger.open_operation("bars")


def test_an_operation_goes_on_until_it_ends_and_then_no_more(ledger: JobLedger) -> None:
    ledger.add_operation(OPERATION)
    settling = ledger.advance(OPERATION, phase=Phase.SETTLING, run=RUN.id, sentence="It runs.")
    assert ledger.operation(OPERATION.id) == settling
    ledger.finish(settling, Outcome.DONE, "It is stable.", {"version": 1, "desired": Desired.RUNNING.value})
    ledger.finish(settling, Outcome.FAILED, "Too late.", {"desired": Desired.STOPPED.value})
    ledger.advance(settling, sentence="Much too late.")
    ended = ledger.operation(OPERATION.id)
    assert ended is not None
    assert (ended.outcome, ended.sentence) == (Outcome.DONE, "It is stable.")
    assert ledger.job("bars").desired is Desired.RUNNING
    assert [(one.stage, one.result) for one in search(ledger.db, Search())] == [("executed", "It is stable.")]


def test_a_run_belongs_to_the_operation_on_its_way_forward_only(ledger: JobLedger) -> None:
    ledger.add_operation(OPERATION)
    ledger.start_run(RUN, OPERATION)
    going_back = replace(OPERATION, phase=Phase.GOING_BACK, run=RUN.id)
    ledger.start_run(replace(RUN, id="b" * 32, created_ms=2_000), going_back)
    operation = ledger.operation(OPERATION.id)
    assert operation is not None
    assert operation.run == RUN.id
    assert [one.id[0] for one in ledger.runs("bars", 9)] == ["b", "a"]


def test_how_a_run_ended_is_noted_once(ledger: JobLedger) -> None:
    ledger.start_run(RUN, None)
    ledger.end_run(RUN.id, "FAILED", "ValueError: first")
    ledger.end_run(RUN.id, "LOST", "second")
    ended = ledger.run(RUN.id)
    assert ended is not None
    assert (ended.end, ended.cause) == ("FAILED", "ValueError: first")


def test_a_savepoint_is_kept_once_and_disposed_of_for_good(ledger: JobLedger) -> None:
    ledger.add_operation(OPERATION)
    for _ in range(2):
        ledger.keep_savepoint(OPERATION, RUN, "file:///s/savepoint-1")
    [kept] = ledger.savepoints("bars")
    assert (kept.id, kept.run, kept.version) == (OPERATION.id, RUN.id, 1)
    ledger.mark_disposed(kept.id)
    assert ledger.savepoint(kept.id) is None


def test_a_deleted_job_leaves_its_history(ledger: JobLedger) -> None:
    ledger.start_run(RUN, None)
    ledger.set_status("bars", "RUNNING", "The job is running.", RUN.id)
    delete = replace(OPERATION, kind=Kind.DELETE)
    ledger.add_operation(delete)
    ledger.finish(delete, Outcome.DONE, "The job is deleted.", {}, forget=True)
    assert (ledger.jobs(), ledger.statuses(), ledger.newest_version("bars")) == ([], [], 0)
    assert len(ledger.runs("bars")) == len(ledger.operations("bars", 9)) == 1
    assert job_detail(ledger.home, "bars") is None


def test_an_old_word_of_the_controller_says_nothing_about_now(ledger: JobLedger) -> None:
    ledger.set_status("bars", "RUNNING", "The job is running.", RUN.id)
    assert job_views(ledger.home)[0].state == "RUNNING"
    ledger.db.execute("UPDATE job_status SET observed_ms = ?", (now_ms() - 25_000,))
    ledger.db.conn.commit()
    [stale] = job_views(ledger.home)
    assert stale.state == "UNKNOWN"
    assert stale.sentence.startswith("The controller last looked 25 s ago; it said: The job is running.")


def test_a_detail_holds_everything_the_newest_first(ledger: JobLedger) -> None:
    ledger.add_version("bars", '{"name": "bars", "frames": "5m"}', "eve")
    ledger.add_operation(OPERATION)
    for number in range(60):
        ledger.start_run(replace(RUN, id=f"{number:032}", created_ms=number), None)
    detail = job_detail(ledger.home, "bars")
    assert detail is not None
    assert detail.spec.frames == "1s,1m,1h"
    assert [one.version for one in detail.versions] == [2, 1]
    assert (len(detail.runs), detail.runs[0].created_ms) == (50, 59)
    assert detail.view.operation == detail.operations[0] == OPERATION


def test_the_newest_is_what_was_written_last_whatever_the_clock_said(ledger: JobLedger) -> None:
    for number, at_ms in enumerate((9_000, 1_000, 5_000)):
        ledger.start_run(replace(RUN, id=str(number), created_ms=at_ms), None)
        operation = replace(OPERATION, id=str(number), asked_ms=at_ms)
        ledger.add_operation(operation)
        ledger.keep_savepoint(operation, ledger.runs("bars")[0], f"file:///{number}")
        ledger.finish(operation, Outcome.DONE, "Done.", {})
    assert [run.id for run in ledger.runs("bars", 9)] == ["2", "1", "0"]
    assert [one.id for one in ledger.operations("bars", 9)] == ["2", "1", "0"]
    assert [(one.id, one.run_number) for one in ledger.savepoints("bars")] == [("2", 3), ("1", 2), ("0", 1)]


@pytest.mark.parametrize("back_ms", [1, 30_000, 8 * 86_400_000])
def test_a_clock_that_is_set_back_starts_no_job_again_and_again(ledger: JobLedger, back_ms: int) -> None:
    at_ms, there, submits = 10 * 86_400_000, dict[str, JobState](), 0
    job = replace(ledger.job("bars"), desired=Desired.RUNNING)
    for look in range(60):
        at_ms += 2_000
        if look == 20:
            at_ms -= back_ms
        if look in (15, 25):  # the run in hand ends
            there[ledger.runs("bars")[0].id] = JobState.FAILED
        runs = ledger.runs("bars", 12)
        state = there.get(runs[0].id) if runs else None
        active = [run_id for run_id, one in there.items() if not one.terminal]
        decision = steady(Observation(at_ms, job, "jm", 1, state, active, runs, ()))
        match decision:
            case Submit():
                submits += 1
                ledger.start_run(JobRun(f"{submits:032}", "bars", at_ms, "jm"), None)
                there[f"{submits:032}"] = JobState.RUNNING
            case Cancel(run_id):
                there[run_id] = JobState.CANCELED
            case Close(run_id, end, _):
                # As `end_run` does, by the clock of this test.
                query = "UPDATE job_runs SET ended_ms = ?, end = ? WHERE id = ?"
                ledger.db.conn.execute(query, (at_ms, end.value, run_id))
                ledger.db.conn.commit()
    assert submits == 3
    assert decision == Wait(State.RUNNING, JobState.RUNNING.sentence)


def test_what_an_earlier_version_said_by_times_is_said_by_numbers(home: Home) -> None:
    with JobLedger.open(home) as opened:
        db = opened.db
        opened.add_version("bars", '{"name": "bars"}', "ada")
        for what in ("fresh", "failures"):
            db.execute(f"ALTER TABLE jobs ADD COLUMN {what}_after_ms INTEGER NOT NULL DEFAULT 0")
            db.execute(f"ALTER TABLE jobs DROP COLUMN {what}_after_run")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'order_by_number'")
        db.execute("INSERT INTO jobs VALUES ('bars', 1, 'running', 1, 2500, 0)")
        for number in (1, 2, 3):
            opened.start_run(replace(RUN, id=str(number), created_ms=number * 1_000), None)
    with JobLedger.open(home) as opened:
        assert opened.job("bars") == Job("bars", 1, Desired.RUNNING, 1, fresh_after_run=2, failures_after_run=0)
