"""The notes about jobs: what is kept, in which order, and what may be noted twice."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from barmill.audit.trail import Search, search
from barmill.platform.clock import now_ms
from barmill.platform.home import Home
from barmill.platform.sqlite_file import StoreMissingError
from control.flink.model import JobState
from control.jobs.decisions import Cancel, Close, Observation, Submit, Wait
from control.jobs.model import (
    Desired,
    Job,
    JobRun,
    Kind,
    Operation,
    OperationParameters,
    Outcome,
    Phase,
    State,
    StopMode,
)
from control.jobs.planner import decide
from control.jobs.repository import JobRepository
from control.jobs.specs import NoSuchJobError
from control.jobs.views import job_detail, job_views

OPERATION = Operation(
    "f" * 32, "bars", Kind.UPGRADE, OperationParameters(from_version=1, to_version=2), "ada", requested_ms=1_000
)
RUN = JobRun("a" * 32, "bars", created_ms=1_000, incarnation="jm-1")


@pytest.fixture
def repository(home: Home) -> Iterator[JobRepository]:
    with JobRepository.open(home) as opened:
        opened.add_version("bars", '{"name": "bars"}', "ada")
        opened.add_job(Job("bars", 1, Desired.STOPPED, created_ms=1))
        yield opened


def test_nothing_is_read_where_nothing_was_written(home: Home) -> None:
    with pytest.raises(StoreMissingError):
        JobRepository.read_only(home)
    assert job_views(home) == ()
    assert job_detail(home, "bars") is None


def test_jobs_and_versions_are_found_by_name(repository: JobRepository) -> None:
    assert repository.add_version("bars", '{"name": "bars", "frames": "5m"}', "eve") == 2
    assert [(version.version, version.spec.frames, version.actor) for version in repository.versions("bars", 1)] == [
        (2, "5m", "eve")
    ]
    assert repository.job("bars").version == 1  # a version takes effect only when the job is changed to it
    with pytest.raises(NoSuchJobError, match="There is no job barz; existing jobs: bars"):
        repository.job("barz")
    with pytest.raises(NoSuchJobError, match="The job bars has no version 3"):
        repository.spec("bars", 3)


@pytest.mark.parametrize(
    "wanted",
    [
        OperationParameters(),
        OperationParameters(mode=StopMode.STATELESS),
        OperationParameters(mode=StopMode.LAST_STATE, restore="file:///s", parallelism=3, savepoint_dir="/d"),
    ],
)
def test_an_operation_reads_as_it_was_written(repository: JobRepository, wanted: OperationParameters) -> None:
    operation = replace(OPERATION, parameters=wanted)
    repository.add_operation(operation)
    assert repository.operation(OPERATION.id) == operation == repository.open_operation("bars")


def test_an_ended_operation_reads_as_it_was_written_with_every_field(repository: JobRepository) -> None:
    operation = replace(
        OPERATION,
        parameters=OperationParameters(StopMode.LAST_STATE, "file:///s", 3, "/d", 1, 2),
        phase=Phase.SETTLING,
        run=RUN.id,
        savepoint="file:///t",
        problem="It kept restarting.",
        ended_ms=5,
        outcome=Outcome.FAILED,
        sentence="Version 1 runs again.",
    )
    repository.add_operation(operation)
    assert repository.operation(OPERATION.id) == operation
    assert repository.open_operation("bars") is None


def test_an_operation_goes_on_until_it_ends_and_then_no_more(repository: JobRepository) -> None:
    repository.add_operation(OPERATION)
    settling = repository.advance(OPERATION, phase=Phase.SETTLING, run=RUN.id, sentence="It runs.")
    assert repository.operation(OPERATION.id) == settling
    repository.finish(settling, Outcome.DONE, "It is stable.", {"version": 1, "desired": Desired.RUNNING.value})
    repository.finish(settling, Outcome.FAILED, "Too late.", {"desired": Desired.STOPPED.value})
    repository.advance(settling, sentence="Much too late.")
    ended = repository.operation(OPERATION.id)
    assert ended is not None
    assert (ended.outcome, ended.sentence) == (Outcome.DONE, "It is stable.")
    assert repository.job("bars").desired is Desired.RUNNING
    assert [(record.stage, record.result) for record in search(repository.db, Search())] == [
        ("executed", "It is stable.")
    ]


def test_a_run_belongs_to_the_operation_on_its_way_forward_only(repository: JobRepository) -> None:
    repository.add_operation(OPERATION)
    repository.start_run(RUN, OPERATION)
    going_back = replace(OPERATION, phase=Phase.ROLLING_BACK, run=RUN.id)
    repository.start_run(replace(RUN, id="b" * 32, created_ms=2_000), going_back)
    operation = repository.operation(OPERATION.id)
    assert operation is not None
    assert operation.run == RUN.id
    assert [run.id[0] for run in repository.runs("bars", 9)] == ["b", "a"]


def test_how_a_run_ended_is_noted_once(repository: JobRepository) -> None:
    repository.start_run(RUN, None)
    repository.end_run(RUN.id, "FAILED", "ValueError: first")
    repository.end_run(RUN.id, "LOST", "second")
    ended = repository.run(RUN.id)
    assert ended is not None
    assert (ended.end, ended.cause) == ("FAILED", "ValueError: first")


def test_a_run_ends_by_the_operation_that_is_open(repository: JobRepository) -> None:
    repository.start_run(RUN, None)
    repository.add_operation(replace(OPERATION, kind=Kind.STOP, requested_ms=2**50))  # the clock ran ahead
    repository.end_run(RUN.id, "STOPPED")
    repository.finish(OPERATION, Outcome.DONE, "Stopped.", {})
    repository.start_run(replace(RUN, id="b" * 32), None)
    repository.end_run("b" * 32, "FAILED")
    assert [run.ended_by for run in repository.runs("bars", 9)] == ["", OPERATION.id]


def test_a_run_of_an_earlier_version_does_not_say_by_what_it_ended(home: Home) -> None:
    with JobRepository.open(home) as opened:
        opened.start_run(RUN, None)
        opened.end_run(RUN.id, "STOPPED")
        opened.db.execute("ALTER TABLE job_runs DROP COLUMN ended_by")
        opened.db.execute("DELETE FROM _sqlite_migrations WHERE name = 'record_what_ended_a_run'")
    with JobRepository.open(home) as opened:
        ended = opened.run(RUN.id)
        assert ended is not None
        assert (ended.end, ended.ended_by) == ("STOPPED", None)


def test_a_savepoint_is_kept_once_and_disposed_of_for_good(repository: JobRepository) -> None:
    repository.add_operation(OPERATION)
    for _ in range(2):
        repository.keep_savepoint(OPERATION, RUN, "file:///s/savepoint-1")
    [kept] = repository.savepoints("bars")
    assert (kept.id, kept.run, kept.version) == (OPERATION.id, RUN.id, 1)
    repository.mark_disposed(kept.id)
    assert repository.savepoint(kept.id) is None


def test_a_deleted_job_leaves_its_history(repository: JobRepository) -> None:
    repository.start_run(RUN, None)
    repository.set_status("bars", "RUNNING", "The job is running.", RUN.id)
    delete = replace(OPERATION, kind=Kind.DELETE)
    repository.add_operation(delete)
    repository.finish(delete, Outcome.DONE, "The job is deleted.", {}, delete_job=True)
    assert (repository.jobs(), repository.statuses(), repository.newest_version("bars")) == ([], [], 0)
    assert len(repository.runs("bars")) == len(repository.operations("bars", 9)) == 1
    assert job_detail(repository.home, "bars") is None


def test_an_old_word_of_the_controller_says_nothing_about_now(repository: JobRepository) -> None:
    repository.set_status("bars", "RUNNING", "The job is running.", RUN.id)
    assert job_views(repository.home)[0].state == "RUNNING"
    repository.db.execute("UPDATE job_status SET observed_ms = ?", (now_ms() - 25_000,))
    repository.db.conn.commit()
    [stale] = job_views(repository.home)
    assert stale.state == "UNKNOWN"
    assert stale.sentence.startswith("The controller last checked 25 s ago and reported: The job is running.")


def test_a_detail_holds_everything_the_newest_first(repository: JobRepository) -> None:
    repository.add_version("bars", '{"name": "bars", "frames": "5m"}', "eve")
    repository.add_operation(OPERATION)
    for number in range(60):
        repository.start_run(replace(RUN, id=f"{number:032}", created_ms=number), None)
    detail = job_detail(repository.home, "bars")
    assert detail is not None
    assert detail.spec.frames == "1s,1m,1h"
    assert [version.version for version in detail.versions] == [2, 1]
    assert (len(detail.runs), detail.runs[0].created_ms) == (50, 59)
    assert detail.view.operation == detail.operations[0] == OPERATION


def test_the_newest_is_what_was_written_last_whatever_the_clock_said(repository: JobRepository) -> None:
    for number, at_ms in enumerate((9_000, 1_000, 5_000)):
        repository.start_run(replace(RUN, id=str(number), created_ms=at_ms), None)
        operation = replace(OPERATION, id=str(number), requested_ms=at_ms)
        repository.add_operation(operation)
        repository.keep_savepoint(operation, repository.runs("bars")[0], f"file:///{number}")
        repository.finish(operation, Outcome.DONE, "Done.", {})
    assert [run.id for run in repository.runs("bars", 9)] == ["2", "1", "0"]
    assert [recent.id for recent in repository.operations("bars", 9)] == ["2", "1", "0"]
    assert [(savepoint.id, savepoint.run_number) for savepoint in repository.savepoints("bars")] == [
        ("2", 3),
        ("1", 2),
        ("0", 1),
    ]


@pytest.mark.parametrize("back_ms", [1, 30_000, 8 * 86_400_000])
def test_a_clock_that_is_set_back_starts_no_job_again_and_again(repository: JobRepository, back_ms: int) -> None:
    at_ms, there, submits = 10 * 86_400_000, dict[str, JobState](), 0
    job = replace(repository.job("bars"), desired=Desired.RUNNING)
    for look in range(60):
        at_ms += 2_000
        if look == 20:
            at_ms -= back_ms
        if look in (15, 25):  # the run in hand ends
            there[repository.runs("bars")[0].id] = JobState.FAILED
        runs = repository.runs("bars", 12)
        state = there.get(runs[0].id) if runs else None
        active = [run_id for run_id, state_now in there.items() if not state_now.is_terminal]
        decision = decide(Observation(at_ms, job, "jm", 1, state, active, runs, ()))
        match decision:
            case Submit():
                submits += 1
                repository.start_run(JobRun(f"{submits:032}", "bars", at_ms, "jm"), None)
                there[f"{submits:032}"] = JobState.RUNNING
            case Cancel(run_id):
                there[run_id] = JobState.CANCELED
            case Close(run_id, end, _):
                # As `end_run` does, by the clock of this test.
                query = "UPDATE job_runs SET ended_ms = ?, end = ? WHERE id = ?"
                repository.db.conn.execute(query, (at_ms, end.value, run_id))
                repository.db.conn.commit()
    assert submits == 3
    assert decision == Wait(State.RUNNING, JobState.RUNNING.sentence)


def test_what_an_earlier_version_said_by_times_is_said_by_numbers(home: Home) -> None:
    with JobRepository.open(home) as opened:
        db = opened.db
        opened.add_version("bars", '{"name": "bars"}', "ada")
        for what in ("fresh", "failures"):
            db.execute(f"ALTER TABLE jobs ADD COLUMN {what}_after_ms INTEGER NOT NULL DEFAULT 0")
            db.execute(f"ALTER TABLE jobs DROP COLUMN {what}_after_run")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'order_by_number'")
        db.execute("INSERT INTO jobs VALUES ('bars', 1, 'running', 1, 2500, 0)")
        for number in (1, 2, 3):
            opened.start_run(replace(RUN, id=str(number), created_ms=number * 1_000), None)
    with JobRepository.open(home) as opened:
        assert opened.job("bars") == Job("bars", 1, Desired.RUNNING, 1, fresh_after_run=2, failures_after_run=0)
