"""What people may ask of jobs, what is written down for the controller, and what is refused in which words."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from control.audit import Search, search
from control.errors import NotAllowedError
from control.home import Home
from control.jobs.book import BEGINNING, LAST_CHECKPOINT, JobBook
from control.jobs.ledger import Job, JobLedger
from control.jobs.operations import Kind, Operation, Outcome, StopMode, Wanted
from control.jobs.specs import DEFAULT_JOB, JobError, NoSuchJobError
from control.jobs.states import Desired
from control.people.roles import FIRST_START, GRANTS, Permission, Role
from tests.control.job_books import ADA, finish, running, saved, spec_text, trail
from tests.control.job_books import book as book

ASKS: dict[str, tuple[Permission, Callable[[JobBook], object]]] = {
    "create": (Permission.MANAGE_JOBS, lambda book: book.create(spec_text("new"))),
    "clone": (Permission.MANAGE_JOBS, lambda book: book.clone("bars", "newer")),
    "edit": (Permission.MANAGE_JOBS, lambda book: book.edit("bars", spec_text(frames="5m"))),
    "start": (Permission.OPERATE_JOBS, lambda book: book.start("bars")),
    "start from beginning": (Permission.MANAGE_JOBS, lambda book: book.start("bars", BEGINNING)),
    "stop": (Permission.OPERATE_JOBS, lambda book: book.stop("bars")),
    "cancel": (Permission.MANAGE_JOBS, lambda book: book.stop("bars", StopMode.LAST_STATE)),
    "stop stateless": (Permission.MANAGE_JOBS, lambda book: book.stop("bars", StopMode.STATELESS)),
    "restart": (Permission.OPERATE_JOBS, lambda book: book.restart("bars")),
    "restart from beginning": (Permission.MANAGE_JOBS, lambda book: book.restart("bars", BEGINNING)),
    "rescale": (Permission.OPERATE_JOBS, lambda book: book.rescale("bars", 2)),
    "savepoint": (Permission.OPERATE_JOBS, lambda book: book.take_savepoint("bars")),
    "delete": (Permission.MANAGE_JOBS, lambda book: book.delete("bars")),
    "dispose": (Permission.MANAGE_JOBS, lambda book: book.dispose_of(book.ledger.savepoints("bars")[0].id)),
}


def test_a_start_says_so_at_once_and_is_carried_out_later(book: JobBook) -> None:
    book.create(spec_text())
    operation = book.start("bars")
    assert book.ledger.job("bars").desired is Desired.RUNNING
    assert book.ledger.open_operation("bars") == operation
    assert (operation.kind, operation.wanted, operation.actor, operation.open) == (Kind.START, Wanted(), "ada", True)
    assert (trail(book)[0].stage, trail(book)[0].trace_id) == ("issued", operation.id)


def test_a_start_gives_a_job_that_was_given_up_on_another_chance(book: JobBook) -> None:
    running(book)
    failed = book.ledger.newest_run_number("bars")
    assert book.start("bars").kind is Kind.START
    assert book.ledger.job("bars").failures_after_run == failed > 0


def test_a_job_goes_on_from_what_is_chosen(book: JobBook) -> None:
    run = running(book)
    savepoint = saved(book, run)
    with pytest.raises(JobError, match="bars has no checkpoint to go on from; start it without naming one"):
        book.restart("bars", LAST_CHECKPOINT)
    checkpoint = book.ledger.home.flink / "checkpoints" / run.id / "chk-7"
    checkpoint.mkdir(parents=True)
    (checkpoint / "_metadata").touch()
    for restore, mode, uri in (
        (savepoint.id, StopMode.LAST_STATE, book.ledger.savepoints("bars")[0].path),
        (LAST_CHECKPOINT, StopMode.LAST_STATE, checkpoint.as_uri()),
        (BEGINNING, StopMode.STATELESS, None),
        (None, StopMode.SAVEPOINT, None),
    ):
        operation = book.restart("bars", restore)
        assert operation.wanted == Wanted(mode=mode, restore=uri)
        finish(book, operation)
    started = book.start("bars", savepoint.id)
    assert started.wanted.restore == book.ledger.savepoints("bars")[0].path


def test_a_start_from_the_beginning_forgets_what_there_was(book: JobBook) -> None:
    running(book)
    book.start("bars", BEGINNING)
    assert book.ledger.job("bars").fresh_after_run == book.ledger.newest_run_number("bars") > 0


def test_a_savepoint_that_is_not_the_jobs_own_is_refused(book: JobBook) -> None:
    savepoint = saved(book, running(book))
    book.create(spec_text("other"))
    for name, restore in (("other", savepoint.id), ("bars", "no-such")):
        with pytest.raises(JobError, match=f"{name} has no savepoint {restore}; ./barmill job show {name} lists them"):
            book.start(name, restore)


@pytest.mark.parametrize("mode", StopMode)
def test_a_stop_is_only_done_when_the_controller_says_so(book: JobBook, mode: StopMode, tmp_path: Path) -> None:
    running(book)
    operation = book.stop("bars", mode, str(tmp_path))
    assert operation.wanted == Wanted(mode=mode, savepoint_dir=str(tmp_path))
    assert book.ledger.job("bars").desired is Desired.RUNNING
    asked = trail(book)[0]
    assert json.loads(str(asked.after)) == {"desired": "stopped", "mode": mode.value}


def test_rescaling_makes_a_version_that_starts_on_as_many_slots(book: JobBook) -> None:
    book.create(spec_text(shards=4))
    operation = book.rescale("bars", 3)
    assert (operation.kind, operation.wanted.parallelism) == (Kind.RESCALE, 3)
    assert book.ledger.job("bars").version == 2
    assert book.ledger.spec("bars", 2).parallelism == 3
    finish(book, operation)
    again = book.rescale("bars", 3)
    assert again.id != operation.id
    assert book.ledger.job("bars").version == 2
    with pytest.raises(JobError, match="The spec's parallelism is wrong: Input should be greater than or equal to 1"):
        book.rescale("bars", 0)


def test_asking_twice_joins_the_first(book: JobBook) -> None:
    running(book)
    first, second = book.stop("bars"), book.stop("bars")
    assert first == second
    newest, issued, *_ = trail(book)
    assert (issued.stage, newest.stage) == ("issued", "executed")
    assert newest.result == f"Joined the stop that is under way, {first.id}."


def test_asking_at_once_from_many_sides_makes_one_operation(book: JobBook) -> None:
    running(book)
    gate, ids = threading.Barrier(8), list[str]()

    def ask() -> None:
        with JobBook.open(book.ledger.home, ADA) as own:
            gate.wait(10)
            ids.append(own.restart("bars").id)

    sides = [threading.Thread(target=ask) for _ in range(8)]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_something_else_has_to_wait_for_what_is_under_way(book: JobBook) -> None:
    running(book)
    under_way = book.restart("bars")
    sentence = "A restart of bars is under way; wait for it, or cancel the job."
    for what in ("stop", "savepoint", "restart from beginning", "edit"):
        with pytest.raises(JobError) as refused:
            ASKS[what][1](book)
        assert str(refused.value) == sentence
    assert book.ledger.open_operation("bars") == under_way
    assert book.ledger.newest_version("bars") == 1  # the edit left nothing behind


@pytest.mark.parametrize(
    "ask",
    [
        lambda book: book.stop("bars", StopMode.LAST_STATE),
        lambda book: book.stop("bars", StopMode.STATELESS),
        lambda book: book.delete("bars"),
    ],
)
def test_what_cannot_wait_takes_the_place_of_what_is_under_way(
    book: JobBook, ask: Callable[[JobBook], Operation]
) -> None:
    running(book)
    under_way = book.restart("bars")
    operation = ask(book)
    assert book.ledger.open_operation("bars") == operation
    superseded = book.ledger.operation(under_way.id)
    assert superseded is not None
    assert (superseded.outcome, superseded.sentence) == (
        Outcome.SUPERSEDED,
        f"A {operation.kind.value} took its place.",
    )
    assert [one.stage for one in search(book.ledger.db, Search(trace_id=under_way.id))] == ["executed", "issued"]


def test_rescaling_that_waits_for_slots_gives_way_to_anything(book: JobBook) -> None:
    running(book)
    pending = book.rescale("bars", 9)
    operation = book.take_savepoint("bars")
    assert book.ledger.open_operation("bars") == operation
    superseded = book.ledger.operation(pending.id)
    assert superseded is not None
    assert superseded.outcome is Outcome.SUPERSEDED


def test_a_savepoint_is_disposed_of_with_its_files(book: JobBook) -> None:
    savepoint = saved(book, running(book))
    [kept] = book.ledger.savepoints("bars")
    assert book.dispose_of(savepoint.id).path == kept.path
    assert book.ledger.savepoints("bars") == []
    assert not (book.ledger.home.flink / "savepoints" / savepoint.id / "savepoint-1").exists()
    assert json.loads(str(trail(book)[0].before)) == {"savepoint": savepoint.id, "path": kept.path}
    with pytest.raises(JobError, match=f"There is no savepoint {savepoint.id}; ./barmill job show NAME lists them"):
        book.dispose_of(savepoint.id)


def test_a_savepoint_that_a_job_goes_on_from_just_now_is_kept(book: JobBook) -> None:
    savepoint = saved(book, running(book))
    book.restart("bars", savepoint.id)
    with pytest.raises(JobError, match="The savepoint is in use: restart of bars is under way"):
        book.dispose_of(savepoint.id)
    assert len(book.ledger.savepoints("bars")) == 1


def test_a_savepoint_that_cannot_be_deleted_stays_registered(book: JobBook, monkeypatch: pytest.MonkeyPatch) -> None:
    savepoint = saved(book, running(book))

    def refuse(_uri: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("control.flink.retained.dispose_of", refuse)
    with pytest.raises(JobError, match=r"cannot be deleted: Permission denied\."):
        book.dispose_of(savepoint.id)
    assert len(book.ledger.savepoints("bars")) == 1


@pytest.mark.parametrize("role", Role)
def test_the_role_an_account_has_now_decides(book: JobBook, role: Role) -> None:
    saved(book, running(book))
    job, savepoints = book.ledger.job("bars"), book.ledger.savepoints("bars")
    with book.ledger.db.atomic():
        book.ledger.db.conn.execute("UPDATE accounts SET role = ?", (role.value,))
    for needs, ask in ASKS.values():
        if needs in GRANTS[role]:
            continue
        with pytest.raises(NotAllowedError, match=f"As {role.value}, ada may not {needs.value}; ask an admin"):
            ask(book)
        assert (trail(book)[0].stage, trail(book)[0].actor) == ("refused", "ada")
    assert book.ledger.jobs() == [job]
    assert book.ledger.savepoints("bars") == savepoints
    assert book.ledger.open_operation("bars") is None
    assert book.ledger.newest_version("bars") == 1
    for needs, ask in ASKS.values():
        if needs in GRANTS[role]:
            ask(book)
            assert trail(book)[0].stage in ("issued", "executed")
            if (operation := book.ledger.open_operation("bars")) is not None:
                finish(book, operation)


def test_a_job_that_does_not_exist_is_named(book: JobBook) -> None:
    for what in ASKS.keys() - {"create", "dispose"}:
        with pytest.raises(NoSuchJobError, match="There is no job bars; there is none yet"):
            ASKS[what][1](book)


def test_the_first_start_makes_the_default_job_once_and_never_again(home: Home) -> None:
    with JobBook.open(home, FIRST_START) as book:
        book.ensure_default_job()
        book.ensure_default_job()
        assert [(job.name, job.desired) for job in book.ledger.jobs()] == [(DEFAULT_JOB, Desired.RUNNING)]
        assert [(one.actor, one.action) for one in trail(book)] == [("first start", "job.create")]
        operation = book.delete(DEFAULT_JOB)
        book.ledger.finish(operation, Outcome.DONE, "The job is deleted; its bars stay.", {}, forget=True)
        book.ensure_default_job()
        assert book.ledger.jobs() == []


def test_a_home_whose_people_made_their_own_jobs_gets_no_default_one(book: JobBook) -> None:
    book.create(spec_text("mine"))
    book.ensure_default_job()
    assert [job.name for job in book.ledger.jobs()] == ["mine"]


def test_what_was_written_outlives_the_one_who_wrote_it(book: JobBook) -> None:
    operation = book.start(book.create(spec_text()).name)
    with JobLedger.read_only(book.ledger.home) as ledger:
        assert ledger.open_operation("bars") == operation
        assert ledger.job("bars") == Job(**vars(book.ledger.job("bars")))
